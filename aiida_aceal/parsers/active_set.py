"""Parser of ``aceal.active_set``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.ace.errors import AceError
from aiida_aceal.calculations.worker_base import ACTIVE_SET_FILE
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceActiveSetParser(AceWorkerParser):
    """Attaches the active set with the content hashes of the structures whose environments it holds."""

    def slim(self, report: dict[str, Any]) -> dict[str, Any]:
        """Without the lists per row: the active set node keeps them in its repository."""
        elements = report.get("elements")
        if not isinstance(elements, dict):
            return report
        heavy = ("active_environments", "identifiers", "structures")
        return {
            **report,
            "elements": {el: {k: v for k, v in facts.items() if k not in heavy} for el, facts in elements.items()},
        }

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the active set."""
        path = self.path(ACTIVE_SET_FILE)
        if path is None:
            return self.exit("ERROR_OUTPUT_MISSING", ACTIVE_SET_FILE)
        try:
            # the report is complete, what the file says of itself is cut to 64 kB
            full = report if "elements" in report else None
            node = ActiveSetData(file=path, potential=self.node.inputs.potential, report=full)
        except AceError as error:
            return self.unreadable(error, path, ACTIVE_SET_FILE)
        self.out("active_set", node)
        return None
