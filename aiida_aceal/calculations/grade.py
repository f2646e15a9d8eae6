"""``aceal.grade``: gamma of every atom of many configurations."""

from __future__ import annotations

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.with_ensemble import WithEnsemble
from aiida_aceal.calculations.worker_base import (
    ACTIVE_SET_FILE,
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    active_set_port,
    configurations_port,
    potential_port,
    settings_port,
    write_set,
)
from aiida_aceal.data.dataset import ConfigurationsData

INPUT_FILE = "configurations.extxyz"
GRADED_FILE = "graded.extxyz"


class AceGradeCalculation(WithEnsemble, AceWorkerCalculation):
    """Grade configurations; an unfitted potential will do for a linear active set.

    ``settings``: ``store`` (whether the graded configurations become a node, True).
    """

    _SUBCOMMAND = "grade"
    _PARSER = "aceal.grade"
    _OUTPUTS = (GRADED_FILE,)
    _SETTINGS = {"store": ""}  # noqa: RUF012

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        active_set_port(spec)
        configurations_port(spec, "What is graded.")
        settings_port(spec, "`store`.")
        spec.output(
            "graded",
            valid_type=ConfigurationsData,
            required=False,
            help="The configurations with array gamma and info gamma_max.",
        )

    def write_inputs(self, folder: Folder) -> list[str]:
        """One file with all configurations."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        words = [POTENTIAL_FILE, ACTIVE_SET_FILE, INPUT_FILE, "-o", GRADED_FILE, "--report", REPORT_FILE]
        return [*words, *self.option_words(), *self.ensemble_words()]
