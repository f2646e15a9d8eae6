"""The public data sets that studies read, and where they come from.

None of them is part of the package. A folder with the files is named by ``--data`` or the environment variable
``ACEAL_DATA``. Each file is an extended XYZ with total energies (eV) in the info entry ``REF_energy`` and forces
(eV/Angstrom) in the array ``REF_forces``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.common.errors import AceError

VARIABLE = "ACEAL_DATA"
ENERGY, FORCES = "REF_energy", "REF_forces"


@dataclass(frozen=True)
class Source:
    """One file: its name in the folder, what it holds, and where it was published."""

    file: str
    content: str
    origin: str
    link: str


_PACEMAKER = "examples of python-ace (academic licence)"
_PACEMAKER_LINK = "https://github.com/ICAMS/python-ace"
_FITSNAP = "examples of FitSNAP (GPL)"
_FITSNAP_LINK = "https://github.com/FitSNAP/FitSNAP"
_MLEARN_LINK = "https://github.com/materialsvirtuallab/mlearn"

SOURCES = {
    "Cu-II": Source(
        "Cu-II_1k.extxyz", "1000 structures of copper up to 1 eV/atom above fcc, DFT", _PACEMAKER, _PACEMAKER_LINK
    ),
    "Al-Ni": Source("AlNi_174.extxyz", "174 structures of Al, Ni and their alloys, DFT", _PACEMAKER, _PACEMAKER_LINK),
    "Fe": Source("Fe_fitsnap.extxyz", "2517 structures of iron, DFT", _FITSNAP, _FITSNAP_LINK),
    "InP": Source("InP_fitsnap_1894.extxyz", "1894 structures of InP with kinds, DFT", _FITSNAP, _FITSNAP_LINK),
    "TiO2": Source(
        "TiO2_aenet_1500.extxyz",
        "1500 structures of TiO2, DFT",
        "N. Artrith and A. Urban, Comput. Mater. Sci. 114, 135 (2016); 1500 of 7815 drawn at random",
        "https://doi.org/10.1016/j.commatsci.2015.11.047",
    ),
    "W": Source(
        "W_DFT_1129.extxyz", "1129 structures of tungsten, DFT", "UQ-uMLIP (MIT)",
        "https://github.com/Kai-Liu-MSE/UQ-uMLIP",
    ),
    **{
        f"{element} {part}": Source(
            f"mlearn/{element}-{file}.extxyz", f"{element}, {part} set of mlearn, DFT", "mlearn (BSD)", _MLEARN_LINK
        )
        for element in ("Cu", "Ge", "Li", "Mo", "Si")
        for part, file in (("training", "training"), ("test", "test"))
    },
}  # fmt: skip


def data_folder(given: str | Path | None) -> Path | None:
    """The folder that was named, else that of the environment variable; None without either."""
    named = given if given is not None else os.environ.get(VARIABLE)
    return Path(named) if named else None


def require(names: Iterable[str], folder: Path | None) -> None:
    """Look for the files of these sources.

    :raises AceError: a file is missing, with where its data come from
    """
    for name in names:
        source = SOURCES[name]
        if folder is not None and (folder / source.file).is_file():
            continue
        where = "no folder was named" if folder is None else f"it is not in {folder}"
        raise AceError(
            f"this study needs {source.file} ({source.content}), but {where}: give --data FOLDER or set {VARIABLE}. "
            f"The data are those of {source.origin}, {source.link}; write them as extended XYZ with energies (eV) in "
            f"the info entry {ENERGY} and forces (eV/A) in the array {FORCES}"
        )


def read(name: str, folder: Path | None) -> list[Atoms]:
    """Labelled configurations of a source; info ``index`` counts them.

    :raises AceError: the file is missing or cannot be read
    """
    require([name], folder)
    assert folder is not None
    frames = read_configurations(
        folder / SOURCES[name].file, energy_key=ENERGY, forces_key=FORCES, require=("energy", "forces")
    )
    for index, atoms in enumerate(frames):
        atoms.info["index"] = index
    return frames
