"""Files of the structures that somebody labels by other means: extended XYZ, and inputs of VASP if they are wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from aiida_aceal.common.atomic import write_text
from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.common.settings import Settings, setting

#: file with all structures
STRUCTURES = "structures.extxyz"


class ManualLabelSettings(Settings):
    """Labels that are computed elsewhere and brought back."""

    heading = "Labels: `settings` of `aceal.label.manual`"

    stress: bool = setting(True, "Whether the stress of a label is used, if it has one.")
    max_force: float | None = setting(None, "Labels with a larger force are refused.", unit="eV/A", gt=0)
    poscar: bool = setting(False, "Whether a folder with a POSCAR is written for each structure, too.")
    incar: dict[str, Any] | None = setting(None, "INCAR tags; written beside each POSCAR.")
    kpoints_spacing: float | None = setting(
        None, "Largest distance of k-points; a KPOINTS file of a Gamma-centred mesh is written beside each POSCAR.",
        unit="2 pi/A", gt=0,
    )  # fmt: skip
    pause: bool = setting(
        True, "Whether a campaign of the daemon pauses until the labels are there; otherwise it ends and is resumed."
    )


def write_handout(folder: Path, structures: Sequence[Atoms], settings: ManualLabelSettings) -> list[Path]:
    """Write the structures; returns the files.

    The atoms of a POSCAR are sorted by element. A structure without a cell has no POSCAR: it must be put into a box.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bare = []
    for atoms in structures:
        copy = atoms.copy()
        copy.info = {key: value for key, value in atoms.info.items() if key in ("aceal_hash", "source")}
        bare.append(copy)
    write_configurations(folder / STRUCTURES, bare)
    written = [folder / STRUCTURES]
    if not (settings.poscar or settings.incar or settings.kpoints_spacing):
        return written
    for index, atoms in enumerate(bare):
        if atoms.cell.rank < 3:
            continue
        place = folder / f"{index:05d}"
        place.mkdir(exist_ok=True)
        write(place / "POSCAR", atoms, format="vasp", direct=True, sort=True)
        written.append(place / "POSCAR")
        if settings.incar:
            write_text(place / "INCAR", incar_text(settings.incar))
            written.append(place / "INCAR")
        if settings.kpoints_spacing:
            write_text(place / "KPOINTS", kpoints_text(atoms, settings.kpoints_spacing))
            written.append(place / "KPOINTS")
    return written


def incar_text(tags: Mapping[str, Any]) -> str:
    """INCAR of the given tags."""

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return ".TRUE." if value else ".FALSE."
        return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

    return "".join(f"{key.upper()} = {text(value)}\n" for key, value in tags.items())


def kpoints_text(atoms: Atoms, spacing: float) -> str:
    """KPOINTS of a Gamma-centred mesh whose points are at most ``spacing`` (2 pi/Angstrom) apart."""
    lengths = np.linalg.norm(np.asarray(atoms.cell.reciprocal()), axis=1)
    mesh = [max(1, int(np.ceil(length / spacing - 1e-9))) if periodic else 1 for length, periodic in
            zip(lengths, atoms.pbc)]  # fmt: skip
    return f"mesh of spacing {spacing:g} x 2 pi/A\n0\nGamma\n{' '.join(map(str, mesh))}\n0 0 0\n"
