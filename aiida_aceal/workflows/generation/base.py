"""What all steps of a generation use: its number, settings, data."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.plugins import CalculationFactory

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import AceWorkChain
from aiida_aceal.workflows.sections import filled
from aiida_aceal.workflows.steps import step_inputs


class GenerationBase(AceWorkChain):
    """Inputs of a generation, with defaults filled in."""

    @property
    def number(self) -> int:
        """Number of this generation."""
        return self.inputs.generation.value

    def _settings(self, name: str) -> dict[str, Any]:
        return filled(name, self.inputs[name].get_dict() if name in self.inputs else {})

    def _worker(self, entry_point: str, **inputs: Any) -> tuple[Any, dict[str, Any]]:
        cls = CalculationFactory(entry_point)
        return cls, step_inputs(cls, self.inputs.worker, **inputs)

    def _datasets(self) -> dict[str, ConfigurationsData]:
        """All labelled sets, those of the generations before and the new one."""
        sets = dict(self.inputs.get("dataset") or {})
        if self.ctx.labelled is not None:
            sets[f"generation_{self.number:03d}"] = orm.load_node(self.ctx.labelled)
        return sets

    def _validation(self) -> ConfigurationsData:
        return orm.load_node(self.ctx.validation) if self.ctx.validation else self.inputs.validation
