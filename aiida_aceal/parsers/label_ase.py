"""Parser of ``aceal.label.ase``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.parsers.job import AceJobParser


class AceLabelAseParser(AceJobParser):
    """A batch without a single label is a failure, one with some is not."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the labelled configurations."""
        failures = report.get("failures") or []
        if failures and not report.get("n_labelled"):
            reason = failures[0].get("reason")
            return self.exit("ERROR_NOTHING_LABELLED", f"{len(failures)} failed, the first with: {reason}")
        return super().parse_files(report)
