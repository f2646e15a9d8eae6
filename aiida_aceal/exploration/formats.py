"""Files as a source of structures: what may be read, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

from ase import Atoms
from ase.io import iread
from ase.io.formats import string2index

from aiida_aceal.common.configurations import check_configuration
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.extxyz import iter_extxyz

_PICKLE_SUFFIXES = (".pckl", ".pkl", ".pickle", ".pckl.gzip", ".pkl.gz", ".pckl.gz", ".pkl.gzip", ".p")


def refuse_pickle(path: str | Path) -> None:
    """Raise :class:`AceError` for pickled files (pacemaker data frames), recognised by name or first bytes."""
    path = Path(path)
    pickled = path.name.lower().endswith(_PICKLE_SUFFIXES)
    if not pickled and path.is_file():
        with path.open("rb") as stream:
            head = stream.read(2)
        if head == b"\x1f\x8b":
            try:
                with gzip.open(path) as stream:
                    head = stream.read(2)
            except OSError:
                head = b""
        # protocol 2 to 5 of pickle start with this opcode and the protocol's number
        pickled = len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5
    if pickled:
        raise AceError(
            f"{path}: pickled data frames are not read, because unpickling a file runs whatever code it holds. "
            "Write the structures once as extended XYZ where you trust the file: "
            "ase.io.write('data.extxyz', list(frame['ase_atoms']))"
        )


def read_files(path: str | Path, index: str | int = ":", base_directory: str | Path | None = None) -> list[Atoms]:
    """Structures of a user's file (any format ASE reads), with ``info["source"]`` = file name and frame.

    Labels in the file stay with the structures. Pickled files are refused: reading one can run any program.

    :raises AceError: file absent, empty, pickled, not readable, or with numbers that are not finite
    """
    full = Path(base_directory or ".") / path
    if not full.is_file():
        raise AceError(f"{path}: no such file")
    refuse_pickle(full)
    try:
        if full.suffix in (".xyz", ".extxyz"):
            frames = list(iter_extxyz(full))
            chosen = string2index(index) if isinstance(index, str) else index
            found = frames[chosen] if isinstance(chosen, slice) else [frames[chosen]]
        else:
            found = list(iread(full, index=index, do_not_split_by_at_sign=True))
    except AceError:
        raise
    except Exception as error:  # readers of ASE raise many types
        raise AceError(f"{path}: cannot be read as structures ({type(error).__name__}: {error})") from error
    if not found:
        raise AceError(f"{path}: holds no structures")
    for number, atoms in enumerate(found):
        check_configuration(atoms, f"{path}, structure {number}")
        atoms.info.setdefault("source", f"{Path(path).name}#{number}")
    return found
