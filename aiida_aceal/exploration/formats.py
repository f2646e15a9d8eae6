"""What may be read as a source of structures, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

from aiida_aceal.ace.errors import AceError

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
