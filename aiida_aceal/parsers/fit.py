"""Parser of ``aceal.fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.parsers.job import AceJobParser


class AceFitParser(AceJobParser):
    """Attaches the fitted potential, and the ensemble if one was wanted, unless coefficients are not finite."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """What the fit warned of stands in the log of the process."""
        for line in report.get("warnings", []):
            self.logger.warning(line)
        return super().parse_files(report)
