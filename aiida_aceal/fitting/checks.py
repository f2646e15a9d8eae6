"""What is wrong with a training set, in a line each: labels far off, atoms on top of each other, data that are missing.

`find_outliers` names labels that cannot be right beside the others; `screen` leaves them out of a fit, or keeps them,
and says so; `set_warnings` and `reference_warnings` name what a set lacks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from aiida_aceal.ace.neighbors import build_neighbors

from .labels import LabelledSet, is_isolated
from .settings import FitSettings

log = logging.getLogger(__name__)

#: eV/atom beside the rest: more than the cohesive energy of any element, so that free atoms and surfaces are none
ENERGY_LIMIT = 15.0
#: the same for structures whose atoms are pressed together: repulsion is steep, and data for it are wanted
PRESSED_LIMIT = 150.0
#: eV/Angstrom: a label above it comes from atoms on top of each other, or from another unit
FORCE_LIMIT = 2000.0
#: in units of the sum of covalent radii
DISTANCE_LIMIT = 0.3
#: pressed together: shortest distance in units of the median of the set
PRESSED = 0.85
#: of the robust spread of the set: sets that span more than usual have wider limits
SPREADS = 30.0
#: larger fractions of a set are no outliers, but part of what the set says
MOST = 0.1
SHOWN = 10
ASYMMETRY = 1e-3
#: an error this many times the root mean square of all smaller ones stands out; a normal distribution has none in 10^14
STANDS_OUT = 8.0
#: eV/atom, eV/Angstrom: smaller errors are no matter, whatever the others are
NO_MATTER = {"energy": 2e-3, "forces": 0.02}


@dataclass(frozen=True)
class Outlier:
    """A structure whose labels cannot be right beside the others: its position in the set, and why."""

    index: int
    reason: str


def composition_energies(data: LabelledSet) -> np.ndarray:
    """Energy of an atom of each element [elements], eV; least absolute deviations, which wrong labels hardly move."""
    X = data.counts / data.n_atoms[:, None]
    y = data.energies / data.n_atoms
    weights = np.ones(len(data))
    floor = 1e-9 * max(float(np.median(np.abs(y))), 1e-6)
    solution = np.zeros(X.shape[1])
    for _ in range(60):
        new = np.linalg.lstsq(X * weights[:, None], y * weights, rcond=1e-8)[0]
        converged = np.allclose(new, solution, rtol=1e-9, atol=1e-9)
        solution = new
        weights = 1.0 / np.sqrt(np.maximum(np.abs(y - X @ solution), floor))
        if converged:
            break
    return solution


def find_outliers(
    data: LabelledSet,
    like: LabelledSet | None = None,
    predicted: np.ndarray | None = None,
    max_deviation: float | None = None,
) -> list[Outlier]:
    """Structures whose labels cannot be right beside the others.

    Parameters
    ----------
    data
        The structures to judge.
    like
        What they are judged by; default: ``data`` itself.
    predicted
        Energies [M] of another source (an ensemble, a potential fitted without the structure), eV, reference energies
        included. Default: a sum of energies of the elements, fitted robustly.
    max_deviation
        Largest deviation of energies, eV/atom. Default: `ENERGY_LIMIT`, or `SPREADS` times the robust spread of the
        energies if that is more; up to `PRESSED_LIMIT` above the others where atoms are pressed together (`PRESSED`).
        At least four structures are needed to judge by.

    Returns
    -------
    In the order of the set: energies that deviate more, forces above `FORCE_LIMIT` (or 100 times the median of the
    largest forces), two atoms closer than `DISTANCE_LIMIT` times the sum of their covalent radii.
    """
    like = data if like is None else like
    n = data.n_atoms
    if predicted is None:
        elements = composition_energies(like)
        deviations = (data.energies - data.counts @ elements) / n
        usual = (like.energies - like.counts @ elements) / like.n_atoms
        others = "what its composition has in the other structures"
    else:
        deviations = usual = (data.energies - np.asarray(predicted, dtype=float)) / n
        others = "the prediction"
    limit = max_deviation
    if limit is None:
        spread = 1.4826 * float(np.median(np.abs(usual - np.median(usual))))
        limit = max(ENERGY_LIMIT, SPREADS * spread) if len(usual) >= 4 else np.inf
    suspects = np.flatnonzero(np.abs(deviations) > limit)
    pressed = np.zeros(len(data), dtype=bool)
    if len(suspects) and max_deviation is None:
        usual_distance = float(np.median([_closest(a)[0] for a in like.structures[:: max(len(like) // 200, 1)]]))
        for k in suspects:
            pressed[k] = 0.0 < deviations[k] < PRESSED_LIMIT and (
                _closest(data.structures[k])[0] < PRESSED * usual_distance
            )
    largest = _largest_forces(like)
    force_limit = max(FORCE_LIMIT, 100.0 * float(np.median(largest)) if len(largest) >= 4 else np.inf)
    found = []
    for k, atoms in enumerate(data.structures):
        distance, pair = _closest(atoms, DISTANCE_LIMIT)
        force = 0.0 if data.forces[k] is None else float(np.linalg.norm(data.forces[k], axis=1).max())
        if distance < DISTANCE_LIMIT:
            found.append(Outlier(k, pair))
        elif abs(deviations[k]) > limit and not pressed[k]:
            found.append(Outlier(k, f"its energy is {deviations[k]:+.4g} eV/atom from {others}"))
        elif force > force_limit:
            found.append(Outlier(k, f"its largest force is {force:.4g} eV/A"))
    return found


def stand_out(energy: np.ndarray, forces: np.ndarray, names: Sequence[str]) -> list[dict]:
    """Structures whose errors are far above those of the others: wrong labels, or a kind that has just one structure.

    Parameters
    ----------
    energy, forces
        Absolute errors of the energy per atom (eV/atom) and root mean square errors of the forces (eV/Angstrom), [M].
    names
        Of the structures.

    Returns
    -------
    ``index``, ``name``, ``what`` (energy or forces), ``error`` and ``usual`` (root mean square of the smaller ones) of
    each, the largest ratio first. At most `MOST` of a set stand out (or one structure), and of fewer than 8 none does.
    """
    found: dict[int, dict] = {}
    for what, errors in (("energy", energy), ("forces", forces)):
        errors = np.asarray(errors, dtype=float)
        order = np.argsort(errors, kind="stable")
        n = len(order)
        if n < 8:
            continue
        squares = np.cumsum(errors[order] ** 2)
        first, usual = n, 0.0
        for k in range(n - max(1, int(MOST * n)), n):
            below = float(np.sqrt(squares[k - 1] / k))
            if errors[order[k]] > max(STANDS_OUT * below, NO_MATTER[what]):
                first, usual = k, below
                break
        for k in order[first:]:
            entry = {
                "index": int(k), "name": names[k], "what": what, "error": float(errors[k]), "usual": usual,
            }  # fmt: skip
            if int(k) not in found or _ratio(entry) > _ratio(found[int(k)]):
                found[int(k)] = entry
    return sorted(found.values(), key=lambda entry: (-_ratio(entry), entry["index"]))


def _ratio(entry: Mapping) -> float:
    return entry["error"] / max(entry["usual"], 1e-12)


def screen(
    data: LabelledSet, policy: str, like: LabelledSet | None = None, what: str = "training set"
) -> tuple[LabelledSet, list[str]]:
    """The set without outliers (``policy`` exclude) or with them (keep), and a line for each, which is logged too."""
    found = find_outliers(data, like)
    if not found:
        return data, []
    many = len(found) > max(1.0, MOST * len(data))
    leave = policy == "exclude" and not many
    if leave:
        end = "left out; relabel or remove it, or set outliers: keep"
    elif many:
        end = f"kept, since {len(found)} of {len(data)} structures are like that; remove or relabel what is wrong"
    else:
        end = "kept; relabel or remove it" + (", or set outliers: exclude" if policy == "keep" else "")
    lines = [
        f"{data.names[o.index]} ({data.structures[o.index].get_chemical_formula()}): {o.reason}: {end}"
        for o in found[:SHOWN]
    ]
    if len(found) > SHOWN:
        lines.append(f"{what}: {len(found) - SHOWN} more structures like those before")
    for line in lines:
        log.warning(line)
    if leave:
        data = data.subset(np.setdiff1d(np.arange(len(data)), [o.index for o in found]))
    return data, lines


def set_warnings(data: LabelledSet, settings: FitSettings, cutoff: float) -> list[str]:
    """What the training set lacks, or holds in vain; each line is logged too."""
    lines = []
    missing = [el for k, el in enumerate(data.elements) if not data.counts[:, k].any()]
    if missing:
        lines.append(
            f"no training structure has {', '.join(missing)}: the coefficients stay zero, and such atoms feel the core "
            "repulsion at most; add structures, or take the element out of the basis"
        )
    if not any(len(build_neighbors(atoms, cutoff).neighbors) for atoms in data.structures):
        lines.append(
            f"no training structure has two atoms within the cutoff of {cutoff:g} A, all atoms are isolated: nothing "
            "can be learnt but their energies; add structures with neighbours"
        )
    lines += _stress_warnings(data, settings)
    for line in lines:
        log.warning(line)
    return lines


def reference_warnings(data: LabelledSet, mode: str | Mapping[str, float], reference: Mapping[str, float]) -> list[str]:
    """What it means that free atoms are not part of the data, for ``fit`` and ``joint``; logged too."""
    if mode not in ("fit", "joint"):
        return []
    isolated = {a.get_chemical_symbols()[0] for a in data.structures if is_isolated(a)}
    free = [el for el in reference if el not in isolated or mode == "fit"]
    if not free:
        return []
    values = ", ".join(f"{el} {reference[el]:.4g} eV" for el in free)
    has = [el for el in free if el in isolated]
    remedy = "set reference_energies: isolated" if len(has) == len(free) else (
        "add an isolated atom of each element and set reference_energies: isolated, or give the values"
    )  # fmt: skip
    line = (
        f"the energies of free atoms are not constrained by the data ({values}, from reference_energies: {mode}): "
        "cohesive energies mean nothing, and atoms that lose neighbours tend to these values, so that surfaces, "
        f"vacancies and evaporation are wrong unless such structures are in the data; {remedy}"
    )
    log.warning(line)
    return [line]


def _stress_warnings(data: LabelledSet, settings: FitSettings) -> list[str]:
    lines, stress, virial, asymmetric = [], [], [], []
    for k, atoms in enumerate(data.structures):
        results = getattr(atoms.calc, "results", None) or {}
        if results.get("stress") is not None:
            stress.append(k)
            if _asymmetry(results["stress"]) > ASYMMETRY:
                asymmetric.append(k)
        else:
            keys = [key for key in atoms.info if "virial" in key.lower()]
            if keys:
                virial.append(k)
    used = settings.weights.virial > 0.0

    def some(found: list[int]) -> str:
        return f"{len(found)} of {len(data)} structures (first: {data.names[found[0]]})"

    if stress and not used:
        lines.append(f"{some(stress)} have a stress that is not used; set weights.virial, such as 0.1, to train on it")
    if virial:
        lines.append(
            f"{some(virial)} have a virial in info that is not read; give stress = -virial / volume, under the key "
            "stress or with stress_key"
        )
    if used and not any(v is not None for v in data.virials):
        lines.append("weights.virial is set, but no training structure is periodic with a stress; label some, or set 0")
    if asymmetric:
        lines.append(
            f"{some(asymmetric)} have a stress that is not symmetric: the upper triangle is taken; check the "
            "units and the order of its components"
        )
    return lines


def _asymmetry(stress: Sequence) -> float:
    """Largest difference to the transpose, relative to the largest component; 0 for six numbers."""
    matrix = np.asarray(stress, dtype=float)
    if matrix.size != 9:
        return 0.0
    matrix = matrix.reshape(3, 3)
    return float(np.abs(matrix - matrix.T).max() / max(np.abs(matrix).max(), 1e-300))


def _largest_forces(data: LabelledSet) -> np.ndarray:
    values = [np.linalg.norm(f, axis=1).max() for f in data.forces if f is not None and len(f)]
    return np.array(values)


def _closest(atoms: Atoms, within: float = 2.0) -> tuple[float, str]:
    """Shortest distance in units of the sum of covalent radii, and the pair in words; ``within`` if there is none."""
    radii = covalent_radii[atoms.numbers]
    nb = build_neighbors(atoms, 2.0 * within * float(radii.max()))
    i = np.repeat(np.arange(len(atoms)), np.diff(nb.first))
    if len(i) == 0:
        return within, ""
    j = nb.owner[nb.neighbors]
    r = np.linalg.norm(nb.positions[nb.neighbors] - nb.positions[i], axis=1)
    reduced = r / (radii[i] + radii[j])
    at = int(np.argmin(reduced))
    symbols = atoms.symbols
    pair = f"atoms {i[at]} and {j[at]} ({symbols[i[at]]}-{symbols[j[at]]}) are {r[at]:.3g} A apart"
    return min(float(reduced[at]), within), pair
