"""``aceal-worker fit``: a potential from a basis and labelled configurations, by a YAML of settings."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aiida_aceal.common.atomic import open_whole, write_json, write_text
from aiida_aceal.common.yaml import load_mapping


@click.command()
@click.argument("settings", type=click.Path(path_type=Path))
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    help="JSON report (overrides the one named in SETTINGS).",
)
def command(settings: Path, report_file: Path | None) -> None:
    """Fit a potential as described in the YAML file SETTINGS; its paths are relative to the working directory.

    \b
    potential: basis.yaml         basis, its description (elements, cutoff, ...), or a fitted potential to continue from
    data: [train.extxyz]          labelled configurations; also a single name
    validation: [held.extxyz]     optional, never fitted; or validation_fraction: 0.1, by origin
    output: potential.yaml
    report: report.json           optional; text_report: report.txt, parity_plot: parity.png,
    parity_data: parity.npz       labels and predictions, [N, 2] arrays
    method: linear                or nonlinear
    ensemble: {members: 8}        optional: also fit an ensemble; ensemble_output: ensemble.zip
    weights: {...}  regularization: {...}  reference_energies: fit | joint | isolated | none | {Cu: -3}  seed: 0
    """
    plan = read_plan(settings)
    if report_file is not None:
        plan["report"] = str(report_file)
    result = run(plan)
    ensemble = run_ensemble(plan, result)
    if ensemble is not None:
        ensemble.save(plan["ensemble_output"])
        result.report["ensemble"] = {
            "members": len(ensemble), "method": ensemble.method, "thresholds": ensemble.thresholds, **ensemble.report,
        }  # fmt: skip
    write_text(plan["output"], result.potential.to_yaml())
    from aiida_aceal.fitting import format_report

    text = format_report(result.report)
    if plan["report"]:
        write_json(plan["report"], result.report, allow_nan=False)
    if plan["text_report"]:
        write_text(plan["text_report"], text)
    if plan["parity_data"]:
        import numpy as np

        parts = {"train": result.train, "validation": result.validation}
        arrays = {f"{k}_{kind}": v for k, p in parts.items() if p for kind, v in p.parity().items()}
        with open_whole(plan["parity_data"], "wb") as handle:
            np.savez_compressed(handle, **arrays)
    if plan["parity_plot"]:
        from aiida_aceal.fitting.plots import parity_plot

        parity_plot(result, plan["parity_plot"])
    click.echo(text, nl=False)


def read_plan(path: Path) -> dict:
    """Checked keys of the file by name, lists of files as lists, and ``fit``: all of them as one `FitFile`.

    :raises AceError: missing or malformed file, unknown key, missing key, wrong value.
    """
    from aiida_aceal.common.settings import build
    from aiida_aceal.fitting.settings import FitFile, FitSettings

    chosen = build(FitFile, load_mapping(path, "see aceal-worker fit --help"), path)
    plan = {key: getattr(chosen, key) for key in FitFile.model_fields}
    for key in ("data", "validation"):
        plan[key] = [plan[key]] if isinstance(plan[key], str) else list(plan[key] or ())
    # what the report calls the settings of the fit: without the files
    own = FitSettings.model_fields.keys() & chosen.model_fields_set
    plan["fit"] = FitSettings(**{key: getattr(chosen, key) for key in own})
    return plan


def run(plan: dict):
    """Fit as the plan of `read_plan` says; returns a `FitResult`."""
    from aiida_aceal.ace import AcePotential, build_potential
    from aiida_aceal.fitting import fit

    start = plan["potential"]
    fit_settings = plan["fit"]
    if isinstance(start, dict):
        potential = build_potential(start, seed=fit_settings.seed)
    else:
        potential = AcePotential.read(start)
    train, names = _read(plan, plan["data"])
    held, held_names = _read(plan, plan["validation"]) if plan["validation"] else (None, None)
    if plan["validation_fraction"] is not None:
        from aiida_aceal.fitting.split import split_by_origin

        rest, out = split_by_origin(train, plan["validation_fraction"], fit_settings.seed)
        held, held_names = [train[k] for k in out], [names[k] for k in out]
        train, names = [train[k] for k in rest], [names[k] for k in rest]
    plan["train"], plan["names"], plan["start"] = train, names, potential
    return fit(potential, train, fit_settings, held, names, held_names, progress=_progress)


def run_ensemble(plan: dict, result):
    """The ensemble the plan asks for (None without), fitted to the same structures as ``result``."""
    if plan["ensemble"] is None:
        return None
    from aiida_aceal.fitting import fit_ensemble

    # nonlinear members keep the radial functions that the fit has optimised
    basis = result.potential if plan["fit"].method == "nonlinear" else plan["start"]
    return fit_ensemble(basis, plan["train"], plan["fit"], plan["ensemble"], plan["names"], _progress)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _read(plan: dict, files: list[str]) -> tuple[list, list[str]]:
    from aiida_aceal.common.configurations import read_configurations

    frames, names = [], []
    for file in files:
        new = read_configurations(
            file, energy_key=plan["energy_key"], forces_key=plan["forces_key"], stress_key=plan["stress_key"]
        )
        frames += new
        names += [f"{file}, structure {k}" for k in range(len(new))]
    return frames, names
