"""``aceal.select``: which candidates are worth a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ACTIVE_SET_FILE,
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    active_set_port,
    configurations_port,
    potential_port,
    seed_port,
    settings_port,
    write_set,
)
from aiida_aceal.data.dataset import ConfigurationsData

INPUT_FILE = "candidates.extxyz"
SELECTED_FILE = "selected.extxyz"


class AceSelectCalculation(AceWorkerCalculation):
    """Select from candidates by a strategy.

    ``settings``: ``strategy`` (name of an entry point of ``aiida_aceal.strategies``) and ``count`` are required.
    """

    _SUBCOMMAND = "select"
    _PARSER = "aceal.select"
    _OUTPUTS = (SELECTED_FILE,)
    _SETTINGS = {"strategy": "--strategy", "count": "--count"}  # noqa: RUF012

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        active_set_port(spec)
        configurations_port(spec, "The candidates.")
        settings_port(spec, "`strategy`, `count`.", required=True)
        seed_port(spec)
        spec.output(
            "selected",
            valid_type=ConfigurationsData,
            required=False,
            help="The chosen configurations with info reason, score and round; absent if none was chosen.",
        )

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """Unknown or missing keys, and a count that is no positive number."""
        message = super().check_settings(inputs)
        if message or inputs.get("settings") is None:
            return message
        settings = inputs["settings"].get_dict()
        if not isinstance(settings.get("strategy"), str):
            return "settings: `strategy` is missing: name a selection strategy, such as 'd_optimal'"
        count = settings.get("count")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            return f"settings: `count` must be a positive integer, it is {count!r}"
        return None

    def write_inputs(self, folder: Folder) -> list[str]:
        """One file with all candidates."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        words = [POTENTIAL_FILE, ACTIVE_SET_FILE, INPUT_FILE, "-o", SELECTED_FILE, "--report", REPORT_FILE]
        return [*self.option_words(), "--seed", str(self.inputs.seed.value), *words]
