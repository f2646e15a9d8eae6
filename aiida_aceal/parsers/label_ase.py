"""Parser of ``aceal.label.ase``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode

from aiida_aceal.calculations.label_ase import LABELLED_FILE
from aiida_aceal.parsers.worker_base import AceWorkerParser


class AceLabelAseParser(AceWorkerParser):
    """Attaches ``labelled``; a batch without a single label is a failure, one with some is not."""

    def parse_files(self, report: Mapping[str, Any]) -> ExitCode | None:
        """Read the labelled configurations."""
        failures = report.get("failures") or []
        if failures and not report.get("n_labelled"):
            return self.exit("ERROR_NOTHING_LABELLED", f"{len(failures)} failed, the first with: {first(failures)}")
        name = self.node.inputs.settings.get_dict()["calculator"]
        return self.attach_configurations("labelled", LABELLED_FILE, source=f"label.ase {name}")


def first(failures: list[Mapping[str, Any]]) -> str:
    """Reason of the first failure."""
    return str(failures[0].get("reason"))
