"""``aceal.select``: which candidates are worth a label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
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
    unknown_keys,
    write_set,
    write_union,
)
from aiida_aceal.data.dataset import ConfigurationsData

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

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """Unknown or missing keys, an unknown strategy, a limit that is no positive number."""
        message = super().check_settings(inputs)
        if message or inputs.get("settings") is None:
            return message
        settings = inputs["settings"].get_dict()
        known = {point.name for point in entry_points(group=STRATEGIES)}
        if not isinstance(settings.get("strategy"), str):
            return f"settings: `strategy` is missing: name one of {', '.join(sorted(known))}"
        if settings["strategy"] not in known:
            return unknown_keys({settings["strategy"]: None}, known).replace("key", "strategy")
        limits = {key: settings[key] for key in ("count", "max_atoms", "max_cost") if settings.get(key) is not None}
        if not limits:
            return "settings: say how much to select: `count`, `max_atoms` or `max_cost`"
        for key, value in limits.items():
            whole = isinstance(value, int) or key == "max_cost"
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not whole or value <= 0:
                return f"settings: `{key}` must be a positive {'number' if key == 'max_cost' else 'integer'}: {value!r}"
        if not isinstance(settings.get("options", {}), dict):
            return "settings: `options` must be a mapping of arguments of the strategy"
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
