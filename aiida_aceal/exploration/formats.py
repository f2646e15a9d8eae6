"""Files as a source of structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ase import Atoms
from ase.io.formats import string2index

from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.common.errors import AceError


def read_files(
    path: str | Path,
    index: str | int = ":",
    base_directory: str | Path | None = None,
    keys: Mapping[str, str | None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Atoms]:
    """Structures of a user's file or folder, with ``info["source"]`` = file name and frame.

    All that :func:`aiida_aceal.common.configurations.read_configurations` reads. Labels in the file stay with the
    structures.

    :param index: number or slice of the structures, as ASE takes it
    :param keys: ``energy_key``, ``forces_key``, ``stress_key`` of that function; ``say``: as there
    :raises AceError: file absent, empty, not readable, or with numbers that are not finite
    """
    full = Path(base_directory or ".") / path
    if not full.exists():
        raise AceError(f"{path}: no such file")
    found = read_configurations(full, **{key: value for key, value in (keys or {}).items() if value}, say=say)
    for number, atoms in enumerate(found):
        atoms.info.setdefault("source", f"{Path(path).name}#{number}")
    try:
        chosen = string2index(index) if isinstance(index, str) else index
        found = found[chosen] if isinstance(chosen, slice) else [found[chosen]]
    except (IndexError, ValueError) as error:
        raise AceError(f"{path}: index {index!r} of {len(found)} structures: {error}") from error
    if not found:
        raise AceError(f"{path}: holds no structures of index {index!r}")
    return found
