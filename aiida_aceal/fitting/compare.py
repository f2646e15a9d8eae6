"""Uncertainty indicators side by side, on a labelled set: what `aiida-aceal compare uncertainty` shows.

For each indicator: its correlation with the errors, false negatives and positives at its threshold, how well it
predicts the size of errors (calibration, cross-validated), how well it tells unknown kinds of structures from known
ones (ROC), and its cost (Y. Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Figs. 1-2).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceError, AceModel, AcePotential

from .calibration import calibrate, spearman
from .ensemble import Ensemble, deviations
from .labels import collect_labels, reference_sum
from .thresholds import FORCE_FLOOR, ensemble_thresholds, outlier_error, vanishing_forces

FOLDS = 5


@dataclass
class IndicatorValues:
    """One indicator on the test structures [N], its ``threshold`` (or None), unit and cost in seconds."""

    values: np.ndarray
    threshold: float | None
    unit: str
    seconds: float


def compare_uncertainty(
    potential: AcePotential,
    structures: Sequence[Atoms],
    train: Sequence[Atoms],
    graders: Mapping[str, object],
    ensembles: Mapping[str, Ensemble] | None = None,
    gamma_threshold: float | Mapping[str, float] = 1.0,
    groups: Sequence[str] | None = None,
    known: Collection[str] | None = None,
    threads: int | None = None,
) -> dict:
    """Grade a labelled set with several indicators and compare them.

    Parameters
    ----------
    structures, train
        Labelled test and training structures (energies and forces). The errors are those of ``potential``.
    graders
        Name -> active set of any kind (global, local: anything with ``kind`` and ``grade``).
    ensembles
        Name -> `Ensemble`; each gives two indicators, ``NAME dE`` and ``NAME dF``.
    gamma_threshold
        Above which gamma a structure counts as uncertain; one number or one for each grader.
    groups, known
        Kind of each test structure (default: info ``group``), and the kinds the training set holds: all others are
        novel. Without them no ROC is made.

    Returns
    -------
    dict
        JSON types. ``errors``: ``forces`` (largest |dF_i| of each structure, eV/A) and ``energy`` (eV/atom);
        ``outlier``: e* of the training errors by the IQR rule, for forces without structures whose forces vanish by
        symmetry; ``notes``: what was left out; ``indicators``: name -> `assess`.

    Raises
    ------
    AceError
        Missing labels, or nothing to compare.
    """
    if not graders and not ensembles:
        raise AceError("nothing to compare: give an active set or an ensemble")
    model = AceModel(potential, threads=threads)
    test = collect_labels(structures, potential.elements, what="test set")
    known_set = collect_labels(train, potential.elements)
    errors, outlier = {}, {}
    seconds = time.perf_counter()
    for name, data, out in (("test", test, errors), ("train", known_set, outlier)):
        results = model.evaluate_batch(data.structures, stress=False)
        free = reference_sum(data, potential.reference_energies)
        e = np.abs(np.array([r.energy for r in results]) + free - data.energies) / data.n_atoms
        f = np.array([np.linalg.norm(r.forces - b, axis=1).max() for r, b in zip(results, data.forces)])
        vanish = vanishing_forces(data.forces, [np.linalg.norm(r.forces, axis=1).max() for r in results])
        if name == "test":
            out.update(energy=e, forces=f)
            seconds = time.perf_counter() - seconds
            test_vanish = vanish
        else:
            known_vanish = vanish
            out["energy"] = outlier_error(e)
            # where all forces vanish by symmetry there is nothing to learn of their errors
            out["forces"] = outlier_error(f[~vanish]) if not vanish.all() else FORCE_FLOOR
            train_errors = {"energy": e, "forces": f}
    notes = []
    if known_vanish.any() or test_vanish.any():
        notes.append(
            f"forces vanish by symmetry in {int(known_vanish.sum())} learnt and {int(test_vanish.sum())} graded "
            "structures; outliers of the force errors are judged by the other learnt ones"
        )
    values: dict[str, IndicatorValues] = {}
    for name, grader in graders.items():
        start = time.perf_counter()
        gamma = structure_grades(model, grader, test.structures)
        limit = gamma_threshold[name] if isinstance(gamma_threshold, Mapping) else gamma_threshold
        values[name] = IndicatorValues(gamma, float(limit), "", time.perf_counter() - start)
    for name, ensemble in (ensembles or {}).items():
        start = time.perf_counter()
        dE, dF = deviations(ensemble.predict(test.structures), test.n_atoms)
        cost = time.perf_counter() - start
        tE, tF = deviations(ensemble.predict(known_set.structures), known_set.n_atoms)
        limits, lines = ensemble_thresholds(train_errors["energy"], tE, train_errors["forces"], tF, known_vanish)
        notes += [f"{name}: {line}" for line in lines]
        values[f"{name} dE"] = IndicatorValues(dE, limits.get("energy"), "eV/atom", cost)
        values[f"{name} dF"] = IndicatorValues(dF, limits.get("forces"), "eV/A", cost)
    if groups is None and all("group" in a.info for a in test.structures):
        groups = [str(a.info["group"]) for a in test.structures]
    novel = None
    if groups is not None and known is not None:
        novel = np.array([g not in set(known) for g in groups])
    return {
        "n_structures": len(test),
        "errors": {k: v.tolist() for k, v in errors.items()},
        "outlier": outlier,
        "groups": list(groups) if groups is not None else None,
        "known": sorted(known) if known is not None else None,
        "evaluation_seconds": seconds,
        "notes": notes,
        "indicators": {
            name: assess(v, errors["energy" if v.unit == "eV/atom" else "forces"],
                         outlier["energy" if v.unit == "eV/atom" else "forces"], novel)
            for name, v in values.items()
        },
    }  # fmt: skip


def structure_grades(model: AceModel, grader, structures: Sequence[Atoms]) -> np.ndarray:
    """Largest gamma of each structure's atoms, [N], at least that of the emptiness of their environments."""
    grades = np.zeros(len(structures))
    emptiness = getattr(grader, "emptiness", None)
    for element, rows in model.projections(structures, kind=grader.kind).items():
        if not len(rows.rows):
            continue
        np.maximum.at(grades, rows.structure, grader.grade(element, rows.rows))
        floor = emptiness(element, rows.coordination) if emptiness is not None else None
        if floor is not None:
            np.maximum.at(grades, rows.structure, np.where(floor > 1.0, floor, 0.0))
    return grades


