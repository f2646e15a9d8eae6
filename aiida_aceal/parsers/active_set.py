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

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the active set."""
        path = self.path(ACTIVE_SET_FILE)
        if path is None:
            return self.exit("ERROR_OUTPUT_MISSING", ACTIVE_SET_FILE)
        try:
            node = ActiveSetData(file=path, potential=self.node.inputs.potential)
        except AceError as error:
            message = str(error).replace(str(path), ACTIVE_SET_FILE)
            return self.exit("ERROR_NOT_FINITE" if "not finite" in message else "ERROR_OUTPUT_TRUNCATED", message)
        self.out("active_set", node)
        return None
