"""Filters of candidates. Each is called with a structure and returns the reason to drop it, or None to keep it.

Reasons are short fixed words (``too_short``, ``duplicate``, ``composition``, ``below_window``, ``above_window``), so
that they can be counted. Filters hold no global state; :class:`DuplicateFilter` remembers what it has let pass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from aiida_aceal.common.errors import AceError

from .distances import DEFAULT_FRACTION, minimum_distances, neighbor_pairs, too_short


class Filter(Protocol):
    """Reason to drop ``atoms``, or None."""

    def __call__(self, atoms: Atoms) -> str | None: ...


def gamma_max(atoms: Atoms) -> float:
    """Largest grade of a graded structure (array ``gamma``, else info ``gamma_max``). Raises :class:`AceError`."""
    if "gamma" in atoms.arrays and len(atoms):
        return float(np.max(atoms.arrays["gamma"]))
    if "gamma_max" in atoms.info:
        return float(atoms.info["gamma_max"])
    raise AceError(f"{atoms.get_chemical_formula()} has no array 'gamma': grade it before the window filter")


#: Structures above the window that pools and active exploration keep if they found none inside.
ABOVE_WINDOW = 3


@dataclass(frozen=True)
class WindowFilter:
    """Keeps ``gamma_lo < gamma < gamma_hi`` of the largest grade in the structure (PRM 7, 043801, Appendix E)."""

    gamma_lo: float = 2.0
    gamma_hi: float = float("inf")

    def __post_init__(self) -> None:
        if not (0 <= self.gamma_lo < self.gamma_hi):
            raise AceError(
                f"window: gamma_lo {self.gamma_lo} must be zero or larger and below gamma_hi {self.gamma_hi}"
            )

    def __call__(self, atoms: Atoms) -> str | None:
        value = gamma_max(atoms)
        if not np.isfinite(value):
            return "not_finite"
        if value <= self.gamma_lo:
            return "below_window"
        return "above_window" if value >= self.gamma_hi else None


@dataclass(frozen=True)
class DistanceFilter:
    """Drops structures with two atoms nearer than their pair's limit (see :func:`.distances.minimum_distances`)."""

    stated: float | Mapping[str, float] | None = None
    fraction: float = DEFAULT_FRACTION

    def __post_init__(self) -> None:
        minimum_distances((), self.stated, self.fraction)

    def __call__(self, atoms: Atoms) -> str | None:
        limits = minimum_distances(set(atoms.symbols), self.stated, self.fraction)
        return "too_short" if too_short(atoms, limits) else None


@dataclass(frozen=True)
class CompositionFilter:
    """Keeps structures of the stated elements, sizes and fractions.

    :param elements: allowed elements (others drop the structure)
    :param required: elements that must be there
    :param atoms: [smallest, largest] number of atoms
    :param fractions: ``{"Ni": [0.2, 0.8]}``: allowed range of the atomic fraction
    """

    elements: Sequence[str] | None = None
    required: Sequence[str] = ()
    atoms: tuple[int, int] | None = None
    fractions: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in [*(self.elements or ()), *self.required, *self.fractions]:
            if name not in atomic_numbers:
                raise AceError(f"composition filter: '{name}' is not an element")
        for name, span in [*self.fractions.items(), *([("atoms", self.atoms)] if self.atoms else [])]:
            if not isinstance(span, (list, tuple)) or len(span) != 2 or not 0 <= span[0] <= span[1]:
                raise AceError(f"composition filter: range of {name} is {span!r}; write [smallest, largest]")

    def __call__(self, atoms: Atoms) -> str | None:
        counts = Counter(atoms.get_chemical_symbols())
        if self.atoms is not None and not self.atoms[0] <= len(atoms) <= self.atoms[1]:
            return "size"
        if self.elements is not None and set(counts) - set(self.elements):
            return "composition"
        if any(counts[name] == 0 for name in self.required):
            return "composition"
        for name, (low, high) in self.fractions.items():
            if not low <= counts[name] / max(len(atoms), 1) <= high:
                return "composition"
        return None


def fingerprint(atoms: Atoms, cutoff: float = 6.0, functions: int = 8) -> np.ndarray:
    """Invariant of translation, rotation, order of atoms and choice of cell: smooth sums over neighbour distances.

    For each ordered element pair, mean and mean square over the central atoms of ``functions`` radial sums (cosines
    times a smooth cut-off), [2 * pairs * functions]. Equal structures agree to rounding; a displacement of 0.01 A
    changes the largest entry by some 1e-3.
    """
    i, j, vectors = neighbor_pairs(atoms, cutoff)
    distance = np.linalg.norm(vectors, axis=1)
    kinds, index = np.unique(atoms.numbers, return_inverse=True)
    window = (0.5 * (1 + np.cos(np.pi * distance / cutoff))) ** 2
    radial = window[:, None] * np.cos(np.pi * np.arange(functions) * distance[:, None] / cutoff)
    sums = np.zeros((len(atoms), len(kinds), functions))
    np.add.at(sums, (i, index[j]), radial)
    parts = []
    for kind in range(len(kinds)):
        own = sums[index == kind]
        parts += [own.mean(axis=0).ravel(), (own**2).mean(axis=0).ravel()]
    return np.concatenate(parts) if parts else np.zeros(0)


class DuplicateFilter:
    """Drops structures equal to one seen before, whatever their order of atoms, orientation, origin or cell.

    Two structures are equal if their reduced compositions agree and their fingerprints differ by less than
    ``tolerance`` (relative to the largest entry). Structures are looked up by composition and the binned first entry,
    so that each costs a few comparisons only. A supercell counts as equal to its cell: its environments are the same.
    """

    def __init__(self, tolerance: float = 1e-4, cutoff: float = 6.0) -> None:
        if not 0 < tolerance < 1:
            raise AceError(f"duplicate filter: tolerance is {tolerance}; it is relative and must lie between 0 and 1")
        self.tolerance, self.cutoff = tolerance, cutoff
        self._seen: dict[tuple, list[np.ndarray]] = defaultdict(list)

    def __call__(self, atoms: Atoms) -> str | None:
        vector = fingerprint(atoms, self.cutoff)
        scale = max(1.0, float(np.abs(vector).max(initial=0.0)))
        vector /= scale
        name = atoms.symbols.formula.reduce()[0].format("hill")
        # logarithm: the scale itself is then part of the comparison and its bins are relative
        level = np.log(scale) / self.tolerance
        for neighbour in (-1, 0, 1):
            for other in self._seen.get((name, int(np.floor(level)) + neighbour), ()):
                if np.abs(other - np.append(vector, level * self.tolerance)).max() < self.tolerance:
                    return "duplicate"
        self._seen[(name, int(np.floor(level)))].append(np.append(vector, level * self.tolerance))
        return None

    def __len__(self) -> int:
        return sum(len(group) for group in self._seen.values())


@dataclass
class FilterChain:
    """Filters one after the other; ``counts`` says how many were kept and why the others were dropped."""

    filters: Sequence[Filter]
    counts: Counter = field(default_factory=Counter)

    def reason(self, atoms: Atoms) -> str | None:
        """First reason to drop ``atoms``, or None; counted."""
        for rule in self.filters:
            reason = rule(atoms)
            if reason is not None:
                self.counts[reason] += 1
                return reason
        self.counts["kept"] += 1
        return None

    def __call__(self, structures: Iterable[Atoms]) -> Iterator[Atoms]:
        """The structures that pass all filters, one by one."""
        return (atoms for atoms in structures if self.reason(atoms) is None)
