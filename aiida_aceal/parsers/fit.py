"""Parser of ``aceal.fit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.ace.errors import AceError
from aiida_aceal.calculations.fit import ENSEMBLE_FILE, FITTED_FILE
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceFitParser(AceWorkerParser):
    """Attaches the fitted potential, and the ensemble if one was wanted, unless coefficients are not finite."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the fitted potential and the ensemble; what the fit warned of stands in the log of the process."""
        for line in report.get("warnings", []):
            self.logger.warning(line)
        settings = self.node.inputs.settings.get_dict() if "settings" in self.node.inputs else {}
        wanted = [("potential", FITTED_FILE, AcePotentialData)]
        if settings.get("ensemble") is not None:
            wanted.append(("ensemble", ENSEMBLE_FILE, EnsembleData))
        for port, name, data in wanted:
            path = self.path(name)
            if path is None:
                return self.exit("ERROR_OUTPUT_MISSING", name)
            try:
                node = data(file=path)  # refuses coefficients that are not finite
            except AceError as error:
                return self.unreadable(error, path, name)
            self.out(port, node)
        return None
