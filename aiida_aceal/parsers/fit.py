"""Parser of ``aceal.fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.parsers.job import AceJobParser


class AceFitParser(AceJobParser):
    """Attaches the fitted potential, and the ensemble if one was wanted, unless coefficients are not finite.

    Of a fit that was cut short by its wall time only the potential: the ensemble is made at the end.
    """

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """What the fit warned of stands in the log of the process."""
        for line in report.get("warnings", []):
            self.logger.warning(line)
        if not report.get("unfinished"):
            return super().parse_files(report)
        made = self.attach(self.job.output("fitted"), report, {})
        done, most = report["rounds"][-1]["evaluations"], report["settings"]["nonlinear"]["evaluations"]
        words = f"the nonlinear fit ended after {done} of at most {most} evaluations; `potential` is what it has"
        return made or self.exit("ERROR_OUT_OF_WALLTIME", words)
