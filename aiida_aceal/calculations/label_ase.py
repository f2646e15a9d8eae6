"""``aceal.label.ase``: reference labels of a batch of configurations by any ASE calculator."""

from __future__ import annotations

import json

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    REPORT_FILE,
    AceWorkerCalculation,
    configurations_port,
    settings_port,
    write_set,
)
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.worker.settings import AseLabelSettings

INPUT_FILE = "configurations.extxyz"
LABELLED_FILE = "labelled.extxyz"
KWARGS_FILE = "calculator.json"

#: part of the wall time for labels; what is done by then is kept
BUDGET_FRACTION = 0.85


class AceLabelAseCalculation(AceWorkerCalculation):
    """Label a batch, in parallel over the cores of the job; a configuration that fails costs only itself.

    ``settings``: ``calculator`` (required; short name or ``package.module:Class``), ``kwargs`` (its arguments),
    ``workers`` (processes; default: as many as cores), ``timeout`` (s for one configuration), ``energy``
    (``extrapolated`` or ``free``), ``stress`` (True), ``max_force`` (eV/A; refuse labels above).
    """

    _SUBCOMMAND = "label"
    _PARSER = "aceal.label.ase"
    _MODEL = AseLabelSettings
    _OUTPUTS = (LABELLED_FILE,)
    _SETTINGS = {  # noqa: RUF012
        "calculator": "--calculator",
        "kwargs": "",
        "workers": "--workers",
        "timeout": "--timeout",
        "energy": "--energy",
        "stress": "",
        "max_force": "--max-force",
    }

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports and the exit code of a batch without a single label."""
        super().define(spec)
        configurations_port(spec, "What is labelled; labels it may have are replaced.")
        settings_port(spec, "`calculator`, `kwargs`, `workers`, `timeout`, `energy`, ...", required=True)
        spec.input_namespace(
            "files",
            valid_type=orm.SinglefileData,
            dynamic=True,
            required=False,
            help="Files the calculator reads, such as the potential of `eam`; `kwargs` call them by their file name.",
        )
        spec.output(
            "labelled",
            valid_type=ConfigurationsData,
            required=False,
            help="The configurations that could be labelled, in their order.",
        )
        spec.exit_code(
            310, "ERROR_NOTHING_LABELLED", message="No configuration could be labelled: {message}",
            invalidates_cache=True,
        )  # fmt: skip

    def write_inputs(self, folder: Folder) -> list[str]:
        """The configurations and the arguments of the calculator."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        settings = self.settings()
        with folder.open(KWARGS_FILE, "w", encoding="utf-8") as handle:
            json.dump(settings.get("kwargs") or {}, handle, indent=1, sort_keys=True)
        words = [*self.option_words(), "--settings", KWARGS_FILE, INPUT_FILE, "-o", LABELLED_FILE]
        words += ["--report", REPORT_FILE, "--stress" if settings.get("stress", True) else "--no-stress"]
        seconds = self.inputs.metadata.options.get("max_wallclock_seconds")
        return [*words, "--budget", f"{max(1.0, BUDGET_FRACTION * seconds):g}"] if seconds else words

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """As the base, plus the calculator's own files."""
        calcinfo = super().prepare_for_submission(folder)
        for node in self.inputs.get("files", {}).values():
            calcinfo.local_copy_list.append((node.uuid, node.filename, node.filename))
        return calcinfo
