"""Labels beside a prediction that has not learnt from them: what cannot be right is named before it is trained on.

The prediction is that of the potential in force, or, without one, that of the other structures with labels
(leave-one-out). Both are energies: a wrong energy is what a code gives that converged to another state, lost its
reference or printed the total of something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceModel, AcePotential

from .checks import MOST, Outlier, composition_energies, find_outliers
from .labels import LabelledSet, collect_labels

#: default of `max_label_deviation`, eV/atom; docs/howto/recover.md says what it was chosen on
MAX_DEVIATION = 2.0
#: what deviates less than this many robust spreads of the set is none that stands out
SPREADS = 30.0
#: fewer structures than this cannot judge each other
FEWEST = 4
_RIDGES = 10.0 ** np.arange(-8.0, 1.0)


def predicted_energies(potential: AcePotential, structures: Sequence[Atoms]) -> np.ndarray:
    """Energies [M] of a fitted potential, eV, free atoms included."""
    model, free = AceModel(potential, threads=1), potential.reference_energies
    results = model.evaluate_batch(structures, forces=False, stress=False)
    return np.array(
        [r.energy + sum(free.get(s, 0.0) for s in a.get_chemical_symbols()) for r, a in zip(results, structures)]
    )


def left_out_energies(potential: AcePotential, data: LabelledSet, most: float = MOST) -> tuple[np.ndarray, np.ndarray]:
    """What the other structures of the set say of each.

    Ridge regression of the energies per atom on the basis functions of ``potential``, averaged over the atoms, and the
    composition, or Gaussian process regression with their linear kernel: predictions without each structure and their
    uncertainties follow from one factorisation (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006,
    section 5.4.2). The strength of the ridge is that of the smallest median deviation.

    Structures that deviate by more than `SPREADS` times the median, in units of the uncertainty, say nothing of others:
    they are left out of all predictions one after the other, ``most`` of the set at most.

    Returns
    -------
    energies
        [M] eV.
    uncertainties
        [M], in units common to all: large where a structure is unlike the others.
    """
    model = AceModel(potential, threads=1)
    n = data.n_atoms
    rows = np.array([model.linear_system(atoms, forces=False).energy for atoms in data.structures]) / n[:, None]
    scale = rows.std(0)
    varies = scale > 1e-12
    rows = (rows - rows.mean(0))[:, varies] / scale[varies]
    shares = data.counts / n[:, None]
    free = shares @ composition_energies(data)
    X = np.hstack([rows / max(np.sqrt(rows.shape[1]), 1.0), 10.0 * shares])
    y = data.energies / n - free
    out = np.zeros(len(data), dtype=bool)
    predicted, uncertainties = _beside(X, y, out)
    while out.sum() + 1 <= max(1.0, most * len(data)):
        odd = np.where(out, 0.0, np.abs(y - predicted) / uncertainties)
        suspect = int(np.argmax(odd))
        without = out.copy()
        without[suspect] = True
        # judged by the others as they are without it: a wrong label makes all of them look wrong
        others, others_uncertainties = _beside(X, y, without)
        odd = np.abs(y - others) / others_uncertainties
        if odd[suspect] <= SPREADS * np.median(odd[~without]):
            break
        out, predicted, uncertainties = without, others, others_uncertainties
    return n * (predicted + free), uncertainties


def _beside(X: np.ndarray, y: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions [M] without the structure itself and without those that are ``out`` (mask [M]); uncertainties [M]."""
    kept = np.flatnonzero(~out)
    ridge, deviations, spreads = _left_out(X[kept], y[kept])
    predicted, uncertainties = np.empty(len(y)), np.empty(len(y))
    predicted[kept], uncertainties[kept] = y[kept] - deviations, spreads
    kernel = X[kept] @ X[kept].T + ridge * np.eye(len(kept))
    beside = X[out] @ X[kept].T
    solved = np.linalg.solve(kernel, np.column_stack([y[kept], beside.T]))
    predicted[out] = beside @ solved[:, 0]
    own = (X[out] ** 2).sum(1) + ridge - (beside * solved[:, 1:].T).sum(1)
    uncertainties[out] = np.sqrt(np.maximum(own, ridge))
    return predicted, uncertainties


def _left_out(X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Strength of the ridge; deviations of the labels from the predictions without them, and uncertainties of these."""
    values, vectors = np.linalg.eigh(X @ X.T)
    along = vectors.T @ y
    best, found = np.inf, None
    for ridge in _RIDGES:
        inverse = 1.0 / (np.maximum(values, 0.0) + ridge)
        diagonal = (vectors * vectors) @ inverse
        deviations = (vectors @ (inverse * along)) / diagonal
        size = float(np.median(np.abs(deviations)))
        if size < best:
            best, found = size, (float(ridge), deviations, 1.0 / np.sqrt(diagonal))
    return found


def wrong_labels(
    structures: Sequence[Atoms],
    potential: AcePotential,
    others: Sequence[Atoms] = (),
    max_deviation: float = MAX_DEVIATION,
) -> list[Outlier]:
    """New labels that cannot be right.

    Parameters
    ----------
    structures
        Labelled structures to judge.
    potential
        The potential in force; if it is a basis only, the labels judge each other.
    others
        Structures with labels that are trusted, to judge by as well if ``potential`` is a basis.
    max_deviation
        Deviations of the energy from the prediction up to this (eV/atom) are no reason, and none up to `SPREADS` times
        the usual deviation either. If the labels judge each other, deviations count in units of their uncertainties.

    Returns
    -------
    In the order of the structures. Without a fitted potential, none if there are fewer than `FEWEST` structures.

    Raises
    ------
    AceError
        A label is missing or not finite; an element is not in the potential.
    """
    elements = potential.elements
    data = collect_labels(structures, elements, missing_forces="skip")
    like = data if not others else collect_labels([*structures, *others], elements, missing_forces="skip")
    if potential.is_fitted:
        like, predicted = data, predicted_energies(potential, structures)
        uncertainties = np.ones(len(data))
    elif len(like) < FEWEST:
        return []
    else:
        predicted, uncertainties = left_out_energies(potential, like)
    odd = np.abs(like.energies - predicted) / like.n_atoms / uncertainties
    usual = float(np.median(odd)) if len(odd) >= FEWEST else 0.0
    beyond = set(np.flatnonzero(odd[: len(data)] > SPREADS * usual))
    found = {o.index: o for o in find_outliers(data, predicted=predicted[: len(data)], max_deviation=max_deviation)}
    return [found[k] for k in sorted(beyond.intersection(found))]