def assess(indicator: IndicatorValues, errors: np.ndarray, outlier: float, novel: np.ndarray | None = None) -> dict:
    """One indicator against the errors of the same structures.

    ``false_negatives``: share of the structures with an error above ``outlier`` that the indicator calls certain;
    ``false_positives``: share of those below that it calls uncertain (None where there are none). ``novelty`` has the
    ROC curve and its area. ``calibration``: see `cross_calibration`.
    """
    values = indicator.values
    result = {
        "values": values.tolist(),
        "threshold": indicator.threshold,
        "unit": indicator.unit,
        "seconds": indicator.seconds,
        "spearman": spearman(values, errors),
    }
    if indicator.threshold is not None:
        bad, flagged = errors > outlier, values > indicator.threshold
        counts = {
            "true_positives": int((bad & flagged).sum()), "false_negatives": int((bad & ~flagged).sum()),
            "false_positives": int((~bad & flagged).sum()), "true_negatives": int((~bad & ~flagged).sum()),
        }  # fmt: skip
        result["counts"] = counts
        result["false_negative_rate"] = counts["false_negatives"] / int(bad.sum()) if bad.any() else None
        result["false_positive_rate"] = counts["false_positives"] / int((~bad).sum()) if (~bad).any() else None
    if len(values) >= 2 * FOLDS:
        result["calibration"] = cross_calibration(values, errors)
    if novel is not None and novel.any() and not novel.all():
        from sklearn.metrics import roc_auc_score, roc_curve

        fpr, tpr, limits = roc_curve(novel, values)
        result["novelty"] = {
            "auc": float(roc_auc_score(novel, values)),
            "false_positive_rate": fpr.tolist(),
            "true_positive_rate": tpr.tolist(),
            "thresholds": [float(t) if np.isfinite(t) else None for t in limits],
        }
    return result


def cross_calibration(values: np.ndarray, errors: np.ndarray, bins: int = 10) -> dict:
    """Predicted against observed error: each fifth is predicted by the monotone map of the other four.

    ``predicted``, ``observed``: means in ``bins`` groups of equal size by predicted error; ``mean_error``: the mean of
    |observed - predicted| / observed over the groups (0: perfectly calibrated; observed errors count as at least a
    twentieth of the mean); ``skill``: the share of the errors'
    variance that the prediction explains.
    """
    fold = np.arange(len(values)) % FOLDS
    predicted = np.empty(len(values))
    for k in range(FOLDS):
        predicted[fold == k] = calibrate(values[fold != k], errors[fold != k]).expected(values[fold == k])
    order = np.argsort(predicted, kind="stable")
    groups = [g for g in np.array_split(order, min(bins, len(values))) if len(g)]
    p = np.array([predicted[g].mean() for g in groups])
    o = np.array([errors[g].mean() for g in groups])
    variance = float(np.var(errors))
    return {
        "predicted": p.tolist(),
        "observed": o.tolist(),
        # groups without errors (forces that vanish by symmetry) must not divide by nothing
        "mean_error": float(np.mean(np.abs(o - p) / np.maximum(o, max(0.05 * errors.mean(), 1e-12)))),
        "skill": 1.0 - float(np.mean((errors - predicted) ** 2)) / variance if variance > 0.0 else 0.0,
    }
