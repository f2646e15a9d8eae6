"""Crystals in spglib's standard setting, prototypes of phases, supercells.

The standard conventional cell (International Tables, as `spglib.standardize_cell` gives it) is what Voigt indices of
elastic constants and indices of planes refer to: a along x, b in the x-y plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError

#: prototypes of elements: name -> (space group, atoms in the primitive cell)
PROTOTYPES = {
    "sc": (221, 1),
    "fcc": (225, 1),
    "bcc": (229, 1),
    "hcp": (194, 2),
    "diamond": (227, 2),
}
INSTALL = "pip install 'aiida-aceal[properties]'"


@dataclass(frozen=True)
class Crystal:
    """A crystal and its symmetry.

    ``conventional`` and ``primitive`` are the standard cells, oriented alike; ``rotations`` [m, 3, 3] the operations
    of the point group on Cartesian vectors.
    """

    name: str
    conventional: Atoms
    primitive: Atoms
    number: int
    symbol: str
    rotations: np.ndarray

    @property
    def prototype(self) -> str | None:
        """Name of the prototype of an element (fcc, bcc, hcp, sc, diamond), None for other crystals."""
        if len(set(self.primitive.numbers)) > 1:
            return None
        found = (self.number, len(self.primitive))
        return next((name for name, kind in PROTOTYPES.items() if kind == found), None)


def need(module: str) -> None:
    """:raises AceError: a library of the extra ``properties`` is not installed."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise AceError(f"the Python package '{module}' is not installed here: {INSTALL}")


def crystal(atoms: Atoms, name: str = "", symprec: float = 1e-3) -> Crystal:
    """A structure in its standard setting.

    :param name: default: that in ``info["name"]``, else prototype, else formula and space group
    :param symprec: tolerance of positions, Angstrom
    :raises AceError: not periodic in three directions, or no symmetry found (overlapping atoms)
    """
    need("spglib")
    import spglib

    if atoms.cell.rank < 3 or not atoms.pbc.all():
        raise AceError(
            f"{name or atoms.get_chemical_formula()}: properties need a crystal that is periodic in "
            "three directions: give its cell, and pbc T T T"
        )
    cells = [_standard(atoms, primitive, False, symprec) for primitive in (False, True)]
    dataset = spglib.get_symmetry_dataset(_raw(cells[1]), symprec=symprec)
    rotations = _rotations(cells[1], dataset.rotations)
    made = Crystal("", cells[0], cells[1], int(dataset.number), str(dataset.international), rotations)
    formula = cells[1].get_chemical_formula(empirical=True)
    name = name or str(atoms.info.get("name", "")) or made.prototype or f"{formula}_{made.symbol.replace('/', '')}"
    return Crystal(name, *cells, made.number, made.symbol, rotations)


def point_group(atoms: Atoms, symprec: float = 1e-3) -> np.ndarray:
    """Operations [m, 3, 3] of a crystal's point group on Cartesian vectors, in the orientation that it has."""
    import spglib

    cell = _standard(atoms, True, True, symprec)
    return _rotations(cell, spglib.get_symmetry(_raw(cell), symprec=symprec)["rotations"])


def centring(atoms: Atoms, symprec: float = 1e-3) -> str:
    """Centring of a standard conventional cell: P, F, I, A, C or R."""
    import spglib

    return str(spglib.get_symmetry_dataset(_raw(atoms), symprec=symprec).international)[0]


def _raw(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.asarray(atoms.cell), atoms.get_scaled_positions(), atoms.numbers


def _standard(atoms: Atoms, primitive: bool, keep: bool, symprec: float) -> Atoms:
    """Standard cell; ``keep``: in the orientation of the structure and without idealising it."""
    need("spglib")
    import spglib

    found = spglib.standardize_cell(_raw(atoms), to_primitive=primitive, no_idealize=keep, symprec=symprec)
    if found is None:
        name = atoms.info.get("name", atoms.get_chemical_formula())
        raise AceError(f"{name}: no symmetry was found within {symprec:g} A (do atoms overlap?)")
    lattice, positions, numbers = found
    return Atoms(numbers=numbers, scaled_positions=positions, cell=lattice, pbc=True)


def _rotations(atoms: Atoms, rotations: np.ndarray) -> np.ndarray:
    lattice = np.asarray(atoms.cell).T
    return np.array([lattice @ w @ np.linalg.inv(lattice) for w in np.unique(rotations, axis=0)])


def prototype(name: str, element: str, volume: float) -> Atoms:
    """An element in one of the structures `PROTOTYPES`.

    :param volume: Angstrom^3 per atom
    :raises AceError: unknown name
    """
    from ase.build import bulk

    if name not in PROTOTYPES:
        raise AceError(f"unknown phase '{name}': known are {', '.join(PROTOTYPES)}; give others as structures")
    kwargs = {"covera": np.sqrt(8 / 3)} if name == "hcp" else {}
    atoms = bulk(element, name, a=3.0, **kwargs)
    atoms.set_cell(atoms.cell * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    atoms.info["name"] = name
    return atoms


def heights(cell: np.ndarray) -> np.ndarray:
    """Distances [3] between opposite faces of a cell, Angstrom."""
    return 1.0 / np.linalg.norm(np.linalg.inv(np.asarray(cell)), axis=0)


def repeats(cell: np.ndarray, length: float) -> tuple[int, int, int]:
    """How often a cell is repeated so that opposite faces are at least ``length`` Angstrom apart."""
    counts = np.maximum(1, np.ceil(length / heights(cell) - 1e-6)).astype(int)
    return (int(counts[0]), int(counts[1]), int(counts[2]))


def named(atoms: Atoms, property_name: str, case: str) -> Atoms:
    """A bare copy that knows what it is for: ``info`` has ``property`` and ``case`` only."""
    made = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    made.info.update({"property": property_name, "case": case})
    return made


def cases(frames: Sequence[Atoms], prefix: str = "") -> dict[str, Atoms]:
    """Structures by the rest of their case, those whose case begins with ``prefix``; raises `AceError` if none does."""
    found = {f.info["case"][len(prefix) :]: f for f in frames if str(f.info.get("case", "")).startswith(prefix)}
    if not found:
        raise AceError(f"no structures '{prefix}*' among those that were computed")
    return found
