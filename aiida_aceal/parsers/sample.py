"""Parser of ``aceal.sample``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.sample import SAMPLES_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceSampleParser(AceWorkerParser):
    """Attaches ``labelled``."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the snapshots."""
        return self.attach_configurations("labelled", SAMPLES_FILE, source="reference md")
