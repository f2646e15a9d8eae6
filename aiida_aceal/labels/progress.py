"""Labels on the disk as soon as they are made: one line of JSON each, appended and synced.

Whatever ends the process loses at most the labels under way. A run on the same file takes what is there and computes
the rest. Lines of another method (calculator, version, arguments, files named by them, kind of energy, ...) do not
count. A line cut off by a kill is left out and computed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.common.errors import AceError

from .calculators import CalculatorSpec
from .pool import Outcome

#: what a calculator may look at beyond what makes the identity of a configuration
_SEEN = ("initial_magmoms", "initial_charges", "tags")
#: line that each run begins with; it says which method the run uses
_OPENED = "opened"


def method_digest(spec: CalculatorSpec, given: Mapping[str, Any] | None, options: Mapping[str, Any]) -> str:
    """Identity of a method (16 hex characters).

    :param given: arguments of the calculator as the user wrote them; of files that they name the content counts
    :param options: what else changes a label: ``energy``, ``stress``, ``max_force``
    """
    described = spec.describe()
    words: dict[str, Any] = dict(given or {})
    for key, value in words.items():
        if isinstance(value, str) and value and Path(value).is_file():
            words[key] = hashlib.sha256(Path(value).read_bytes()).hexdigest()
    parts = [described["class"], described["version"], words, dict(options)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def label_key(atoms: Atoms) -> str:
    """Identity of what is labelled: the content hash, and moments, charges and tags that are stored with it."""
    seen = [name for name in _SEEN if atoms.has(name) and np.any(atoms.arrays[name])]
    if not seen:
        return configuration_hash(atoms)
    digest = hashlib.sha256()
    for name in seen:
        digest.update(name.encode() + np.asarray(atoms.arrays[name], dtype="<f8").tobytes())
    return f"{configuration_hash(atoms)}-{digest.hexdigest()[:8]}"


@dataclass
class Known:
    """What a file of progress says of one method.

    ``outcomes``: labels and failures that need not be computed again. ``tries``: how often others were begun in vain;
    ``reasons``: how the last try ended, where that is known.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    n_other: int = 0
    n_damaged: int = 0


class ProgressFile:
    """A file of progress, open for one process at a time.

    :raises AceError: it cannot be written, or another process works on it.
    """

    def __init__(self, path: str | Path, method: str) -> None:
        self.path, self.method = Path(path), method
        try:
            self._handle: IO[bytes] = open(self.path, "a+b")  # noqa: SIM115
        except OSError as error:
            raise AceError(f"{self.path}: cannot be written ({error.strerror or error})") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._handle.close()
            raise AceError(
                f"{self.path}: another process is labelling with this file; wait for it, or name another --progress"
            ) from error
        except OSError:
            pass  # a file system without locks
        self._end_line()
        self._append({"key": "", "state": _OPENED}, sync=False)

    def __enter__(self) -> ProgressFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._handle.close()

    def read(self) -> Known:
        """What is there already."""
        self._handle.seek(0)
        return read_progress(self._handle, self.method)

    def start(self, key: str) -> None:
        """Note that a configuration is under way, so that it is known if it takes the job down with it."""
        self._append({"key": key, "state": "started"}, sync=False)

    def add(self, key: str, outcome: Outcome) -> None:
        """Append what became of a configuration; it is on the disk when this returns.

        :raises AceError: the disk is full.
        """
        line: dict[str, Any] = {"key": key, "state": outcome.state}
        if outcome.labels is not None:
            line["labels"] = {name: np.asarray(values).tolist() for name, values in outcome.labels.items()}
        if outcome.reason is not None:
            line["reason"] = outcome.reason
        line.update(wall_seconds=outcome.wall_seconds, cpu_seconds=outcome.cpu_seconds)
        self._append(line, sync=True)

    def _append(self, line: Mapping[str, Any], sync: bool) -> None:
        try:
            self._handle.write(json.dumps({"method": self.method, **line}).encode() + b"\n")
            self._handle.flush()
            if sync:
                os.fsync(self._handle.fileno())
        except OSError as error:
            raise AceError(
                f"{self.path}: cannot be written ({error.strerror or error}); the labels in it are safe: run the same "
                "command again when there is room"
            ) from error

    def _end_line(self) -> None:
        """A line cut off by a kill must not swallow the next one."""
        end = self._handle.seek(0, os.SEEK_END)
        if end:
            self._handle.seek(end - 1)
            if self._handle.read(1) != b"\n":
                self._handle.write(b"\n")
                self._handle.flush()


def read_progress(handle: IO[bytes], method: str | None = None) -> Known:
    """What a file of progress knows of a method; by default of that of the last run."""
    lines: list[Mapping[str, Any]] = []
    known = Known()
    for raw in handle:
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
            if not all(isinstance(line[name], str) for name in ("method", "key", "state")):
                raise ValueError("no text")
            lines.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            known.n_damaged += 1
    if method is None:
        method = next((line["method"] for line in reversed(lines) if line["state"] == _OPENED), "")
    for line in lines:
        try:
            if line["state"] == _OPENED:
                continue
            if line["method"] == method:
                _take(known, line["key"], line["state"], line)
            else:
                known.n_other += line["state"] == "labelled"
        except (ValueError, KeyError, TypeError):
            known.n_damaged += 1
    return known


def _take(known: Known, key: str, state: str, line: Mapping[str, Any]) -> None:
    if state == "started":
        known.tries[key] += 1
    elif state == "lost":
        known.reasons[key] = str(line["reason"])
    elif state in ("labelled", "failed"):
        labels = line.get("labels")
        if labels is not None:
            labels = {name: np.asarray(values, dtype=float) for name, values in labels.items()}
            if not all(np.isfinite(values).all() for values in labels.values()):
                raise ValueError("not finite")
            labels["energy"] = float(labels["energy"])
        elif state == "labelled":
            raise ValueError("no labels")
        known.outcomes[key] = Outcome(
            -1, state, labels, line.get("reason"), float(line["wall_seconds"]), float(line["cpu_seconds"])
        )
    else:
        raise ValueError(state)
