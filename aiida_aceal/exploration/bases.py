"""Base structures that generators change: crystals and molecules by name, files, and structures written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.setting_words import unknown_key
from aiida_aceal.common.settings import Settings, build, setting

from .formats import read_files


class BulkStructure(Settings):
    """A crystal by name, as `ase.build.bulk` makes it."""

    heading = "Structure: a crystal"

    bulk: str = setting(help="Chemical symbol or formula, such as Cu or NaCl.")
    crystal: str | None = setting(None, "fcc, bcc, hcp, diamond, rocksalt, ... [default: that of the element].")
    a: float | None = setting(None, "Lattice constant [default: that of the element].", unit="A", gt=0)
    b: float | None = setting(None, "Lattice constant.", unit="A", gt=0)
    c: float | None = setting(None, "Lattice constant.", unit="A", gt=0)
    alpha: float | None = setting(None, "Angle of rhombohedral cells.", unit="degrees", gt=0, lt=180)
    covera: float | None = setting(None, "Ratio c/a of hexagonal cells.", gt=0)
    u: float | None = setting(None, "Internal coordinate of wurtzite.")
    orthorhombic: bool = setting(False, "Whether an orthorhombic cell is made in place of the primitive one.")
    cubic: bool = setting(False, "Whether a cubic cell is made in place of the primitive one.")
    basis: list[list[float]] | None = setting(None, "Scaled positions of the atoms in the primitive cell.")


class MoleculeStructure(Settings):
    """A molecule by name, as `ase.build.molecule` makes it."""

    heading = "Structure: a molecule"

    molecule: str = setting(help="Name of the molecule, such as H2O.")
    vacuum: float | None = setting(None, "Empty space on each side; null: no cell.", unit="A", ge=0)


class FileStructure(Settings):
    """Structures of a file, used one after the other."""

    heading = "Structure: a file"

    file: str = setting(help="File name, in any format that ASE reads.")
    index: int | str = setting(":", "Number or slice of the structures, as ASE takes it.")


class AtomsStructure(Settings):
    """Atoms written out, as `ase.Atoms` takes them."""

    heading = "Structure: atoms"

    symbols: str | list[str] = setting(help="Formula, or a list of chemical symbols.")
    positions: list[list[float]] | None = setting(None, "Positions.", unit="A")
    scaled_positions: list[list[float]] | None = setting(None, "Positions in units of the cell vectors.")
    cell: list[float | list[float]] | None = setting(
        None, "Three lengths, three lengths and three angles, or three vectors.", unit="A"
    )
    pbc: bool | list[bool] | None = setting(None, "Periodic directions [default: all if there is a `cell`].")


#: key that tells a form from the others -> its declaration
FORMS: dict[str, type[Settings]] = {
    "bulk": BulkStructure, "molecule": MoleculeStructure, "file": FileStructure, "symbols": AtomsStructure,
}  # fmt: skip


def base_structures(value: Any, base_directory: str | Path | None = None) -> list[Atoms]:
    """Base structures from any of the forms that `generate` accepts. Raises :class:`AceError`."""
    if isinstance(value, Atoms):
        return [_bare(value)]
    if isinstance(value, (str, Path)):
        return [_bare(atoms) for atoms in read_files(value, ":", base_directory)]
    if isinstance(value, Sequence) and value and all(isinstance(item, Atoms) for item in value):
        return [_bare(item) for item in value]
    if not isinstance(value, Mapping):
        raise AceError(f"structure: {value!r} is neither a file name nor a mapping such as {{bulk: Cu}}")
    form = next((name for name in FORMS if name in value), None)
    if form is None:
        near = unknown_key("structure", repr(next(iter(value))), str(next(iter(value))), FORMS) if value else ""
        raise AceError(near or f"structure: one of the keys {', '.join(FORMS)} must be given")
    plain = {key: str(item) if isinstance(item, Path) else item for key, item in value.items()}
    given = build(FORMS[form], plain, "structure")
    if isinstance(given, FileStructure):
        return [_bare(atoms) for atoms in read_files(given.file, given.index, base_directory)]
    try:
        return [_built(given, given.to_dict(given=True))]
    except AceError:
        raise
    except Exception as error:  # ASE raises anything from KeyError to RuntimeError here
        raise AceError(f"structure {dict(value)!r}: {type(error).__name__}: {error}") from error


def _built(given: Settings, values: dict[str, Any]) -> Atoms:
    if isinstance(given, BulkStructure):
        from ase.build import bulk

        return bulk(values.pop("bulk"), values.pop("crystal", None), **values)
    if isinstance(given, MoleculeStructure):
        from ase.build import molecule

        return molecule(given.molecule, vacuum=given.vacuum)
    cell = values.get("cell")
    return Atoms(**{**values, "pbc": cell is not None if values.get("pbc") is None else values["pbc"]})


def _bare(atoms: Atoms) -> Atoms:
    """Species, positions, cell only: labels, velocities and constraints belong to another structure."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
