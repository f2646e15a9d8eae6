"""Parser of ``aceal.fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.ace.errors import AceError
from aiida_aceal.calculations.fit import FITTED_FILE
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceFitParser(AceWorkerParser):
    """Attaches the fitted potential unless it has coefficients that are not finite."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the fitted potential."""
        path = self.path(FITTED_FILE)
        if path is None:
            return self.exit("ERROR_OUTPUT_MISSING", FITTED_FILE)
        try:
            node = AcePotentialData(file=path)  # refuses coefficients that are not finite
        except AceError as error:
            message = str(error).replace(str(path), FITTED_FILE)
            return self.exit("ERROR_NOT_FINITE" if "not finite" in message else "ERROR_OUTPUT_TRUNCATED", message)
        self.out("potential", node)
        return None
