"""Parser that all CalcJobs of ``aceal-worker`` share."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.parsers import Parser

from aiida_aceal.calculations.worker_base import ERROR_FILE, REPORT_FILE
from aiida_aceal.common.commands import TIME_LIMIT
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.common.errors import AceError, NotFiniteError
from aiida_aceal.data.dataset import ConfigurationsData

_MEMORY_WORDS = ("MemoryError", "oom-kill", "Out of memory", "out of memory", "Cannot allocate memory", "bad_alloc")
_TIME_WORDS = (TIME_LIMIT, "DUE TO TIME LIMIT", "exceeded limit", "CPU time limit exceeded", "TERM_RUNLIMIT")
#: states by which Slurm accounts jobs that did not end by themselves
_END_STATES = ("CANCELLED", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED")
#: lines of shells (alone, or `script: line 9: 123 Killed  command`) and of schedulers (slurmstepd, PBS, LSF)
_END_LINE = re.compile(
    r"(^|\d\s+)(Killed|Terminated|Hangup)(\s|$)|CANCELLED AT(?!.*TIME LIMIT)|NODE FAILURE|NODE_FAIL|due to preemption|"
    r"TERM_OWNER|Job deleted|received signal (9|15)|signal SIG(TERM|KILL)",
    re.IGNORECASE | re.MULTILINE,
)


class AceWorkerParser(Parser):
    """Reads the report, turns what the worker said on stderr into an exit code, leaves the rest to subclasses.

    What was written before a failure is parsed and attached all the same; the failure decides the exit code.
    """

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Parse ``retrieved`` and the temporary folder."""
        self.temporary = Path(kwargs["retrieved_temporary_folder"]) if "retrieved_temporary_folder" in kwargs else None
        failure = self.find_failure()
        report, report_failure = self.read_report()
        if report is not None:
            self.out("report", orm.Dict(clean(self.slim(report))))
        result = self.parse_files(report or {})
        return failure or result or report_failure

    def slim(self, report: dict[str, Any]) -> dict[str, Any]:
        """What of the report goes into the data base."""
        return report

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Attach the outputs of the subclass; returns its exit code or ``None``."""
        return None

    # --- what went wrong ---------------------------------------------------------------------------------------

    def text(self, name: str | None) -> str:
        """Content of a retrieved text file, empty if there is none."""
        try:
            return self.retrieved.base.repository.get_object_content(name, mode="rb").decode("utf-8", "replace")
        except (FileNotFoundError, OSError, TypeError, ValueError):
            return ""

    def find_failure(self) -> ExitCode | None:
        """Exit code for what the worker or the scheduler said, ``None`` if they said nothing bad."""
        errors = self.text(ERROR_FILE)
        scheduler = self.text(self.node.get_option("scheduler_stderr"))
        both = errors + "\n" + scheduler
        last = last_error_line(errors)
        if self.node.exit_status == 120 or any(word in both for word in _TIME_WORDS):
            return self.exit(
                "ERROR_OUT_OF_WALLTIME",
                last or "the scheduler ended the job; ask for more time or give it less to do",
            )
        if self.node.exit_status == 110 or any(word in both for word in _MEMORY_WORDS):
            return self.exit("ERROR_OUT_OF_MEMORY", last or "ask for more memory or lower the `memory` setting")
        for line in errors.splitlines():
            if line.startswith("Error: "):
                return self.exit("ERROR_BAD_INPUT", errors[errors.index("Error: ") + 7 :].strip())
        if "Traceback (most recent call last)" in errors:
            return self.exit("ERROR_RUN_FAILED", last)
        ended = end_of(self.node, both)
        if ended:
            return self.exit("ERROR_JOB_ENDED", ended)
        for word in ("Segmentation fault", "Aborted", "command not found", "No such file or directory"):
            if word in both:
                return self.exit("ERROR_RUN_FAILED", next(x for x in both.splitlines() if word in x).strip())
        return None

    def exit(self, label: str, message: str) -> ExitCode:
        """Exit code of the process with its message filled in."""
        return getattr(self.exit_codes, label).format(message=message)

    def read_report(self) -> tuple[dict | None, ExitCode | None]:
        """Content of ``report.json`` or the reason why there is none."""
        text = self.text(REPORT_FILE)
        if not text:
            return None, self.exit("ERROR_OUTPUT_MISSING", REPORT_FILE)
        try:
            report = json.loads(text)
        except json.JSONDecodeError as error:
            return None, self.exit("ERROR_OUTPUT_TRUNCATED", f"{REPORT_FILE}: {error}")
        if not isinstance(report, dict):
            return None, self.exit("ERROR_OUTPUT_TRUNCATED", f"{REPORT_FILE} does not contain a mapping")
        return report, None

    # --- files -------------------------------------------------------------------------------------------------

    def path(self, name: str) -> Path | None:
        """A temporarily retrieved file, ``None`` if it is not there."""
        if self.temporary is None:
            return None
        path = self.temporary / name
        return path if path.is_file() else None

    def attach_configurations(
        self, port: str, name: str, source: str, required: bool = True, may_be_empty: bool = False
    ) -> ExitCode | None:
        """Read extended XYZ and attach it as ``ConfigurationsData``; nothing is attached if it is empty."""
        path = self.path(name)
        if path is None or (path.stat().st_size == 0 and not may_be_empty):
            return self.exit("ERROR_OUTPUT_MISSING", name) if required else None
        if path.stat().st_size == 0:
            return None
        try:
            self.out(port, ConfigurationsData.from_atoms(read_configurations(path), source=source))
        except AceError as error:
            return self.unreadable(error, path, name)
        return None

    def unreadable(self, error: AceError, path: Path, name: str) -> ExitCode:
        """Exit code for an output that cannot be read; the message calls it by its name in the work folder."""
        label = "ERROR_NOT_FINITE" if isinstance(error, NotFiniteError) else "ERROR_OUTPUT_TRUNCATED"
        return self.exit(label, str(error).replace(str(path), name))


def end_of(node: orm.CalcJobNode, text: str) -> str | None:
    """What says that a job was cancelled, killed or lost with its node, in the words of shell or scheduler.

    :param text: what was written to stderr by the shell and the program
    """
    if node.exit_status == 140:
        return "the scheduler lost the node"
    for state in accounted_states(node.get_detailed_job_info()):
        if state.startswith(_END_STATES):
            return f"state {state} by the accounting of the scheduler"
    return next((line.strip() for line in text.splitlines() if _END_LINE.search(line)), None)


def accounted_states(info: Mapping[str, Any] | None) -> list[str]:
    """States of a job and its steps by ``sacct``, as AiiDA keeps them; empty if there is no accounting."""
    lines = str((info or {}).get("stdout") or "").splitlines()
    header = lines[0].split("|") if lines else []
    if "State" not in header:
        return []
    column = header.index("State")
    rows = [line.split("|") for line in lines[1:]]
    return [row[column].strip() for row in rows if len(row) > column and row[column].strip()]


def last_error_line(text: str) -> str:
    """The last line that is not blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def clean(value: Any) -> Any:
    """Copy of a JSON value fit for the data base, which knows no nan or inf: they become ``None``."""
    if isinstance(value, dict):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [clean(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
