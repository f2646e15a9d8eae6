"""Parser of ``aceal.select``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.select import SELECTED_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceSelectParser(AceWorkerParser):
    """Attaches ``selected``; choosing nothing is no failure."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the selected configurations."""
        return self.attach_configurations("selected", SELECTED_FILE, source="select", may_be_empty=True)
