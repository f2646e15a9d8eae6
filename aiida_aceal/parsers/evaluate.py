"""Parser of ``aceal.evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.evaluate import EVALUATED_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceEvaluateParser(AceWorkerParser):
    """Attaches ``evaluated`` unless the settings say that it is not wanted."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the evaluated configurations."""
        settings = self.node.inputs.settings.get_dict() if "settings" in self.node.inputs else {}
        if not settings.get("store", True):
            return None
        return self.attach_configurations("evaluated", EVALUATED_FILE, source="evaluate")
