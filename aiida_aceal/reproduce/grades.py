"""Errors and indicators of graded structures: what several studies count, correlate and draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceModel
from aiida_aceal.fitting.calibration import spearman
from aiida_aceal.fitting.thresholds import outlier_error, vanishing_forces

from . import plots

THRESHOLDS = (1.0, 2.0, 5.0, 10.0)
#: a hair above 1: rounding of environments that are in the active set
INSIDE = 1.0 + 1e-3


def per_structure(frames: Sequence[Atoms], roles: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays [N]: ``forces`` (largest |dF_i|, eV/A), ``energy`` (eV/atom), ``gamma``, ``dE``, ``dF``, ``role``
    (position in ``roles``), ``vanish`` (forces that vanish by symmetry).

    :param frames: those of a job ``aceal.evaluate``, with the role in info ``group``
    """
    found: dict[str, list[Any]] = {
        "forces": [np.linalg.norm(a.get_forces() - a.arrays["reference_forces"], axis=1).max() for a in frames],
        "energy": [abs(a.get_potential_energy() - a.info["reference_energy"]) / len(a) for a in frames],
        "role": [roles.index(a.info["group"]) for a in frames],
        "vanish": vanishing_forces(
            [a.arrays["reference_forces"] for a in frames],
            [np.linalg.norm(a.get_forces(), axis=1).max() for a in frames],
        ),
    }  # fmt: skip
    for key in ("dE", "dF"):
        if all(key in a.info for a in frames):
            found[key] = [a.info[key] for a in frames]
    if all("gamma" in a.arrays for a in frames):
        found["gamma"] = [a.arrays["gamma"].max() for a in frames]
    return {key: np.array(values) for key, values in found.items()}


def outliers(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """e* of the learnt structures (role 0), of forces (those that vanish by symmetry left out) and energies."""
    learnt = found["role"] == 0
    moved = learnt & ~found["vanish"]
    return {
        "forces": outlier_error(found["forces"][moved if moved.any() else learnt]),
        "energy": outlier_error(found["energy"][learnt]),
    }


def rates(errors: np.ndarray, limit: float, indicator: np.ndarray, threshold: float) -> tuple[float | None, ...]:
    """False negatives and positives: the share of errors above ``limit`` that are called certain, of those below that
    are called uncertain; None where there are none."""
    bad, flagged = errors > limit, indicator > threshold
    miss = float(np.mean(~flagged[bad])) if bad.any() else None
    return miss, float(np.mean(flagged[~bad])) if (~bad).any() else None


def site_deviation(potentials: Sequence[Any], frames: Sequence[Atoms], threads: int | None = None) -> np.ndarray:
    """[N] max_i max_m |E_i^m - <E_i>| of the members' atomic energies, eV."""
    members = [
        AceModel(p, threads=threads).evaluate_batch(list(frames), forces=False, stress=False) for p in potentials
    ]
    found = []
    for results in zip(*members):
        energies = np.array([r.energies for r in results])
        found.append(np.abs(energies - energies.mean(axis=0)).max())
    return np.array(found)


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; None of fewer than three pairs."""
    return spearman(a, b) if len(a) >= 3 else None


def draw_errors(
    figure: Any, found: Mapping[str, np.ndarray], roles: Sequence[str], limits: Mapping[str, float]
) -> None:
    """Errors against indicators: energies above, forces below; gamma on the left, the ensemble on the right."""
    axes = figure.subplots(2, 2)
    pairs = (("energy", "gamma"), ("energy", "dE")), (("forces", "gamma"), ("forces", "dF"))
    names = {"gamma": "extrapolation grade γ", "dE": "dE (meV/atom)", "dF": "dF (meV/Å)"}
    for row, line in zip(axes, pairs):
        for place, (error, indicator) in zip(row, line):
            scale = 1.0 if indicator == "gamma" else 1000.0
            for k in range(len(roles) - 1, -1, -1):
                chosen = found["role"] == k
                place.loglog(
                    np.maximum(scale * found[indicator][chosen], 1e-3), np.maximum(1000 * found[error][chosen], 1e-2),
                    ".", ms=3, alpha=0.6, color=plots.COLORS[k], label=roles[k],
                )  # fmt: skip
            if indicator in limits:
                place.axvline(scale * limits[indicator], color="0.4", linestyle=":")
            place.set_xlabel(names[indicator])
            unit = "meV/atom" if error == "energy" else "meV/Å"
            place.set_ylabel(f"{error.removesuffix('s')} error ({unit})")
    axes[0][0].legend(fontsize="small")


def draw_histograms(
    figure: Any, found: Mapping[str, np.ndarray], roles: Sequence[str], limits: Mapping[str, float]
) -> None:
    """Number of structures by error, those that an indicator calls inside (green) and outside (red)."""
    axes = figure.subplots(len(roles), 4, sharex="col")
    columns = (("energy", "gamma"), ("energy", "dE"), ("forces", "gamma"), ("forces", "dF"))
    for column, (error, indicator) in enumerate(columns):
        values = np.maximum(1000 * found[error], 1e-2)
        edges = np.geomspace(values.min(), values.max() * 1.01, 30)
        limit = limits.get(indicator)
        for k, role in enumerate(roles):
            place = axes[k][column]
            chosen = found["role"] == k
            if limit is not None:
                outside = found[indicator] > limit
                plots.steps(place, values[chosen & ~outside], edges, plots.COLORS[2], "inside")
                plots.steps(place, values[chosen & outside], edges, plots.COLORS[1], "outside")
            place.set_xscale("log")
            if column == 0:
                place.set_ylabel(f"{role}\nstructures")
        unit = "meV/atom" if error == "energy" else "meV/Å"
        axes[0][column].set_title({"gamma": "γ", "dE": "dE", "dF": "dF"}[indicator], fontsize="medium")
        axes[-1][column].set_xlabel(f"{error.removesuffix('s')} error ({unit})")
    axes[0][0].legend(fontsize="small")
