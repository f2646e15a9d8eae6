"""Extended XYZ, frame by frame: what is written comes back bit by bit or is refused, what is read is checked.

ASE's reader takes the numbers apart; around it stand what it does not do: the file ends where the text ends (not at the
first blank line), rows have as many columns as ``Properties`` says, and a frame cannot ask for more atoms than the file
has bytes.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.constraints import FixAtoms
from ase.io.extxyz import key_val_str_to_dict, read_xyz

from .errors import AceError

#: Longest header, characters.
MAX_HEADER = 10**7
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]*", re.ASCII)
#: names of columns that ASE gives a meaning of its own, or takes for labels
_TAKEN = {"pos", "positions", "species", "symbols", "Z", "numbers", "charge", "VEC"} | set(all_properties)
_ROLES = {"Lattice", "Properties", "pbc"}
_KINDS = {"f": "R", "i": "I", "u": "I", "b": "L"}
_LOGICAL = {"T", "F", "True", "False"}
_INT = 2**31  # ASE reads integers of columns as 32 bit


# --- reading ----------------------------------------------------------------------------------------------------------
def iter_extxyz(path: Path) -> Iterator[Atoms]:
    """Frames of a file, one after the other; :class:`AceError` names the structure (from 0) and the line."""
    try:
        with path.open(encoding="utf-8") as handle:
            yield from _frames(handle, path, os.fstat(handle.fileno()).st_size)
    except UnicodeDecodeError as error:
        raise AceError(f"{path}: is not a text file in UTF-8 ({error.reason})") from None
    except OSError as error:
        raise AceError(f"{path}: cannot be read ({error.strerror or error})") from error


def _frames(handle: TextIO, path: Path, size: int) -> Iterator[Atoms]:
    index, number = 0, 0
    pending = ""
    while True:
        line = pending or handle.readline(MAX_HEADER)
        pending = ""
        number += 1
        if not line:
            return
        if not line.strip():
            continue
        where = f"{path}: structure {index} cannot be read (line {number}: "
        if not re.fullmatch(r"\s*\d{1,18}\s*", line, re.ASCII):
            raise AceError(f"{where}a number of atoms is expected, found {line.strip()[:40]!r})")
        count = int(line)
        if 2 * count > size:
            raise AceError(f"{where}{count} atoms are announced, but the file has only {size} bytes)")
        header = handle.readline(MAX_HEADER)
        if not header.endswith("\n") and count:
            raise AceError(f"{where}the file ends after it, or the header is longer than {MAX_HEADER} characters)")
        rows = [handle.readline(MAX_HEADER) for _ in range(count)]
        if count and not rows[-1].strip():
            have = sum(bool(row.strip()) for row in rows)
            raise AceError(f"{where}{count} atoms are announced, but {have} follow)")
        number += 1 + count
        vectors = []
        while (pending := handle.readline(MAX_HEADER)).lstrip().startswith("VEC") and len(vectors) < 3:
            vectors.append(pending)
        number += len(vectors)
        yield _frame(count, header, rows, vectors, where)
        index += 1


def _frame(count: int, header: str, rows: list[str], vectors: list[str], where: str) -> Atoms:
    # ASE raises whatever its parser stumbles on (KeyError, IndexError, ...): all mean that the frame is bad
    try:
        columns = _columns(header) if not vectors else ["S", "R", "R", "R"]
        for offset, row in enumerate(rows):
            words = row.split()
            if len(words) != len(columns):
                raise ValueError(f"atom {offset} has {len(words)} columns, but {len(columns)} are announced")
            for kind, word in zip(columns, words) if "L" in columns else ():
                if kind == "L" and word not in _LOGICAL:
                    raise ValueError(f"atom {offset}: {word[:20]!r} is not T or F")
        text = "".join((f"{count}\n", header, *(row if row.endswith("\n") else row + "\n" for row in rows), *vectors))
        return next(iter(read_xyz(io.StringIO(text), index=slice(0, 1))))
    except AceError:
        raise
    except Exception as error:
        raise AceError(f"{where}{type(error).__name__}: {' '.join(str(error).split())[:300]})") from error


def _columns(header: str) -> list[str]:
    """Type of each column."""
    fields = str(key_val_str_to_dict(header).get("Properties", "species:S:1:pos:R:3")).split(":")
    if len(fields) % 3:
        raise ValueError("Properties must be a sequence of name:type:columns")
    names = fields[::3]
    if len(set(names)) != len(names):
        raise ValueError("a name occurs twice in Properties")
    result = []
    for kind, number in zip(fields[1::3], fields[2::3]):
        if not re.fullmatch(r"[1-9]\d{0,4}", number, re.ASCII):
            raise ValueError(f"Properties: {number[:20]!r} is not a number of columns")
        result += [kind] * int(number)
    return result


# --- writing ----------------------------------------------------------------------------------------------------------
def format_frame(atoms: Atoms, energy: float | None, forces: np.ndarray | None, stress: np.ndarray | None) -> str:
    """One configuration as extended XYZ text with these labels.

    :raises AceError: no atoms, or an entry of ``info`` or ``arrays`` that would not come back as it is.
    """
    if len(atoms) == 0:
        raise AceError("a structure without atoms cannot be written as extended XYZ")
    columns: list[tuple[str, str, np.ndarray]] = [("pos", "R", atoms.positions)]
    columns += [_column(name, values) for name, values in atoms.arrays.items() if not _label(name, forces)]
    fixed = [c for c in atoms.constraints if isinstance(c, FixAtoms)]
    if fixed and "move_mask" not in atoms.arrays:
        free = np.ones(len(atoms), dtype=bool)
        for constraint in fixed:
            free[constraint.index] = False
        columns.append(("move_mask", "L", free[:, None]))
    if forces is not None:
        columns.append(("forces", "R", forces))
    _check_names(columns)

    header: dict[str, str] = {}
    if atoms.cell.any():
        header["Lattice"] = " ".join(repr(x) for x in np.asarray(atoms.cell).ravel().tolist())
    header["Properties"] = "species:S:1:" + ":".join(f"{name}:{kind}:{v.shape[1]}" for name, kind, v in columns)
    labels = {}
    if energy is not None:
        labels["energy"] = repr(energy)
    if stress is not None:
        xx, yy, zz, yz, xz, xy = stress.tolist()
        labels["stress"] = f'"{" ".join(repr(x) for x in (xx, xy, xz, xy, yy, yz, xz, yz, zz))}"'
    periodic = " ".join("T" if p else "F" for p in atoms.pbc)
    fields = [f'{key}="{value}"' for key, value in header.items()]
    fields += [f"{key}={value}" for key, value in labels.items()]
    fields.append(f'pbc="{periodic}"')
    fields += [_field(key, value) for key, value in atoms.info.items() if key not in labels and value is not None]

    texts: list[list[str]] = [atoms.get_chemical_symbols()]
    for _, kind, values in columns:
        for column in np.asarray(values).T.tolist():
            texts.append(["T" if x else "F" for x in column] if kind == "L" else [_word(x) for x in column])
    rows = "\n".join(" ".join(row) for row in zip(*texts))
    return f"{len(atoms)}\n{' '.join(fields)}\n{rows}\n"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _label(name: str, forces: np.ndarray | None) -> bool:
    """Arrays that stand elsewhere: symbols, positions, and forces beside those of the label."""
    return name in ("numbers", "positions") or (name == "forces" and forces is not None)


def _column(name: str, values: np.ndarray) -> tuple[str, str, np.ndarray]:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise AceError(f"arrays[{name!r}]: an array of this name cannot be written as extended XYZ; rename it")
    table = values[:, None] if values.ndim == 1 else values
    if table.ndim != 2 or table.shape[1] == 0:
        raise AceError(f"arrays[{name!r}]: an array of shape {values.shape} cannot be written as extended XYZ")
    kind = _KINDS.get(values.dtype.kind)
    if kind is None:
        words = table.ravel().tolist()
        if not all(isinstance(word, str) and re.fullmatch(r"\S+", word) and word.isprintable() for word in words):
            raise AceError(f"arrays[{name!r}]: values of {values.dtype} cannot be written as extended XYZ")
        return name, "S", table
    if kind == "I" and table.size and (table.max() >= _INT or table.min() < -_INT):
        raise AceError(f"arrays[{name!r}]: integers beyond 32 bits cannot be written as extended XYZ")
    if kind == "R" and values.dtype.itemsize > 8:
        raise AceError(f"arrays[{name!r}]: values of {values.dtype} cannot be written as extended XYZ")
    return name, kind, table


def _check_names(columns: list[tuple[str, str, np.ndarray]]) -> None:
    """A column of its own and a numbered one of an array must not share a name: ASE calls those name0, name1, ..."""
    seen = {"species"}
    for name, _, values in columns:
        for part in [name] if values.shape[1] == 1 else [f"{name}{k}" for k in range(values.shape[1])]:
            if part in seen:
                raise AceError(f"arrays[{name!r}]: its columns collide with those of another array; rename it")
            seen.add(part)


def _field(key: Any, value: Any) -> str:
    """``key=value`` that ASE reads back as it is, plainly if that is possible, else as JSON."""
    if not isinstance(key, str) or not _NAME.fullmatch(key) or key in _ROLES:
        raise AceError(f"info[{key!r}]: an entry of this name cannot be written as extended XYZ; rename it")
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, (bool, int, float)):
        text = ("T" if plain else "F") if isinstance(plain, bool) else repr(plain)
        if _comes_back(f"{key}={text}", key, plain):
            return f"{key}={text}"
    candidates = [plain] if isinstance(plain, str) else []
    if isinstance(plain, np.ndarray) and plain.dtype.kind in "ifub" and plain.size > 1:
        flat = plain.ravel(order="F") if key in ("virial", "stress") and plain.shape == (3, 3) else plain
        if flat.ndim == 1:
            candidates.append(
                " ".join(("T" if x else "F") if x is True or x is False else repr(x) for x in flat.tolist())
            )
    with suppress(TypeError, ValueError):
        candidates.append("_JSON " + json.dumps(plain.tolist() if isinstance(plain, np.ndarray) else plain))
    for text in candidates:
        if not text.isprintable():
            continue
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        field = f'{key}="{quoted}"'
        if _comes_back(field, key, plain):
            return field
    raise AceError(f"info[{key!r}]: {value!r:.80} cannot be written as extended XYZ without being changed")


def _comes_back(field: str, key: str, value: Any) -> bool:
    try:
        back = key_val_str_to_dict(field)
    except Exception:  # whatever ASE stumbles on: it does not come back
        return False
    return list(back) == [key] and _same(back[key], value)


def _same(a: Any, b: Any) -> bool:
    """Equal in value; lists, tuples and arrays count as the same."""
    if isinstance(a, (list, tuple, np.ndarray)) or isinstance(b, (list, tuple, np.ndarray)):
        try:
            one, two = np.asarray(a), np.asarray(b)
        except ValueError:  # lists of different lengths
            return isinstance(b, (list, tuple)) and list(a) == list(b)
        if one.shape != two.shape:
            return False
        numbers = one.dtype.kind in "fiub" and two.dtype.kind in "fiub"
        return np.array_equal(one, two, equal_nan=True) if numbers else one.tolist() == two.tolist()
    a = a.item() if isinstance(a, np.generic) else a
    if isinstance(a, bool) != isinstance(b, bool) or isinstance(a, str) != isinstance(b, str):
        return False
    return a == b or (a != a and b != b)
