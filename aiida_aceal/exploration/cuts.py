"""Cutting a small cell or cluster about one atom of a big structure (PRM 7, 043801, Sec. V.D): geometry only.

A cut is made of units: single atoms, or whole molecules if asked. Units with an atom inside the inner sphere are never
removed; overlap removal and stoichiometry repair take only outer units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.formula import Formula
from ase.geometry import complete_cell, get_distances
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aiida_aceal.common.errors import AceError

from .distances import Pair, neighbor_pairs, short_pairs

#: bonded: nearer than this multiple of the sum of covalent radii
_BOND = 1.2
#: a connected piece above this size is a solid, not a molecule
_LARGEST_MOLECULE = 60
#: largest formula unit that is taken for a compound (else: an alloy of arbitrary composition)
_LARGEST_UNIT = 14


@dataclass
class Cut:
    """A piece of a big structure.

    ``atoms`` in their new cell; ``centre`` index in it; ``inner`` [n] bool: atoms of the sphere to be preserved;
    ``origin`` [n]: indices in the big structure; ``units`` [n]: atoms with the same number are removed together;
    ``radius`` of that sphere (A); ``removed``: how many atoms each repair took.
    """

    atoms: Atoms
    centre: int
    inner: np.ndarray
    origin: np.ndarray
    units: np.ndarray
    radius: float
    removed: dict[str, int]

    def without(self, units: np.ndarray, why: str) -> Cut:
        """The cut without the stated units."""
        keep = ~np.isin(self.units, units)
        removed = {**self.removed, why: self.removed.get(why, 0) + int((~keep).sum())}
        centre = int(keep[: self.centre].sum())
        return Cut(
            self.atoms[keep], centre, self.inner[keep], self.origin[keep], self.units[keep], self.radius, removed
        )

    @property
    def removable(self) -> np.ndarray:
        """Outer atoms whose whole unit is outer, [n] bool."""
        return ~np.isin(self.units, self.units[self.inner])


def group_centres(atoms: Atoms, gamma: np.ndarray, gamma_lo: float, reach: float) -> list[np.ndarray]:
    """Atoms above ``gamma_lo`` in groups; the first of a group is its centre.

    The largest grade makes the first centre; all atoms above ``gamma_lo`` within ``reach`` A of it belong to it; the
    largest of the rest makes the next, and so on.
    """
    waiting = np.flatnonzero(gamma > gamma_lo)
    waiting = waiting[np.argsort(-gamma[waiting], kind="stable")]
    groups = []
    while len(waiting):
        near = atoms.get_distances(waiting[0], waiting, mic=bool(atoms.pbc.any())) <= reach
        groups.append(waiting[near])
        waiting = waiting[~near]
    return groups


def molecule_units(atoms: Atoms) -> np.ndarray:
    """Number of the molecule of each atom, [n]; connected pieces too large for a molecule fall apart into atoms."""
    radii = _BOND * covalent_radii[atoms.numbers]
    i, j, vectors = neighbor_pairs(atoms, 2 * radii.max())
    distance = np.linalg.norm(vectors, axis=1)
    bonded = distance < radii[i] + radii[j]
    graph = coo_array((np.ones(int(bonded.sum())), (i[bonded], j[bonded])), shape=(len(atoms), len(atoms)))
    _, labels = connected_components(graph, directed=False)
    large = np.bincount(labels)[labels] > _LARGEST_MOLECULE
    labels[large] = labels.max() + 1 + np.arange(int(large.sum()))
    return labels


def _relative(big: Atoms, centre: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell [3, 3], and fractional positions about the centre [n, 3], in [-0.5, 0.5) along periodic directions."""
    cell = complete_cell(big.cell.array)
    fractional = (big.positions - big.positions[centre]) @ np.linalg.inv(cell)
    return cell, np.where(big.pbc, fractional - np.floor(fractional + 0.5), fractional)


