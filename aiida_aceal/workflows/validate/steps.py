"""Steps of a campaign that validate its best potential: at the end, or every n generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessSpec

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import AceWorkChain, clean_scratch, output, why
from aiida_aceal.workflows.validate.workchain import ValidateWorkChain, check_wanted


def properties_ports(spec: ProcessSpec) -> None:
    """Namespace ``properties`` of a campaign, and its output."""
    spec.input_namespace(
        "properties", required=False, populate_defaults=False,
        help="Properties that are compared with the reference; decides nothing. Without it, none are.",
    )  # fmt: skip
    spec.input(
        "properties.structure", valid_type=ConfigurationsData,
        help="The crystal, then further phases: as of aceal.validate.",
    )  # fmt: skip
    spec.input(
        "properties.settings", valid_type=orm.Dict, serializer=orm.to_aiida_type, required=False,
        help="Which properties, and how: as of aceal.validate.",
    )  # fmt: skip
    spec.input(
        "properties.every", valid_type=orm.Int, serializer=orm.to_aiida_type, required=False,
        validator=lambda node, _: "must be at least 1" if node is not None and node.value < 1 else None,
        help="Also after every so many generations; without it, at the end only.",
    )  # fmt: skip
    spec.output(
        "properties", valid_type=orm.Dict, required=False,
        help="Summary of the last aceal.validate: worst numbers, failures, costs.",
    )  # fmt: skip


def check_properties(inputs: Mapping[str, Any]) -> str | None:
    """What is wrong with the namespace, or ``None``."""
    given = inputs.get("properties")
    if not given:
        return None
    message = check_wanted({**given, "potential": inputs.get("potential")})
    return f"properties: {message}" if message else None


class ValidationSteps(AceWorkChain):
    """Steps of a campaign, whose context holds ``best``, ``number`` and ``validated`` (potential, child)."""

    def has_to_validate(self) -> bool:
        """Whether properties are wanted of a potential whose properties are not known yet."""
        if not self.inputs.get("properties") or "potential" not in self.ctx.best:
            return False
        return self.ctx.best["potential"] not in [uuid for uuid, _ in self.ctx.validated]

    def is_due(self) -> bool:
        """Whether this generation is one of those that are followed by a validation."""
        every = (self.inputs.get("properties") or {}).get("every")
        last = self.ctx.number - 1
        return every is not None and last > 0 and last % every.value == 0 and self.has_to_validate()

    def validate_potential(self) -> None:
        """Start the validation of the best potential so far; labels of earlier ones are reused."""
        given = self.inputs.properties
        inputs = {
            "potential": orm.load_node(self.ctx.best["potential"]),
            "structure": given.structure,
            "labeller": self.inputs.labeller,
            "worker": self.inputs.worker,
        }
        for name in ("active_set", "ensemble"):
            if name in self.ctx.best:
                inputs[name] = orm.load_node(self.ctx.best[name])
        if "settings" in given:
            inputs["settings"] = given.settings
        earlier = {label: output(self.child(label), "structures") for _, label in self.ctx.validated}
        labelled = {label: node for label, node in earlier.items() if node is not None}
        if labelled:
            inputs["labelled"] = labelled
        label = f"validation_{self.ctx.number - 1:03d}"
        self.ctx.validated = [*self.ctx.validated, [self.ctx.best["potential"], label]]
        self.start_child(label, ValidateWorkChain, inputs, "properties of the best potential")

    def inspect_validation(self) -> None:
        """Say what was worst; a validation that fails costs nothing but itself."""
        child = self.ctx[self.ctx.validated[-1][1]]
        summary = output(child, "summary")
        if not child.is_finished_ok:
            self.report(f"properties: {why(child)}")
        if summary is None:
            return
        worst = summary.get_dict()["worst"]
        if worst:
            self.report(
                f"properties: worst is {worst['property']} {worst['quantity']} ({worst['relative_percent']:+.1f} %)"
            )
        if self.inputs.clean_workdir.value:
            for problem in clean_scratch(child)[1]:
                self.report(f"properties: scratch not cleaned: {problem}")

    def last_properties(self) -> orm.Dict | None:
        """Summary of the last validation, ``None`` if there is none."""
        label = self.ctx.validated[-1][1] if self.ctx.validated else None
        return output(self.child(label), "summary") if label else None
