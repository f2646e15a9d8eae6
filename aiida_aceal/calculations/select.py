"""``aceal.select``: which candidates are worth a label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

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
    dataset_port,
    potential_port,
    seed_port,
    settings_port,
    write_set,
    write_union,
)
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.selection.settings import SelectSettings

INPUT_FILE = "candidates.extxyz"
REFERENCE_FILE = "reference.extxyz"
SELECTED_FILE = "selected.extxyz"
STRATEGIES = "aiida_aceal.strategies"


class AceSelectCalculation(WithEnsemble, AceWorkerCalculation):
    """Select from candidates by a strategy.

    ``settings``: ``strategy`` (name of an entry point of ``aiida_aceal.strategies``) and at least one limit of the
    batch: ``count`` (structures), ``max_atoms``, ``max_cost`` (sum of n_atoms ** ``cost_power``). Further:
    ``descriptor``, ``duplicate_distance``, ``memory``, and ``options`` (arguments of the strategy itself).

    ``reference`` is the training set of the potential: ``viability`` judges by it, and is refused without.
    """

    _ENSEMBLE_HELP = "If given, its indicator (dF or dE) takes the place of gamma in strategies that use uncertainty."
    _SUBCOMMAND = "select"
    _PARSER = "aceal.select"
    _MODEL = SelectSettings
    _OUTPUTS = (SELECTED_FILE,)
    _SETTINGS = {  # noqa: RUF012
        "strategy": "--strategy",
        "count": "--count",
        "max_atoms": "--max-atoms",
        "max_cost": "--max-cost",
        "cost_power": "--cost-power",
        "descriptor": "--descriptor",
        "duplicate_distance": "--duplicate-distance",
        "memory": "--memory",
        "options": "--options",
    }

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        active_set_port(spec)
        configurations_port(spec, "The candidates.")
        settings_port(spec, "`strategy`, `count` or another limit, ...", required=True)
        dataset_port(
            spec,
            "reference",
            required=False,
            text="Training set of the potential (the union of these sets), which `viability` compares candidates with.",
        )
        seed_port(spec)
        spec.output(
            "selected",
            valid_type=ConfigurationsData,
            required=False,
            help="The chosen configurations with info reason, score and round; absent if none was chosen.",
        )

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse ``viability`` without anything to compare the candidates with."""
        message = super().validate_inputs(inputs)
        if message or inputs.get("settings") is None:
            return message
        settings = inputs["settings"].get_dict()
        given = inputs.get("reference") or (settings.get("options") or {}).get("reference")
        if settings.get("strategy") == "viability" and not given:
            return (
                "reference: `viability` judges candidates by the training set of the potential; give its sets as "
                "`reference`, or numbers U, sU, E, sE as options.reference"
            )
        return None

    def settings(self) -> dict[str, Any]:
        """Options of the strategy travel as JSON."""
        settings = super().settings()
        if "options" in settings:
            settings["options"] = json.dumps(settings["options"], sort_keys=True)
        return settings

    def write_inputs(self, folder: Folder) -> list[str]:
        """One file with all candidates, one with the reference set."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        words = [POTENTIAL_FILE, ACTIVE_SET_FILE, INPUT_FILE, "-o", SELECTED_FILE, "--report", REPORT_FILE]
        if self.inputs.get("reference"):
            write_union(folder, REFERENCE_FILE, self.inputs.reference)
            words += ["--reference", REFERENCE_FILE]
        return [*self.option_words(), *self.ensemble_words(), "--seed", str(self.inputs.seed.value), *words]
