"""Files that appear whole or not at all: written beside, synced, renamed.

A file is written under a hidden name of its own in the same folder (created anew, so through no symbolic link), brought
to the disk, and takes its name in one step. A full disk, an error or a kill leaves what stood there before; a symbolic
link of that name is replaced, not followed.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import AceError


def require_folder(path: str | Path, remedy: str) -> None:
    """Make a folder, and make sure that files can be written into it, before work begins whose results go there.

    :raises AceError: they cannot; the message ends with ``remedy``
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".aceal-", dir=path):
            pass
    except OSError as error:
        raise AceError(f"{path}: nothing can be written there ({error.strerror or error}); {remedy}") from error


@contextmanager
def open_whole(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that takes its name when the ``with`` block ends without an error.

    :param mode: ``w`` (text, UTF-8), ``wb`` or ``w+b``.
    :raises AceError: the folder does not exist, the place is not writable or no regular file, the disk is full; what
        stood under the name before is unchanged then.
    """
    if mode not in ("w", "wb", "w+b"):
        raise ValueError(f"mode {mode!r} is not 'w', 'wb' or 'w+b'")
    path = Path(path)
    permissions = _permissions(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _failure(path, error) from error
    part = Path(name)
    try:
        handle = os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8")
        try:
            yield handle
            handle.flush()
            os.fchmod(handle.fileno(), permissions)
            os.fsync(handle.fileno())
        finally:
            with suppress(OSError):  # what could not be written has been reported, or is in the one under way
                handle.close()
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        # errors of our own handle name no file; others were raised by what the block read
        if error.filename is None or str(error.filename) == str(part):
            raise _failure(path, error) from error
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) as a whole; errors as in `open_whole`."""
    with open_whole(path) as handle:
        handle.write(text)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file as a whole; errors as in `open_whole`."""
    with open_whole(path, "wb") as handle:
        handle.write(content)


def write_json(path: str | Path, data: Any, allow_nan: bool = True) -> None:
    """Write a JSON file as a whole; errors as in `open_whole`."""
    write_text(path, json.dumps(data, indent=1, allow_nan=allow_nan))


def _permissions(path: Path) -> int:
    """Those of the file that is replaced, else those a new file gets."""
    try:
        found = os.lstat(path)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    if stat.S_ISLNK(found.st_mode):
        with suppress(OSError):
            target = os.stat(path)
            if not stat.S_ISREG(target.st_mode):
                found = target
    if stat.S_ISDIR(found.st_mode):
        raise AceError(f"{path}: is a folder; name a file")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        raise AceError(f"{path}: is a device or pipe; name a regular file")
    return stat.S_IMODE(found.st_mode) & 0o666 if stat.S_ISREG(found.st_mode) else 0o644


def _failure(path: Path, error: OSError) -> AceError:
    return AceError(f"{path}: cannot be written ({error.strerror or error}); what stood there before is unchanged")


def _sync_folder(folder: Path) -> None:
    """The new name, too, is on the disk when we return; some file systems cannot sync folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
