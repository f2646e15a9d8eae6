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
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.formats import string2index

from aiida_aceal.common.configurations import check_configuration
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.extxyz import iter_extxyz
from aiida_aceal.common.settings import build, from_function

from .generators import GENERATORS, MAX_STRUCTURES

_STRUCTURE_KEYS = {
    "bulk": {"bulk", "crystal", "a", "b", "c", "alpha", "covera", "u", "orthorhombic", "cubic", "basis"},
    "molecule": {"molecule", "vacuum"},
    "file": {"file", "index"},
    "symbols": {"symbols", "positions", "scaled_positions", "cell", "pbc"},
}
#: keys of an entry that are not arguments of its generator
_COMMON = {"kind", "structure", "supercell", "label"}
#: arguments of a generator that are no settings
_NO_SETTINGS = ("rng", "structure")


def suggest(key: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?" for the nearest known key, else the list of them."""
    known = sorted(known)
    near = get_close_matches(str(key), known, n=1)
    return f"did you mean '{near[0]}'? (known: {', '.join(known)})" if near else f"known: {', '.join(known)}"


def kinds() -> list[str]:
    """Names of all kinds that :func:`generate` knows."""
    return [*GENERATORS, "files"]


def generate(spec: Sequence[Mapping[str, Any]], seed: int = 0, base_directory: str | Path | None = None) -> list[Atoms]:
    """Structures of all entries of ``spec``, in order.

    Each entry has a ``kind`` (:func:`kinds`), the arguments of that generator, and, for generators that need one, a
    base ``structure``: ``ase.Atoms`` (or a list of them), a file name, or a mapping ``{bulk: Cu, crystal: fcc, a: 3.61,
    cubic: true}``, ``{molecule: H2O, vacuum: 6.0}``, ``{file: x.cif, index: 0}``, ``{symbols: .., positions: .., cell:
    .., pbc: ..}``; ``supercell: [2, 2, 2]`` repeats it. A base of several structures is used one after the other.
    Each structure has ``info["kind"]``, ``info["source"]`` and, if given, ``info["label"]``.

    Entry k draws from the k-th child of ``seed``: appending entries does not change the structures before them.

    :param base_directory: where relative file names start
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
            new = _entry(entry, np.random.default_rng(child), base_directory)
        except AceError as error:
            raise AceError(f"initial structures, entry {number}: {error}") from None
        for index, atoms in enumerate(new):
            atoms.info.setdefault("source", f"initial/{number}/{entry['kind']}/{index}")
            atoms.info["kind"] = entry["kind"]
            if "label" in entry:
                atoms.info["label"] = str(entry["label"])
        found += new
    return found


def _entry(entry: Mapping[str, Any], rng: np.random.Generator, base_directory: str | Path | None) -> list[Atoms]:
    if not isinstance(entry, Mapping):
        raise AceError(f"{entry!r} is not a mapping with a 'kind'")
    if "kind" not in entry:
        raise AceError(f"it has no 'kind'; known: {', '.join(kinds())}")
    kind = entry["kind"]
    if kind == "files":
        _check_keys(entry, {"kind", "label", "paths", "index"}, "files")
        if "paths" not in entry:
            raise AceError("files: 'paths' (a list of file names) is missing")
        paths = [entry["paths"]] if isinstance(entry["paths"], (str, Path)) else entry["paths"]
        return [atoms for path in paths for atoms in read_files(path, entry.get("index", ":"), base_directory)]
    if kind not in GENERATORS:
        raise AceError(f"unknown kind '{kind}': {suggest(kind, kinds())}")
    function = GENERATORS[kind]
    parameters = inspect.signature(function).parameters
    options = set(parameters) - {"rng", "structure"}
    needs_base = "structure" in parameters
    _check_keys(entry, options | (_COMMON if needs_base else {"kind", "label"}), kind)
    given = build(from_function(function, _NO_SETTINGS), {k: entry[k] for k in options if k in entry}, kind)
    arguments = {name: getattr(given, name) for name in given.model_fields_set}
    if getattr(given, "count", 0) > MAX_STRUCTURES:
        raise AceError(
            f"{kind}: {given.count} structures are asked for, at most {MAX_STRUCTURES} by one entry; every one of "
            "them would be labelled"
        )
    try:
        if not needs_base:
            return function(rng, **arguments)
        if "structure" not in entry:
            raise AceError(f"{kind}: 'structure' is missing (such as {{bulk: Cu, crystal: fcc, a: 3.61, cubic: true}})")
        bases = base_structures(entry["structure"], base_directory)
        if "supercell" in entry:
            bases = [GENERATORS["supercells"](rng, base, sizes=[entry["supercell"]])[0] for base in bases]
        return [atoms for base in bases for atoms in function(rng, base, **arguments)]
    except (TypeError, IndexError) as error:
        raise AceError(f"{kind}: an option has the wrong type ({error}): {arguments!r}") from error


def _check_keys(entry: Mapping[str, Any], known: set[str], what: str) -> None:
    for key in entry:
        if key not in known:
            raise AceError(f"{what}: unknown key '{key}': {suggest(key, known)}")


def base_structures(value: Any, base_directory: str | Path | None = None) -> list[Atoms]:
    """Base structures from any of the forms that :func:`generate` accepts. Raises :class:`AceError`."""
    if isinstance(value, Atoms):
        return [_bare(value)]
    if isinstance(value, (str, Path)):
        return [_bare(atoms) for atoms in read_files(value, ":", base_directory)]
    if isinstance(value, Sequence) and value and all(isinstance(item, Atoms) for item in value):
        return [_bare(item) for item in value]
    if not isinstance(value, Mapping):
        raise AceError(f"structure: {value!r} is neither a file name nor a mapping such as {{bulk: Cu}}")
    form = next((name for name in _STRUCTURE_KEYS if name in value), None)
    if form is None:
        raise AceError(f"structure: one of the keys {', '.join(_STRUCTURE_KEYS)} must be given, found {sorted(value)}")
    for key in value:
        if key not in _STRUCTURE_KEYS[form]:
            raise AceError(f"structure: unknown key '{key}' beside '{form}': {suggest(key, _STRUCTURE_KEYS[form])}")
    if form == "file":
        return [_bare(atoms) for atoms in read_files(value["file"], value.get("index", ":"), base_directory)]
    try:
        return [_built(form, dict(value))]
    except AceError:
        raise
    except Exception as error:  # ASE raises anything from KeyError to RuntimeError here
        raise AceError(f"structure {dict(value)!r}: {type(error).__name__}: {error}") from error


def _built(form: str, value: dict[str, Any]) -> Atoms:
    if form == "bulk":
        from ase.build import bulk

        name = value.pop("bulk")
        return bulk(name, value.pop("crystal", None), **value)
    if form == "molecule":
        from ase.build import molecule

        return molecule(value["molecule"], vacuum=value.get("vacuum"))
    cell = value.get("cell")
    return Atoms(**{**value, "pbc": value.get("pbc", cell is not None)})


def _bare(atoms: Atoms) -> Atoms:
    """Species, positions, cell only: labels, velocities and constraints belong to another structure."""
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def read_files(path: str | Path, index: str | int = ":", base_directory: str | Path | None = None) -> list[Atoms]:
    """Structures of a user's file (any format ASE reads), with ``info["source"]`` = file name and frame.

    Labels in the file stay with the structures. Pickled files are refused: reading one can run any program.

    :raises AceError: file absent, empty, pickled, not readable, or with numbers that are not finite
    """
    from .formats import refuse_pickle

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
