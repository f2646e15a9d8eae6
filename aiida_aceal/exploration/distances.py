"""Shortest distances by element pair: the rule that keeps unphysical structures out of every generator and filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from aiida_aceal.common.errors import AceError

#: two atoms nearer than this fraction of the sum of their covalent radii are taken for an accident
DEFAULT_FRACTION = 0.6

Pair = tuple[str, str]


def neighbor_pairs(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within ``cutoff`` A in both directions, images included: i, j [m], vectors r_j - r_i [m, 3].

    The engine's search: some ten times faster than ASE's, which stands in where atoms lie on top of each other.
    """
    from aiida_aceal.ace.neighbors import build_neighbors  # compiled code: only when needed

    if len(atoms) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    try:
        found = build_neighbors(atoms, cutoff)
    except AceError:
        from ase.neighborlist import neighbor_list

        return neighbor_list("ijD", atoms, cutoff)
    i = np.repeat(np.arange(len(atoms)), np.diff(found.first))
    return i, found.owner[found.neighbors], found.positions[found.neighbors] - found.positions[i]


def pair_key(first: str, second: str) -> Pair:
    """Element pair in alphabetical order."""
    return (first, second) if first <= second else (second, first)


def parse_pair(name: str) -> Pair:
    """``"Cu-I"`` (or ``"Cu I"``, or ``"Cu"`` for Cu-Cu) to ``("Cu", "I")``. Raises :class:`AceError`."""
    parts = name.replace("-", " ").replace("_", " ").split()
    if len(parts) == 1:
        parts = parts * 2
    if len(parts) != 2 or any(part not in atomic_numbers or part == "X" for part in parts):
        raise AceError(f"'{name}' is not an element pair: write it as 'Cu-I' (or 'Cu-Cu')")
    return pair_key(*parts)


def minimum_distances(
    elements: Iterable[str],
    stated: float | Mapping[str, float] | None = None,
    fraction: float = DEFAULT_FRACTION,
) -> dict[Pair, float]:
    """Shortest allowed distance (A) for each pair of ``elements``.

    :param stated: one distance for all pairs, or ``{"Cu-I": 2.1, ...}``; pairs that are not stated get the default
    :param fraction: default distance as fraction of the sum of the covalent radii
    :raises AceError: negative or non-numeric distances, unknown pairs
    """
    names = sorted(set(elements))
    if isinstance(stated, bool):
        raise AceError(f"shortest distance {stated!r}: give a number in A or a mapping such as {{'Cu-I': 2.1}}")
    if not (np.isfinite(fraction) and fraction >= 0):
        raise AceError(f"fraction of the covalent radii is {fraction}: it must be zero or positive")
    table = {
        (a, b): fraction * float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])
        for a, b in combinations_with_replacement(names, 2)
    }
    if stated is None:
        return table
    if isinstance(stated, Mapping):
        values = {parse_pair(str(name)): value for name, value in stated.items()}
    else:
        values = dict.fromkeys(table, stated)
    for pair, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not (np.isfinite(number) and number >= 0):
            raise AceError(f"shortest distance of {pair[0]}-{pair[1]} is {value!r}: give a distance in A, 0 or larger")
        if pair in table:
            table[pair] = number
    return table


def limit_matrix(numbers: np.ndarray, limits: Mapping[Pair, float]) -> np.ndarray:
    """Limits of all atom pairs, [n, n] in A (0 where a pair is not in ``limits``)."""
    kinds, inverse = np.unique(numbers, return_inverse=True)
    small = np.array(
        [[limits.get(pair_key(chemical_symbols[a], chemical_symbols[b]), 0.0) for b in kinds] for a in kinds]
    )
    return small[np.ix_(inverse, inverse)]


def short_pairs(atoms: Atoms, limits: Mapping[Pair, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs nearer than their limit: indices i, j [m], vectors r_j - r_i [m, 3] and limits [m] in A.

    Every pair appears in both directions, images included.
    """
    largest = max(limits.values(), default=0.0)
    if largest <= 0 or len(atoms) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, np.zeros((0, 3)), np.zeros(0)
    table = limit_matrix(atoms.numbers, limits)
    if not atoms.pbc.any() and len(atoms) <= 100:
        delta = atoms.positions[None, :, :] - atoms.positions[:, None, :]
        distance = np.linalg.norm(delta, axis=2)
        np.fill_diagonal(distance, np.inf)
        i, j = np.nonzero(distance < table)
        return i, j, delta[i, j], table[i, j]
    i, j, vector = neighbor_pairs(atoms, largest)
    limit = table[i, j]
    near = np.linalg.norm(vector, axis=1) < limit
    return i[near], j[near], vector[near], limit[near]


def too_short(atoms: Atoms, limits: Mapping[Pair, float]) -> bool:
    """Whether any two atoms (images included) are nearer than allowed."""
    return len(short_pairs(atoms, limits)[0]) > 0


def shortest(atoms: Atoms, reach: float = 4.0) -> dict[Pair, float]:
    """Shortest distance (A) of each element pair found within ``reach`` A."""
    i, j, vector = neighbor_pairs(atoms, reach)
    distance = np.linalg.norm(vector, axis=1)
    found: dict[Pair, float] = {}
    symbols = np.array(atoms.get_chemical_symbols())
    for a, b, value in zip(symbols[i], symbols[j], distance):
        key = pair_key(str(a), str(b))
        found[key] = min(found.get(key, np.inf), float(value))
    return found
