"""Settings of a campaign proposed from a structure: what ``aiida-aceal init`` writes down.

Rules of thumb, chosen on copper, CuNi, water, silicon and a copper surface; each is a line of :func:`propose`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers, covalent_radii

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.distances import neighbor_pairs, shortest

#: empty space that makes a slab (Angstrom)
VACUUM = 6.0
#: atoms nearer than this many times the sum of their covalent radii are bonded
BOND = 1.25
#: elements that form molecules
MOLECULAR = frozenset(("H", "B", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"))
#: elements that are no metals; of the others alloys are made
NON_METALS = MOLECULAR | {"He", "Ne", "Ar", "Kr", "Xe", "Si", "Ge", "As", "Se", "Sb", "Te", "At"}
#: edges of cells that are labelled, and of those of MD (Angstrom), and their numbers of atoms
LABEL_EDGE, MD_EDGE, LABEL_ATOMS, MD_ATOMS = 7.0, 10.0, 64, 250
#: length of an MD run (ps)
MD_LENGTH = 10.0


@dataclass(frozen=True)
class Proposal:
    """Numbers of an input."""

    kind: str
    elements: list[str]
    formula: str
    protocol: str
    cutoff: float
    #: pair -> (r_in, delta_in), Angstrom
    repulsion: dict[str, tuple[float, float]]
    #: repetitions of the cells that are labelled, and of those of MD
    label_cell: list[int]
    md_cell: list[int]
    amplitude: tuple[float, float]
    temperature: tuple[float, float]
    timestep: float
    steps: int
    ensemble: str
    walkers: int
    n_initial: int
    n_validation: int
    n_test: int
    n_select: int
    n_generations: int
    fractions: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def kind_of(atoms: Atoms) -> str:
    """``molecule`` (no period), ``liquid`` (molecules in a box), ``slab``, ``alloy`` (metals) or ``crystal``."""
    if not atoms.pbc.any() or atoms.cell.rank < 3:
        return "molecule"
    if _is_molecular(atoms):
        return "liquid"
    if vacuum_direction(atoms) is not None:
        return "slab"
    elements = set(atoms.get_chemical_symbols())
    return "alloy" if len(elements) > 1 and not elements & NON_METALS else "crystal"


def vacuum_direction(atoms: Atoms) -> int | None:
    """Cell vector along which there is a gap of at least `VACUUM`, ``None`` if there is none."""
    heights = _heights(atoms)
    for axis in range(3):
        places = np.sort(np.linalg.solve(np.asarray(atoms.cell).T, atoms.positions.T)[axis] % 1.0)
        gap = np.diff(np.append(places, places[0] + 1.0)).max()
        if gap * heights[axis] >= VACUUM and len(atoms) > 1:
            return axis
    return None


def _heights(atoms: Atoms) -> np.ndarray:
    """Distances of opposite faces of the cell (Angstrom)."""
    return 1.0 / np.linalg.norm(np.asarray(atoms.cell.reciprocal()), axis=1)


def _is_molecular(atoms: Atoms) -> bool:
    """Whether all atoms belong to finite groups of bonded atoms, of elements that form molecules."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not set(atoms.get_chemical_symbols()) <= MOLECULAR:
        return False
    radii = covalent_radii[atoms.numbers]
    i, j, vectors = neighbor_pairs(atoms, 2 * BOND * radii.max())
    bonded = np.linalg.norm(vectors, axis=1) < BOND * (radii[i] + radii[j])
    graph = coo_array((np.ones(bonded.sum()), (i[bonded], j[bonded])), shape=(len(atoms), len(atoms)))
    count, groups = connected_components(graph, directed=False)
    sizes = np.bincount(groups)
    return count > 1 and sizes.min() > 1 and sizes.max() <= len(atoms) / 2


