"""Parser of ``aceal.explore.active`` and ``aceal.explore.pool``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.explore_base import CANDIDATES_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceExploreParser(AceWorkerParser):
    """Attaches ``candidates``; finding nothing is no failure."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the candidates."""
        return self.attach_configurations(
            "candidates", CANDIDATES_FILE, source=self.node.process_type.split(":")[-1], may_be_empty=True
        )
