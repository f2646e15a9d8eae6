"""Inputs of a generation as the steps take them: with defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.ensemble_settings import ENSEMBLE
from aiida_aceal.workflows.sections import filled


class Given:
    """Reads the inputs of the WorkChain; it knows nothing of what the steps find."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs

    @property
    def number(self) -> int:
        """Number of this generation."""
        return self.inputs["generation"].value

    @property
    def datasets(self) -> dict[str, ConfigurationsData]:
        """Labelled sets of the generations before."""
        return dict(self.inputs.get("dataset") or {})

    @property
    def explorers(self) -> list[str]:
        """Names of the explorers, in the order of their seeds."""
        return sorted(self.inputs.get("explorers") or {})

    @property
    def ensemble(self) -> dict[str, Any]:
        """Settings of the ensemble."""
        return {**ENSEMBLE, **(self.inputs["ensemble"].get_dict() if "ensemble" in self.inputs else {})}

    def settings(self, name: str) -> dict[str, Any]:
        """A section of settings: selection, activeset, gate, limits."""
        return filled(name, self.inputs[name].get_dict() if name in self.inputs else {})

    def in_force(self) -> dict[str, Any]:
        """``potential`` in force before this generation, its ``active_set``, and the ``worker`` to use them."""
        given = {"potential": self.inputs["potential"], "active_set": self.inputs.get("active_set")}
        return {**given, "worker": self.inputs["worker"]}

    def seeds(self) -> dict[str, int]:
        """``seed`` of the campaign and ``number`` of the generation; steps derive their own from them."""
        return {"seed": self.inputs["seed"].value, "number": self.number}

    def known(self) -> dict[str, Any]:
        """What can be no candidate: the training set (``datasets``), and ``quarantine``, a list of hashes."""
        quarantine = self.inputs["quarantine"].get_list() if "quarantine" in self.inputs else []
        return {"datasets": self.datasets, "quarantine": quarantine}

    def tests(self) -> dict[str, ConfigurationsData]:
        """Sets that errors are measured on, which must never be learnt."""
        return {**(self.inputs.get("tests") or {}), "validation": self.inputs["validation"]}
