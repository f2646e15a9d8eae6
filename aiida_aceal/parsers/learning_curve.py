"""Parser of ``aceal.learning_curve``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceLearningCurveParser(AceWorkerParser):
    """The report is the curve; refuses one without points or with errors that are not finite."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Check the points."""
        points = report.get("points")
        if not points:
            return self.exit("ERROR_OUTPUT_MISSING", "points of the curve")
        for point in points:
            for key, value in point.items():
                if isinstance(value, float) and not math.isfinite(value):
                    return self.exit("ERROR_NOT_FINITE", f"{key} = {value} at size {point.get('size')}")
        return None