def propose(
    structures: Sequence[Atoms],
    temperature: tuple[float, float] = (300.0, 1000.0),
    budget: int = 200,
    n_labelled: int = 0,
    cheap: bool = False,
) -> Proposal:
    """Numbers for a campaign on the first structure; distances are taken from all of them.

    :param structures: at least one
    :param temperature: of the runs, lowest and highest (K)
    :param budget: labels that may be computed
    :param n_labelled: structures that have labels already
    :param cheap: whether the validation and test sets come from dynamics of the reference, and cost no budget
    :raises AceError: the structure is of no use, or the budget too small
    """
    atoms = structures[0]
    low, high = temperature
    if not 0 < low <= high:
        raise AceError(f"temperature: from {low:g} to {high:g} K is no range; give the lower one first")
    if budget < 20:
        raise AceError(f"budget: {budget} labels are too few for a campaign; 20 are the least, 100 to 500 are usual")
    nearest: dict[str, float] = {}
    for frame in structures:
        for pair, distance in shortest(frame, 4.0).items():
            name = "".join(sorted(set(pair)))  # as in `bonds` of a basis
            nearest[name] = min(distance, nearest.get(name, np.inf))
    if not nearest:
        raise AceError("structure: no two atoms are within 4 A of each other; give one with bonds")
    kind = kind_of(atoms)
    notes = []
    elements = sorted(set().union(*(frame.get_chemical_symbols() for frame in structures)))
    if kind in ("molecule", "liquid"):
        # the shell of hydrogen bonds, not the bond in the molecule
        cutoff, spread = 6.0, (0.02, 0.08)
    else:
        reach = max(nearest[pair] for pair in nearest)
        # 2.15 nearest distances take in the third shell of close packing
        cutoff, spread = min(7.0, max(5.0, round(2 * 2.15 * min(reach, 3.25)) / 2)), None
    first = min(nearest.values())
    amplitude = spread or (round(0.01 * first, 3), round(0.06 * first, 3))
    repulsion = {pair: (round(0.72 * distance, 2), round(min(0.3, 0.15 * distance), 2))
                 for pair, distance in sorted(nearest.items())}  # fmt: skip
    lightest = min(float(atomic_masses[atomic_numbers[el]]) for el in elements)
    timestep = 0.0005 if lightest < 2 else 0.001 if lightest < 20 else 0.0015 if lightest < 45 else 0.002
    label_cell, md_cell = _cells(atoms, kind)
    if np.prod(label_cell) * len(atoms) > 2 * LABEL_ATOMS:
        notes.append(f"the structure has {len(atoms)} atoms; a smaller cell would make cheaper labels")
    n_initial = min(60, max(8, round((0.3 if kind in ("molecule", "liquid") else 0.2) * budget)))
    n_held = 0 if cheap else min(30, max(4, round(0.1 * budget)))
    n_select = min(30, max(3, round(0.06 * budget)))
    left = budget - (0 if n_labelled else n_initial) - (0 if n_labelled else 2 * n_held)
    return Proposal(
        kind=kind,
        elements=elements,
        formula=atoms.get_chemical_formula(),
        protocol="fast" if budget < 100 else "balanced",
        cutoff=cutoff,
        repulsion=repulsion,
        label_cell=label_cell,
        md_cell=md_cell,
        amplitude=amplitude,
        temperature=(low, high),
        timestep=timestep,
        steps=int(10 * math.ceil(MD_LENGTH / timestep / 10)),
        ensemble="npt" if kind in ("crystal", "alloy") else "nvt",
        # short runs at first: several starts find more than one long one
        walkers=4 if kind in ("molecule", "liquid") else 1,
        n_initial=n_initial,
        n_validation=n_held,
        n_test=n_held,
        n_select=n_select,
        n_generations=max(1, math.ceil(left / n_select)),
        fractions=_fractions(atoms) if kind == "alloy" else {},
        notes=notes,
    )


def _cells(atoms: Atoms, kind: str) -> tuple[list[int], list[int]]:
    """Repetitions for labels and for MD: as few atoms as give the edges that are wanted."""
    if kind == "molecule":
        return [1, 1, 1], [1, 1, 1]
    heights = _heights(atoms)
    fixed = vacuum_direction(atoms) if kind == "slab" else None

    def cell(edge: float, most: int) -> list[int]:
        size = [1 if axis == fixed else max(1, math.ceil(edge / heights[axis] - 0.05)) for axis in range(3)]
        while len(atoms) * math.prod(size) > most and max(size) > 1:
            size[int(np.argmax([n * h if n > 1 else 0.0 for n, h in zip(size, heights)]))] -= 1
        return size

    return cell(LABEL_EDGE, LABEL_ATOMS), cell(MD_EDGE, MD_ATOMS)


def _fractions(atoms: Atoms) -> Mapping[str, float]:
    symbols = atoms.get_chemical_symbols()
    return {el: round(symbols.count(el) / len(symbols), 4) for el in sorted(set(symbols))}
