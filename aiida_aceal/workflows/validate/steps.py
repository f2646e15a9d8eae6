"""Steps of a campaign that validate its best potential: at the end, or every n generations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessSpec, calcfunction
from ase import Atoms

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.properties.settings import ValidateSettings
from aiida_aceal.workflows.base import AceWorkChain, clean_scratch, output, why
from aiida_aceal.workflows.sections import filled
from aiida_aceal.workflows.validate.workchain import ValidateWorkChain, check_wanted


def properties_ports(spec: ProcessSpec) -> None:
    """Namespace ``properties`` of a campaign, and its output."""
    spec.input_namespace(
        "properties", required=False, populate_defaults=False,
        help="Properties that are compared with the reference. They decide nothing unless `gate.properties` has bounds "
        "for them. Without it, none are.",
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
    spec.input(
        "properties.train_on", valid_type=orm.Bool, serializer=orm.to_aiida_type, required=False,
        help="Whether their structures may be learnt; without it, equal structures (by content) are no candidates, and "
        "`initial` and `dataset` must not have them.",
    )  # fmt: skip
    spec.output(
        "properties", valid_type=orm.Dict, required=False,
        help="Summary of the last aceal.validate: worst numbers, failures, costs.",
    )  # fmt: skip


def check_properties(inputs: Mapping[str, Any]) -> str | None:
    """What is wrong with the namespace, or ``None``."""
    given = inputs.get("properties")
    if not given:
        gate = inputs["gate"].get_dict() if inputs.get("gate") is not None else {}
        if gate.get("properties"):
            return "gate.properties: give the namespace `properties` (section `validate`), which says of which crystal"
        return None
    message = check_wanted({**given, "potential": inputs.get("potential")})
    return f"properties: {message}" if message else _check_apart(inputs)


def _check_apart(inputs: Mapping[str, Any]) -> str | None:
    """Structures that are to be learnt although properties are measured on them."""
    given = inputs["properties"]
    if given.get("train_on"):
        return None
    cases = {configuration_hash(f): f"{f.info['property']} ({f.info['case']})" for f in known_frames(given)}
    sets = {"initial": inputs.get("initial"), **{f"dataset.{k}": v for k, v in (inputs.get("dataset") or {}).items()}}
    for name, node in sets.items():
        for index, digest in enumerate(node.hashes if node is not None else ()):
            if digest in cases:
                return (
                    f"{name}: structure {index} serves as a test of the property {cases[digest]}; take it out, or say "
                    "that it may be learnt (validate.train_on: true)"
                )
    return None


def known_frames(given: Mapping[str, Any]) -> list[Atoms]:
    """Structures of the properties that are known before anything is computed."""
    from aiida_aceal.properties import common_structures

    settings = given["settings"].get_dict() if given.get("settings") is not None else {}
    return common_structures(ValidateSettings.read(settings), given["structure"].to_atoms())


@calcfunction
def structures_of_properties(structure: ConfigurationsData, settings: orm.Dict) -> ConfigurationsData:
    """Structures of the properties that are known before anything is computed."""
    from aiida_aceal.properties.validation import unique

    frames = unique(known_frames({"structure": structure, "settings": settings}))
    return ConfigurationsData.from_atoms(frames, source="properties")


class ValidationSteps(AceWorkChain):
    """Steps of a campaign, whose context holds ``best``, ``number`` and ``validated`` (potential, child)."""

    def property_labels(self) -> dict[str, ConfigurationsData]:
        """Structures of the validations so far, with their labels; those of the gate too."""
        names = [("structures", label) for _, label in self.ctx.validated]
        names += [("property_structures", label) for label in self.ctx.reports]
        found = {label: output(self.child(label), name) for name, label in names}
        return {label: node for label, node in found.items() if node is not None}

    def test_sets(self) -> dict[str, ConfigurationsData]:
        """What must not be learnt beside the validation set: the test set, and structures of the properties."""
        found = {"test": orm.load_node(self.ctx.test)} if self.ctx.test is not None else {}
        given = self.inputs.get("properties")
        if not given or given.get("train_on"):
            return found
        settings = given.settings if "settings" in given else orm.Dict({})
        known = self.call_once(
            "property_structures", structures_of_properties, structure=given.structure, settings=settings
        )
        return {**found, "properties": known, **self.property_labels()}

    def gate_inputs(self) -> dict[str, Any]:
        """The namespace ``properties`` of a generation, if the gate asks for properties."""
        if not filled("gate", self.inputs.gate.get_dict() if "gate" in self.inputs else {}).get("properties"):
            return {}
        given = self.inputs.properties
        found: dict[str, Any] = {"structure": given.structure, "labelled": self.property_labels()}
        if "settings" in given:
            found["settings"] = given.settings
        if self.ctx.best_properties is not None:
            found["best"] = orm.Dict(self.ctx.best_properties)
        return {"properties": found}

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
        labelled = self.property_labels()
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
