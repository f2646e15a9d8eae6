"""First structures from a declarative list, or from the user's files.

structures = generate(
    [
        {"kind": "rattled", "structure": {"bulk": "Cu", "cubic": True}, "supercell": [2, 2, 2], "amplitude": 0.15},
        {"kind": "volume_scan", "structure": {"bulk": "Cu"}, "volume": [0.7, 1.3], "count": 15},
        {"kind": "files", "paths": ["mine.extxyz"]},
    ],
    seed=1,
)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.setting_words import unknown_key
from aiida_aceal.common.settings import Settings, build, from_function, setting

from .bases import base_structures
from .formats import read_files
from .generators import GENERATORS, MAX_STRUCTURES

__all__ = ["BaseSettings", "EntrySettings", "FilesEntry", "arguments_of", "generate", "kinds", "read_files"]

#: settings that name labels in files
LABEL_KEYS = ("energy_key", "forces_key", "stress_key")
#: arguments of a generator that are no settings
_NO_SETTINGS = ("rng", "structure")


class EntrySettings(Settings):
    """Keys of every entry."""

    heading = "Lists of structures: every entry"

    kind: str = setting(help="What makes the structures.", choices=lambda: kinds())
    label: str | None = setting(None, "Name that is kept with the structures.")


class BaseSettings(EntrySettings):
    """Keys of entries that change a structure."""

    heading = "Lists of structures: entries that change a structure"

    structure: Any = setting(help="File name, or {bulk: ...}, {molecule: ...}, {file: ...}, {symbols: ...}.")
    supercell: int | list[int] | list[list[int]] | None = setting(
        None, "Repetitions of the structure: a number, three numbers, or a matrix of 3x3 integers."
    )


class FilesEntry(EntrySettings):
    """Structures of files as they are."""

    heading = "Lists of structures: `files`"

    paths: str | list[str] = setting(
        help="File names in any format that ASE reads, data frames of pacemaker, folders with outputs of DFT codes."
    )
    index: int | str = setting(":", "Number or slice of the structures of each file, as ASE takes it.")
    energy_key: str | None = setting(None, "Info entry with the energies [default: ASE's usual place or a usual name].")
    forces_key: str | None = setting(None, "Array with the forces, likewise.")
    stress_key: str | None = setting(None, "Info entry with the stresses, likewise.")


def arguments_of(kind: str) -> type[Settings]:
    """Settings of a kind, without those of :class:`EntrySettings` and :class:`BaseSettings`."""
    return from_function(GENERATORS[kind], _NO_SETTINGS)


def kinds() -> list[str]:
    """Names of all kinds that :func:`generate` knows."""
    return [*GENERATORS, "files"]


def generate(
    spec: Sequence[Mapping[str, Any]],
    seed: int = 0,
    base_directory: str | Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Atoms]:
    """Structures of all entries of ``spec``, in order.

    Each entry has a ``kind`` (:func:`kinds`), the arguments of that generator, and, for generators that need one, a
    base ``structure``: ``ase.Atoms`` (or a list of them), a file name, or a mapping ``{bulk: Cu, crystal: fcc, a: 3.61,
    cubic: true}``, ``{molecule: H2O, vacuum: 6.0}``, ``{file: x.cif, index: 0}``, ``{symbols: .., positions: .., cell:
    .., pbc: ..}``; ``supercell: [2, 2, 2]`` repeats it. A base of several structures is used one after the other.
    Each structure has ``info["kind"]``, ``info["source"]`` and, if given, ``info["label"]``.

    Entry k draws from the k-th child of ``seed``: appending entries does not change the structures before them.

    :param base_directory: where relative file names start
    :param say: takes a line on labels of files that stood under other names; default: the log
    :raises AceError: unknown kinds or keys (with the nearest known one), impossible requests, unreadable files
    """
    if isinstance(spec, (Mapping, str)) or not isinstance(spec, Sequence):
        raise AceError(
            f"initial structures: expected a list of entries, each with a 'kind', found {type(spec).__name__}"
        )
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise AceError(f"seed: {seed!r} is not a non-negative integer")
    children = np.random.SeedSequence(int(seed)).spawn(len(spec))
    found: list[Atoms] = []
    for number, (entry, child) in enumerate(zip(spec, children)):
        try:
            new = _entry(entry, np.random.default_rng(child), base_directory, say)
        except AceError as error:
            raise AceError(f"initial structures, entry {number}: {error}") from None
        for index, atoms in enumerate(new):
            atoms.info.setdefault("source", f"initial/{number}/{entry['kind']}/{index}")
            atoms.info["kind"] = entry["kind"]
            if entry.get("label") is not None:
                atoms.info["label"] = entry["label"]
        found += new
    return found


def _entry(
    entry: Mapping[str, Any],
    rng: np.random.Generator,
    base_directory: str | Path | None,
    say: Callable[[str], None] | None,
) -> list[Atoms]:
    if not isinstance(entry, Mapping):
        raise AceError(f"{entry!r} is not a mapping with a 'kind'")
    if "kind" not in entry:
        raise AceError(f"it has no 'kind'; known: {', '.join(kinds())}")
    kind = entry["kind"]
    build(EntrySettings, {"kind": kind}, "")
    if kind == "files":
        plain = {key: _plain(value) for key, value in entry.items()}
        files = build(FilesEntry, plain, kind)
        paths = [files.paths] if isinstance(files.paths, str) else files.paths
        keys = {name: getattr(files, name) for name in LABEL_KEYS}
        return [atoms for path in paths for atoms in read_files(path, files.index, base_directory, keys, say)]
    function, model = GENERATORS[kind], arguments_of(kind)
    needs_base = "structure" in inspect.signature(function).parameters
    common = BaseSettings if needs_base else EntrySettings
    for key in entry:
        if key not in model.model_fields and key not in common.model_fields:
            raise AceError(unknown_key(kind, f"'{key}'", str(key), [*model.model_fields, *common.model_fields]))
    if needs_base and "structure" not in entry:
        raise AceError(f"{kind}: 'structure' is missing (such as {{bulk: Cu, crystal: fcc, a: 3.61, cubic: true}})")
    build(common, {key: value for key, value in entry.items() if key in common.model_fields}, kind)
    given = build(model, {key: value for key, value in entry.items() if key in model.model_fields}, kind)
    arguments = {name: getattr(given, name) for name in given.model_fields_set}
    if getattr(given, "count", 0) > MAX_STRUCTURES:
        raise AceError(
            f"{kind}: {given.count} structures are asked for, at most {MAX_STRUCTURES} by one entry; every one of "
            "them would be labelled"
        )
    try:
        if not needs_base:
            return function(rng, **arguments)
        bases = base_structures(entry["structure"], base_directory)
        if entry.get("supercell") is not None:
            bases = [GENERATORS["supercells"](rng, base, sizes=[entry["supercell"]])[0] for base in bases]
        return [atoms for base in bases for atoms in function(rng, base, **arguments)]
    except (TypeError, IndexError) as error:
        raise AceError(f"{kind}: an option has the wrong type ({error}): {arguments!r}") from error


def _plain(value: Any) -> Any:
    """Paths as text."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
