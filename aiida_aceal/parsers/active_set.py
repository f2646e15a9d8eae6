"""Parser of ``aceal.active_set``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.jobs.declaration import Output
from aiida_aceal.parsers.job import AceJobParser


class AceActiveSetParser(AceJobParser):
    """Attaches the active set with the content hashes of the structures whose environments it holds."""

    def make_node(self, part: Output, path: Path, report: Mapping[str, Any]) -> ActiveSetData:
        """The active set. Raises `AceError` if it cannot be read."""
        # the report is complete, what the file says of itself is cut to 64 kB
        full = dict(report) if "elements" in report else None
        return ActiveSetData(file=path, potential=self.node.inputs.potential, report=full)
