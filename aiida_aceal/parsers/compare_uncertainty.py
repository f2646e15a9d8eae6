"""Parser of ``aceal.compare_uncertainty``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceCompareUncertaintyParser(AceWorkerParser):
    """The report is the comparison; refuses one without indicators."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Check that every indicator graded every structure."""
        indicators = report.get("indicators")
        if not indicators:
            return self.exit("ERROR_OUTPUT_MISSING", "indicators of the comparison")
        for name, entry in indicators.items():
            if len(entry.get("values", ())) != report.get("n_structures"):
                return self.exit("ERROR_OUTPUT_MISSING", f"values of the indicator {name}")
        return None