def _gather_units(cell: np.ndarray, pbc: np.ndarray, fractional: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Bring the atoms of each unit together (images), so that a molecule is selected or left as a whole."""
    first = np.unique(units, return_index=True)[1]
    anchor = fractional[first[np.searchsorted(units[first], units)]] if len(first) < len(units) else fractional
    delta = fractional - anchor
    return anchor + np.where(pbc, delta - np.round(delta), delta)


def _inner(big: Atoms, centre: int, radius: float) -> np.ndarray:
    cell = complete_cell(big.cell.array)
    _, distance = get_distances(big.positions[[centre]], big.positions, cell=cell, pbc=big.pbc)
    return distance[0] <= radius


def scale_limits(big: Atoms, inner_radius: float) -> np.ndarray:
    """Smallest fraction of each cell vector that a periodic cut may have, [3]: no image within the inner sphere.

    Directions without periodicity, or already short, are kept whole (1).
    """
    cell = complete_cell(big.cell.array)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return np.where(big.pbc, np.minimum(1.0, 2.0 * inner_radius / heights), 1.0)


def cut_box(big: Atoms, centre: int, inner_radius: float, scale: np.ndarray, units: np.ndarray | None = None) -> Cut:
    """Periodic cell with the stated fraction of each cell vector, ``centre`` in its middle.

    :param scale: [3], each at least :func:`scale_limits`, 1 keeps the whole direction
    :raises AceError: a scale that would bring images into the inner sphere
    """
    scale = np.asarray(scale, dtype=float)
    if (scale < scale_limits(big, inner_radius) - 1e-9).any() or (scale > 1 + 1e-9).any():
        raise AceError(f"cut: scale {scale.tolist()} lets periodic images into the inner sphere of {inner_radius} A")
    cell, fractional = _relative(big, centre)
    units = np.arange(len(big)) if units is None else units
    fractional = _gather_units(cell, big.pbc, fractional, units)
    inner = _inner(big, centre, inner_radius)
    # a unit belongs to the box its mean lies in, so that images of the box neither lose nor double it
    index = np.unique(units, return_inverse=True)[1]
    mean = np.stack([np.bincount(index, fractional[:, k]) / np.bincount(index) for k in range(3)], axis=1)[index]
    cutting = big.pbc & (scale < 1 - 1e-12)
    chosen = ((mean >= -scale / 2) & (mean < scale / 2) | ~cutting).all(axis=1)
    chosen |= np.isin(units, units[inner])
    new_cell = cell * scale[:, None]
    shift = np.where(big.pbc, 0.5 * scale, 0.0) @ cell
    positions = fractional[chosen] @ cell + shift
    if not big.pbc.all():
        positions += np.where(big.pbc, 0.0, big.positions[centre] @ np.linalg.inv(cell)) @ cell
    atoms = Atoms(numbers=big.numbers[chosen], positions=positions, cell=new_cell, pbc=big.pbc)
    if not big.pbc.all():
        atoms.cell[~big.pbc] = big.cell.array[~big.pbc]
    origin = np.flatnonzero(chosen)
    return Cut(atoms, int(np.searchsorted(origin, centre)), inner[chosen], origin, units[chosen], inner_radius, {})


def cut_cluster(
    big: Atoms, centre: int, inner_radius: float, radius: float, vacuum: float, units: np.ndarray | None = None
) -> Cut:
    """Free cluster of all units with an atom within ``radius`` A of ``centre``, in a box with ``vacuum`` A around.

    The sphere may contain images of one atom: each image is an atom of the cluster.
    """
    if radius < inner_radius:
        raise AceError(f"cut: the cluster's radius {radius} A is smaller than the inner sphere {inner_radius} A")
    units = np.arange(len(big)) if units is None else units
    reach = radius + (12.0 if len(np.unique(units)) < len(big) else 0.0)
    one = Atoms(numbers=big.numbers, positions=big.positions, cell=big.cell, pbc=big.pbc)
    index, vectors = _sphere(one, centre, reach)
    if reach > radius:
        pieces = _image_units(one, index, vectors, units)
    else:
        pieces = np.arange(len(index))
    distance = np.linalg.norm(vectors, axis=1)
    chosen = np.isin(pieces, pieces[distance <= radius])
    atoms = Atoms(numbers=big.numbers[index[chosen]], positions=vectors[chosen])
    atoms.set_cell(np.ptp(atoms.positions, axis=0) + 2 * vacuum)
    atoms.center()
    return Cut(atoms, 0, (distance <= inner_radius)[chosen], index[chosen], pieces[chosen], inner_radius, {})


def _sphere(big: Atoms, centre: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """All atoms and images within ``radius`` A of an atom: indices [m] and vectors [m, 3], the atom itself first."""
    cell, fractional = _relative(big, centre)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    images = np.where(big.pbc, np.ceil(radius / heights + 0.5).astype(int), 0)
    shifts = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in images), indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = ((fractional[None, :, :] + shifts[:, None, :]) @ cell).reshape(-1, 3)
    distance = np.linalg.norm(vectors, axis=1)
    near = np.flatnonzero(distance <= radius)
    near = near[np.argsort(distance[near], kind="stable")]
    return np.tile(np.arange(len(big)), len(shifts))[near], vectors[near]


def _image_units(big: Atoms, index: np.ndarray, vectors: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Molecule number of each image atom of a neighbourhood: bonded and of the same unit."""
    piece = Atoms(numbers=big.numbers[index], positions=vectors)
    bonds = molecule_units(piece)
    return np.unique(np.stack([bonds, units[index]], axis=1), axis=0, return_inverse=True)[1].ravel()


def remove_overlaps(cut: Cut, limits: Mapping[Pair, float]) -> Cut:
    """Remove outer units that come too near to others across the seam, those with most conflicts first.

    Pairs that are as near in the original stay: only distances across the seam, which the cut has made, are judged.
    """
    while True:
        i, j, vector, limit = short_pairs(cut.atoms, limits)
        # positions of a cut are not wrapped: a pair that does not cross the seam has its plain difference as vector
        plain = cut.atoms.positions[j] - cut.atoms.positions[i]
        open_ = cut.removable[i] & (np.abs(vector - plain).max(axis=1, initial=0.0) > 1e-6)
        if not open_.any():
            return cut
        # every pair appears in both directions, so i runs over all atoms in conflict
        depth = np.bincount(i[open_], (1 - np.linalg.norm(vector, axis=1) / limit)[open_] + 1, minlength=len(cut.atoms))
        cut = cut.without(cut.units[[int(np.argmax(depth))]], "overlap")


def formula_unit(big: Atoms) -> str | None:
    """Formula unit of a compound, or None for elements and for alloys of arbitrary composition."""
    counts = big.symbols.formula.count()
    divisor = gcd(*counts.values())
    if len(counts) < 2 or sum(counts.values()) // divisor > _LARGEST_UNIT:
        return None
    return Formula.from_dict({name: amount // divisor for name, amount in counts.items()}).format("hill")


def repair_stoichiometry(cut: Cut, formula: str) -> Cut:
    """Remove surplus outer units until the composition is a multiple of ``formula``; crowded and far ones first.

    :raises AceError: elements not in ``formula``, or too few outer units of the surplus elements
    """
    try:
        unit = Formula(formula).count()
    except ValueError as error:
        raise AceError(f"stoichiometry: '{formula}' is not a formula") from error
    strange = sorted(set(cut.atoms.symbols) - set(unit))
    if strange:
        raise AceError(f"stoichiometry: the structure contains {', '.join(strange)}, which {formula} does not")
    crowding = _crowding(cut.atoms)
    distance = np.linalg.norm(cut.atoms.positions - cut.atoms.positions[cut.centre], axis=1)
    order = {int(origin): rank for rank, origin in enumerate(np.lexsort((-distance, crowding)))}
    priority = np.array([order[k] for k in range(len(cut.atoms))])  # small: removed first
    while True:
        surplus = _surplus(cut.atoms, unit)
        if not surplus:
            return cut
        candidates = [
            label
            for label in np.unique(cut.units[cut.removable])
            if not Counter(cut.atoms.symbols[cut.units == label]) - Counter(surplus)
        ]
        if not candidates:
            raise AceError(
                f"stoichiometry: {cut.atoms.get_chemical_formula()} cannot be made a multiple of {formula} by removing "
                f"outer atoms (surplus {dict(surplus)}); allow more atoms, or state another formula"
            )
        best = min(candidates, key=lambda label: priority[cut.units == label].min())
        keep = cut.units != best
        cut, priority = cut.without(np.array([best]), "stoichiometry"), priority[keep]


def _surplus(atoms: Atoms, unit: Mapping[str, int]) -> Counter:
    counts = Counter(atoms.get_chemical_symbols())
    copies = min(counts[name] // amount for name, amount in unit.items())
    return Counter({name: n - copies * unit[name] for name, n in counts.items() if n > copies * unit[name]})


def _crowding(atoms: Atoms, reach: float = 4.0) -> np.ndarray:
    """Distance to the nearest neighbour, [n] (``reach`` if there is none)."""
    i, _, vectors = neighbor_pairs(atoms, reach)
    nearest = np.full(len(atoms), reach)
    np.minimum.at(nearest, i, np.linalg.norm(vectors, axis=1))
    return nearest
