"""Parser of ``aceal.grade``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.grade import GRADED_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceGradeParser(AceWorkerParser):
    """Attaches ``graded`` unless the settings say that it is not wanted."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the graded configurations."""
        settings = self.node.inputs.settings.get_dict() if "settings" in self.node.inputs else {}
        if not settings.get("store", True):
            return None
        return self.attach_configurations("graded", GRADED_FILE, source="grade")
