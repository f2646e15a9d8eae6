"""Zip archives from outside (``.asi``, ``.npz``, ensembles): plain arrays and texts, with bounds on what they hold."""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import AceError, NotFiniteError, refuse_not_finite

#: An archive may unpack to this many bytes, and to `MAX_RATIO` times its size beyond that.
FREE_BYTES = 2**26
MAX_RATIO = 100
MAX_ENTRIES = 100_000
#: Numbers beyond this make products that are not finite.
MAX_NUMBER = 1e100


class Arrays(NamedTuple):
    """Arrays of an ``.npz`` by name; ``comment`` of the archive; ``packed``: some entry is compressed."""

    arrays: dict[str, np.ndarray]
    comment: bytes
    packed: bool


@contextmanager
def open_archive(source: str | Path | bytes, name: str | None = None) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose entries are neither encrypted nor doubled nor a bomb.

    :param source: path or content; ``name`` stands for it in messages.
    :raises AceError: also for whatever the block stumbles on while it reads entries.
    """
    name = str(source) if name is None and not isinstance(source, bytes) else name or "<archive>"
    try:
        size = len(source) if isinstance(source, bytes) else os.stat(source).st_size
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            _check(archive, size, name)
            yield archive
    except AceError:
        raise
    except FileNotFoundError:
        raise AceError(f"{name}: no such file") from None
    except MemoryError:
        raise AceError(f"{name}: needs more memory than is available") from None
    # zipfile, zlib, struct and numpy raise whatever they stumble on: all mean that the archive is bad
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise AceError(f"{name}: is not a readable archive ({type(error).__name__}: {words})") from error


def _check(archive: zipfile.ZipFile, size: int, name: str) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise AceError(f"{name}: has {len(entries)} entries, at most {MAX_ENTRIES} are read")
    seen = set()
    for entry in entries:
        if entry.flag_bits & 1:
            raise AceError(f"{name}: the entry {entry.filename[:60]!r} is encrypted; write it without a password")
        if entry.filename in seen:
            raise AceError(f"{name}: the entry {entry.filename[:60]!r} occurs twice")
        seen.add(entry.filename)
    total = sum(entry.file_size for entry in entries)
    if total > FREE_BYTES + MAX_RATIO * size:
        raise AceError(
            f"{name}: its {size} bytes would unpack to {total / 2**20:.0f} MiB; this is more than {MAX_RATIO} times as "
            "much, so it is not an archive of this package"
        )


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of an entry, not more than the archive says it has."""
    entry = archive.getinfo(name)
    with archive.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise AceError(f"{archive.filename}: the entry {name[:60]!r} has another size than stated")
    return content


def read_arrays(source: str | Path | bytes, name: str | None = None) -> Arrays:
    """All arrays of an ``.npz`` archive: numbers, booleans and texts, never objects.

    :raises AceError: no such file, no archive of arrays, encrypted, doubled entries, more than bounds allow.
    """
    found = {}
    with open_archive(source, name) as archive:
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
        for entry in archive.namelist():
            key = entry.removesuffix(".npy")
            if key in found:
                raise ValueError(f"the array {key[:60]!r} occurs twice")
            found[key] = _array(archive, entry, key)
        return Arrays(found, archive.comment, packed)


def _array(archive: zipfile.ZipFile, entry: str, key: str) -> np.ndarray:
    size = archive.getinfo(entry).file_size
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"the array {key[:60]!r} has the unknown version {version}")
        shape, _, dtype = read(stream, max_header_size=10_000)
        if dtype.kind not in "fiubUS":
            raise ValueError(f"the array {key[:60]!r} holds {dtype}, only plain numbers and text are read")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - stream.tell():
            raise ValueError(f"the array {key[:60]!r} of shape {shape} does not fit its {size} bytes")
    with archive.open(entry) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False, max_header_size=10_000)


def read_json(content: bytes, name: str) -> dict:
    """A JSON mapping. Raises :class:`AceError`: no JSON, no mapping, numbers that are not finite."""

    def refuse(word: str) -> None:
        raise NotFiniteError(f"{name}: {word} is not a finite number")

    try:
        data = json.loads(content.decode("utf-8"), parse_constant=refuse)
        if not isinstance(data, dict):
            raise ValueError("a mapping is expected")
        refuse_not_finite(data, name)  # 1e999 is read as infinity
    except NotFiniteError:
        raise
    except (ValueError, RecursionError) as error:
        words = " ".join(str(error).split())[:200]
        raise AceError(f"{name}: is not readable JSON ({words})") from None
    return data


def check_inverse(values: np.ndarray, where: str) -> np.ndarray:
    """The inverse active rows as C-ordered float64 [M, M].

    :raises AceError: not square, no numbers, not finite, so large that grades overflow, or all zero (every grade
        would be 0 then).
    """
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.shape[0] == 0:
        raise AceError(f"{where} has shape {values.shape}, but must be square")
    if values.dtype.kind not in "fiu":
        raise AceError(f"{where} holds {values.dtype}, but must hold numbers")
    values = np.ascontiguousarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{where} holds NaN or infinity: rebuild the active set")
    largest = np.abs(values).max()
    if largest > MAX_NUMBER:
        raise AceError(f"{where} holds {largest:.1e}, with which every grade overflows: rebuild the active set")
    if largest == 0.0:
        raise AceError(f"{where} holds zeros only, with which every grade is 0: rebuild the active set")
    return values
