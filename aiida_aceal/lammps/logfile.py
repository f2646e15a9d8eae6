"""Reading LAMMPS log files: thermo tables, warnings, errors, how the run ended. Also of runs that were cut short."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aiida_aceal.common.errors import AceError

_HALT = re.compile(r"Fix halt condition for fix-id (\S+) met on step (\d+) with value (\S+)")
_WALL = re.compile(r"^Total wall time: (\d+):(\d+):(\d+)")
_LOOP = re.compile(r"^Loop time of (\S+) on .* for (\d+) steps")
_MULTI_STEP = re.compile(r"^-+ Step\s+(\d+) -+ CPU =")
_MULTI_PAIR = re.compile(r"(\S+)\s+=\s+(\S+)")
_ERROR = re.compile(r"^ERROR(?: on proc \d+)?: (.*)")
_VERSION = re.compile(r"^LAMMPS \((.*)\)")
# what the executable itself, its libraries and the C++ runtime write on stderr when they give up
_CAUSE = re.compile(r"^\s*(?:Exception: |ERROR(?: on proc \d+)?: |what\(\):\s+|fmt::format_error: |std::\w+: )\s*(.*)")
_THROWN = re.compile(r"^terminate called after throwing an instance of '(.*)'")
_MEMORY = "Per MPI rank memory allocation"
_TIMEOUT = "Wall time limit reached"


@dataclass(frozen=True)
class Halt:
    """A run stopped by ``fix halt``: ID of the fix, step, and the value that met the condition."""

    fix: str
    step: int
    value: float


@dataclass
class LogFile:
    """What a log says.

    :ivar version: version of LAMMPS, "" if the first line is missing.
    :ivar runs: one thermo table per ``run`` or ``minimize``: column -> values [n] (``Step`` int64, others float64), in
        the units of the script.
    :ivar finished: for each table whether its run came to its ``Loop time`` line.
    :ivar warnings: texts of ``WARNING:`` lines.
    :ivar errors: texts of ``ERROR:`` lines.
    :ivar completed: the script was carried out to its end.
    :ivar wall_seconds: total wall time, if the log has it.
    :ivar loop_seconds: sum of the loop times.
    :ivar halt: the last ``fix halt`` that fired.
    :ivar timed_out: ``timer timeout`` ended a run.
    """

    version: str = ""
    runs: list[dict[str, np.ndarray]] = field(default_factory=list)
    finished: list[bool] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    completed: bool = False
    wall_seconds: float | None = None
    loop_seconds: float = 0.0
    halt: Halt | None = None
    timed_out: bool = False

    @property
    def halted(self) -> bool:
        """Whether ``fix halt`` stopped a run."""
        return self.halt is not None

    @property
    def halt_step(self) -> int | None:
        """Step on which ``fix halt`` fired."""
        return None if self.halt is None else self.halt.step

    @property
    def last_step(self) -> int | None:
        """Last step with thermo output."""
        steps = [int(run["Step"][-1]) for run in self.runs if len(run.get("Step", ()))]
        return steps[-1] if steps else None

    def series(self) -> dict[str, np.ndarray]:
        """All tables one after the other, for the columns they share; repeated first lines are left out."""
        runs = [run for run in self.runs if run and len(next(iter(run.values())))]
        if not runs:
            return {}
        shared = [name for name in runs[0] if all(name in run for run in runs)]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in shared}
        previous = None
        for run in runs:
            steps = run.get("Step")
            start = int(steps is not None and previous is not None and steps[0] == previous)
            for name in shared:
                parts[name].append(run[name][start:])
            previous = None if steps is None else steps[-1]
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


class _Table:
    """A thermo table while it is read."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.rows: list[list[float]] = []
        self.style = ""
        self._multi: dict[str, float] = {}

    def header(self, line: str) -> bool:
        """Take the first line after the memory line; False if it is none."""
        if line.strip() == "---":
            self.style = "yaml"
        elif match := _MULTI_STEP.match(line):
            self.style = "multi"
            self._multi = {"Step": float(match[1])}
        elif line.split() and not line.startswith(("WARNING", "ERROR")):
            self.style = "one"
            self.columns = _unique(line.split())
        return bool(self.style)

    def row(self, line: str) -> None:
        """Take a line of the table; what does not belong to it is left out."""
        if self.style == "yaml":
            self._yaml(line)
        elif self.style == "multi":
            if match := _MULTI_STEP.match(line):
                self.close()
                self._multi = {"Step": float(match[1])}
            else:
                for name, value in _MULTI_PAIR.findall(line):
                    self._multi[name] = _number(value)
        else:
            self._append(line.split())

    def _append(self, words: list[str]) -> None:
        if len(words) == len(self.columns):
            values = [_number(word) for word in words]
            if None not in values:
                self.rows.append(values)

    def _yaml(self, line: str) -> None:
        text = line.strip()
        if text.startswith("keywords:"):
            names = text.split("[", 1)[-1].rstrip("]").split(",")
            self.columns = _unique([name.strip().strip("'\"") for name in names if name.strip()])
        elif text.startswith("- [") and text.endswith("]"):
            self._append([word.strip() for word in text[3:-1].split(",") if word.strip()])

    def close(self) -> None:
        """End of a block of ``multi`` lines, or of the table."""
        if self.style == "multi" and self._multi:
            if not self.columns:
                self.columns = list(self._multi)
            if list(self._multi) == self.columns and None not in self._multi.values():
                self.rows.append(list(self._multi.values()))
            self._multi = {}

    def arrays(self) -> dict[str, np.ndarray]:
        table = np.array(self.rows, dtype=float).reshape(len(self.rows), len(self.columns))
        result = {name: np.ascontiguousarray(table[:, k]) for k, name in enumerate(self.columns)}
        if "Step" in result:
            result["Step"] = result["Step"].astype(np.int64)
        return result


