"""Parser of ``aceal.extract``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.extract import CELLS_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceExtractParser(AceWorkerParser):
    """Attaches ``candidates``; no atom above gamma_lo is no failure."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the cells."""
        return self.attach_configurations("candidates", CELLS_FILE, source="aceal.extract", may_be_empty=True)
