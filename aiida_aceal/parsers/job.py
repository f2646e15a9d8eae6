"""Parser of all CalcJobs that are made from the declaration of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.job import NODE_TYPES
from aiida_aceal.common.errors import AceError, NotFiniteError
from aiida_aceal.jobs.declaration import Job, Output
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceJobParser(AceWorkerParser):
    """Attaches the outputs that the job declares."""

    @property
    def job(self) -> Job:
        """The job of the process that is parsed."""
        return self.node.process_class.JOB

    def slim(self, report: dict[str, Any]) -> dict[str, Any]:
        """What of the report goes into the data base."""
        return self.job.slim(report)

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the output files."""
        settings = self.node.inputs.settings.get_dict() if "settings" in self.node.inputs else {}
        for part in self.job.outputs:
            if not part.node or not part.wanted(settings):
                continue
            failure = self.attach(part, report, settings)
            if failure is not None:
                return failure
        try:
            missing = self.job.check_report(report) if report else None
        except NotFiniteError as error:
            return self.exit("ERROR_NOT_FINITE", str(error))
        return self.exit("ERROR_OUTPUT_MISSING", missing) if missing else None

    def attach(self, part: Output, report: Mapping[str, Any], settings: Mapping[str, Any]) -> ExitCode | None:
        """Read one output file and attach its node."""
        if part.kind == "configurations":
            source = self.job.source_of(settings)
            return self.attach_configurations(part.link, part.filename, source, may_be_empty=part.may_be_empty)
        path = self.path(part.filename)
        if path is None:
            return self.exit("ERROR_OUTPUT_MISSING", part.filename)
        try:
            node = self.make_node(part, path, report)
        except AceError as error:
            return self.unreadable(error, path, part.filename)
        self.out(part.link, node)
        return None

    def make_node(self, part: Output, path: Any, report: Mapping[str, Any]) -> Any:
        """The node of a file. Raises AceError if it cannot be read."""
        return NODE_TYPES[part.kind](file=path)
