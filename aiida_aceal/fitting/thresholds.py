"""Above which deviation of its members an ensemble calls a structure uncertain.

The IQR rule (Y. Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), App. B): e* = Q3 + 1.5 IQR of the training
errors; the threshold is the largest deviation among the training structures with an error below e*. Two kinds of
structures tell nothing about it and are left out:

- those whose forces vanish by symmetry (perfect crystals, one atom in the cell): error and dF are nothing whatever the
  coefficients, and where they are many, so are the quartiles and with them dF's threshold;
- for dE, structures right by luck: the error of an energy has a sign and passes zero, however far the members are
  apart (a force error is the largest of many components). Of the structures below e*, outliers in dE
  (above Q3 + 1.5 IQR of dE) do not set the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: eV/Angstrom: labels and forces of all members below it count as nothing; what coordinates rounded to 1e-5 Angstrom
#: leave of forces that vanish by symmetry is smaller, and what labels are converged to is not better
FORCE_FLOOR = 1e-3
#: quartiles of fewer errors mean nothing
MINIMUM = 5
#: key of the report of an ensemble
NOTES = "threshold_notes"


def outlier_error(errors: np.ndarray) -> float:
    """e* = Q3 + 1.5 IQR."""
    q1, q3 = np.quantile(errors, [0.25, 0.75])
    return float(q3 + 1.5 * (q3 - q1))


def iqr_threshold(errors: np.ndarray, indicator: np.ndarray, lucky: bool = False) -> float:
    """Largest indicator among structures whose error is at most e*; with ``lucky``, outliers in the indicator do not
    count."""
    kept = indicator[errors <= outlier_error(errors)]
    return float(kept[kept <= outlier_error(kept)].max() if lucky else kept.max())


def vanishing_forces(labels: Sequence[np.ndarray | None], largest: Sequence[float] | np.ndarray) -> np.ndarray:
    """[N] bool: forces that vanish by symmetry, as far as labels and predictions tell: all below `FORCE_FLOOR`.

    :param labels: forces [n, 3] of each structure, or None.
    :param largest: largest predicted |F_i| of each structure (of all members), eV/Angstrom.
    """
    found = np.asarray(largest, dtype=float) < FORCE_FLOOR
    for k in np.flatnonzero(found):
        if labels[k] is not None:
            found[k] = np.linalg.norm(labels[k], axis=1).max(initial=0.0) < FORCE_FLOOR
    return found


def ensemble_thresholds(
    energy_errors: np.ndarray, dE: np.ndarray, force_errors: np.ndarray, dF: np.ndarray, vanish: np.ndarray
) -> tuple[dict[str, float], list[str]]:
    """``energy`` (eV/atom) and ``forces`` (eV/Angstrom), those that the data can tell, and what was left out.

    :param energy_errors, dE, force_errors, dF: [N] of labelled structures; force errors are NaN without labels.
    :param vanish: [N] of `vanishing_forces`.
    """
    notes, limits = [], {}
    energies, forces = ~vanish, ~vanish & np.isfinite(force_errors)
    if vanish.any():
        notes.append(
            f"thresholds leave out {int(vanish.sum())} of {len(vanish)} structures whose forces vanish by symmetry"
        )
    if energies.sum() < MINIMUM <= len(vanish):
        notes.append(
            f"the threshold of dE is that of all {len(vanish)} structures, since only {int(energies.sum())} have "
            "forces "
            "that do not vanish by symmetry: it says little about others"
        )
        energies[:] = True
    for name, symbol, use, errors, indicator in (
        ("energy", "dE", energies, energy_errors, dE),
        ("forces", "dF", forces, force_errors, dF),
    ):
        if use.sum() >= MINIMUM:
            limits[name] = iqr_threshold(errors[use], indicator[use], lucky=name == "energy")
            continue
        whose = "with labelled forces that do not vanish by symmetry" if name == "forces" else "with energies"
        notes.append(
            f"no threshold of {symbol}: only {int(use.sum())} structures {whose}, at least {MINIMUM} are needed; add "
            "structures off their symmetric positions (rattled, molecular dynamics), or let gamma decide"
        )
    return limits, notes