def read_log(source: str | Path) -> LogFile:
    """Read a log, complete or cut off at any place.

    :param source: path of the log, or its text (a string with line ends)
    :raises AceError: when the file cannot be read
    """
    if isinstance(source, Path) or "\n" not in source:
        try:
            text = Path(source).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise AceError(f"cannot read LAMMPS log {source}: {error.strerror}") from error
    else:
        text = source
    lines = text.split("\n")[:-1]  # what follows the last line end was not written to its end
    log = LogFile()
    if lines and (match := _VERSION.match(lines[0])):
        log.version = match[1]
    if (tail := _WALL.match(text[text.rfind("\n") + 1 :])) is not None:
        lines.append(tail[0])
    table: _Table | None = None
    for line in lines:
        if _general(log, line):
            continue
        if line.startswith(_MEMORY):
            table = _finish(log, table, False)
            table = _Table()
        elif match := _LOOP.match(line):
            log.loop_seconds += _number(match[1]) or 0.0
            table = _finish(log, table, True)
        elif table is not None:
            if table.style:
                table.row(line)
            else:
                table.header(line)
    _finish(log, table, False)
    return log


def native_cause(text: str) -> str | None:
    """Why LAMMPS gave up, from its stderr: what an exception of the code or of a library (ML-PACE) said.

    Launchers add lines of their own after it, and the log just ends.

    :param text: content of stderr
    :returns: the first such message; the kind of the exception if it has none; None if there is no exception
    """
    thrown = None
    for line in text.splitlines():
        if (match := _CAUSE.match(line)) and match[1].strip():
            return match[1].strip()
        if thrown is None and (match := _THROWN.match(line)):
            thrown = match[1]
    return thrown


def _general(log: LogFile, line: str) -> bool:
    """Lines that may stand anywhere, also inside a table."""
    log.timed_out |= _TIMEOUT in line
    if match := _HALT.search(line):
        log.halt = Halt(match[1], int(match[2]), _number(match[3]) or float("nan"))
    elif line.startswith("WARNING: "):
        log.warnings.append(line[len("WARNING: ") :].strip())
        log.timed_out |= _TIMEOUT in line
    elif match := _ERROR.match(line):
        log.errors.append(match[1].strip())
    elif match := _WALL.match(line):
        hours, minutes, seconds = (int(part) for part in match.groups())
        log.wall_seconds = 3600.0 * hours + 60.0 * minutes + seconds
        log.completed = True
    else:
        return False
    return True


def _finish(log: LogFile, table: _Table | None, finished: bool) -> None:
    if table is not None and table.style:
        table.close()
        log.runs.append(table.arrays())
        log.finished.append(finished)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _unique(names: list[str]) -> list[str]:
    """Column names; a repeated one gets a number."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result
