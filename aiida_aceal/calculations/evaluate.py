"""``aceal.evaluate``: energies, forces, stress and gamma of configurations, errors against their labels."""

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
from aiida_aceal.worker.settings import EvaluateSettings

INPUT_FILE = "configurations.extxyz"
EVALUATED_FILE = "evaluated.extxyz"


class AceEvaluateCalculation(WithEnsemble, AceWorkerCalculation):
    """Evaluate a potential on configurations; the validation step of a generation.

    ``settings``: ``worst`` (number of worst structures in the report, 10), ``store`` (whether the evaluated
    configurations become a node, True; the report always does).
    """

    _SUBCOMMAND = "evaluate"
    _PARSER = "aceal.evaluate"
    _MODEL = EvaluateSettings
    _OUTPUTS = (EVALUATED_FILE,)
    _SETTINGS = {"worst": "--worst", "store": ""}  # noqa: RUF012

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        configurations_port(spec, "What is evaluated; labels are compared with the result.")
        active_set_port(spec, required=False, text="If given, gamma of each atom is computed.")
        settings_port(spec, "`worst`, `store`.")
        spec.output(
            "evaluated",
            valid_type=ConfigurationsData,
            required=False,
            help="The configurations with the computed labels; given labels as reference_energy, reference_forces, "
            "reference_stress.",
        )

    def write_inputs(self, folder: Folder) -> list[str]:
        """One file with all configurations."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        words = [POTENTIAL_FILE, INPUT_FILE, "--report", REPORT_FILE, *self.option_words()]
        if self.settings().get("store", True):
            words += ["-o", EVALUATED_FILE]
        words += ["--asi", ACTIVE_SET_FILE] if "active_set" in self.inputs else []
        return words + self.ensemble_words()
