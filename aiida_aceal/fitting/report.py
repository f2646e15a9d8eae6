"""Report of a fit: a dictionary of JSON types and the same as text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aiida_aceal.ace.radial import cutoff_warnings
from aiida_aceal.common.words import counted

from .job import FitResult, Prepared, peak_memory
from .metrics import UNITS
from .thresholds import NOTES

_SHOWN = {"energy": ("E", 1e3, "meV/atom"), "forces": ("F", 1e3, "meV/A"), "virial": ("V", 1e3, "meV/atom")}


def common_report(result: FitResult, job: Prepared, seconds: Mapping[str, float]) -> dict:
    """What reports of all kinds of fits share."""
    pot = result.potential
    report = {
        "method": job.settings.method,
        "elements": list(pot.elements),
        "n_functions": dict(pot.n_functions),
        "n_densities": dict(pot.n_densities),
        "cutoff": pot.cutoff,
        "settings": job.settings.to_dict(),
        "kappa": job.weights.kappa,
        "n_dropped": job.weights.dropped,
        "reference_energies": pot.reference_energies,
        "units": UNITS,
        "train": result.metrics["train"],
        "worst": result.train.worst(job.settings.worst),
        "seconds": {k: float(v) for k, v in seconds.items()},
        "peak_memory_bytes": peak_memory(),
        "warnings": [*cutoff_warnings(pot.bonds), *job.notes, *result.warnings],
        "compared": result.compared,
        "outliers": list(job.outliers),
        "far_off": result.train.far_off(job.settings.worst),
    }
    if result.validation is not None:
        report["validation"] = result.metrics["validation"]
        report["worst_validation"] = result.validation.worst(job.settings.worst)
    return report


def linear_report(result: FitResult, job: Prepared, seconds: Mapping[str, float]) -> dict:
    """Report of a linear fit."""
    report = common_report(result, job, seconds)
    s = result.solution
    report["regularization"] = {
        "method": s.method,
        "alpha": s.alpha,
        "effective_parameters": s.effective,
        "noise": s.noise,
        "log_evidence": s.log_evidence,
        "n_active": int(np.count_nonzero(s.coefficients)),
    }
    return report


def metrics_table(parts: Mapping[str, Mapping]) -> str:
    """One line for each set and kind of label: RMSE, MAE, max."""
    lines = [f"{'':12s} {'':2s} {'RMSE':>10s} {'MAE':>10s} {'max':>10s}"]
    for name, part in parts.items():
        for kind, (symbol, factor, unit) in _SHOWN.items():
            if part.get(kind):
                m = part[kind]
                numbers = " ".join(f"{m[k] * factor:10.3f}" for k in ("rmse", "mae", "max"))
                lines.append(f"{name:12s} {symbol:2s} {numbers}  {unit}")
    return "\n".join(lines)


def format_report(report: Mapping) -> str:
    """The report as text for people."""
    pot = ", ".join(f"{el} {report['n_functions'][el]}" for el in report["elements"])
    train = report["train"]
    lines = [
        f"{report['method']} ACE fit: {pot} functions, cutoff {report['cutoff']:g} A",
        f"training set: {counted(train['n_structures'], 'structure')}, {counted(train['n_atoms'], 'atom')}"
        + (f" ({report['n_dropped']} left out by the weighting limits)" if report["n_dropped"] else ""),
    ]
    if report["reference_energies"]:
        lines.append(
            "reference energies: " + ", ".join(f"{el} {e:.6f} eV" for el, e in report["reference_energies"].items())
        )
    reg = report.get("regularization")
    if reg:
        lines.append(
            f"regularisation: {reg['method']}, alpha {reg['alpha']:.3g}, "
            f"{reg['effective_parameters']:.1f} effective parameters, {reg['n_active']} coefficients not zero"
        )
    if report.get("rounds"):
        last = report["rounds"][-1]
        lines.append(
            f"{report['n_parameters']} parameters, start: {report['start']}, {last['evaluations']} evaluations, "
            f"loss {last['loss']:.4e} ({last['penalty'] / max(last['loss'], 1e-300):.1%} penalty), "
            f"ended by: {report['stopped']}"
        )
        held = report.get("early_stopping", {}).get("n_structures", 0)
        lines.append(
            f"early stopping by {held} structures of the training side, which were not fitted"
            if held
            else "no structures were held out for early stopping"
        )
    ensemble = report.get("ensemble")
    if ensemble:
        limits = ", ".join(f"{k} {v:.4g} {UNITS[k]}" for k, v in ensemble["thresholds"].items())
        lines.append(f"ensemble: {ensemble['members']} members ({ensemble['method']}), thresholds {limits or 'none'}")
        lines += [f"ensemble: {note}" for note in ensemble.get(NOTES, [])]
        lines += [f"warning: {line}" for line in ensemble.get("warnings", [])]
    lines += [f"warning: {line}" for line in report.get("warnings", [])]
    sets = {k: report[k] for k in ("train", "validation") if k in report}
    lines += ["", metrics_table(sets), ""]
    for key, title in (("worst", "worst training structures"), ("worst_validation", "worst validation structures")):
        if report.get(key):
            lines.append(f"{title}:")
            lines += [
                f"  {w['name']:40s} {w['formula']:12s} dE {w['energy_error'] * 1e3:9.2f} meV/atom, "
                f"max dF {w['max_force_error'] * 1e3:9.1f} meV/A"
                for w in report[key]
            ]
    seconds = ", ".join(f"{k} {v:.1f} s" for k, v in report["seconds"].items())
    lines += ["", f"time: {seconds}; peak memory {report['peak_memory_bytes'] / 2**20:.0f} MiB"]
    return "\n".join(lines) + "\n"
