"""Ports and exit codes of ``aceal.generation``, and the check of all inputs together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessSpec

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, ports
from aiida_aceal.workflows.labellers.manual import WAITING_GENERATION
from aiida_aceal.workflows.sections import filled


def best_potential(port: Any, namespace: Any, text: str) -> None:
    """Namespace ``best``: the potential of smallest validation error, and what belongs to it."""
    namespace("best", required=False, help=f"The potential of smallest validation error {text}")
    port("best.potential", valid_type=AcePotentialData, required=False)
    port("best.active_set", valid_type=ActiveSetData, required=False)
    port("best.ensemble", valid_type=EnsembleData, required=False)
    port("best.validation_report", valid_type=orm.Dict, required=False)


def generation_ports(spec: ProcessSpec) -> None:
    """Inputs, outputs and exit codes of a generation."""
    spec.input("generation", valid_type=orm.Int, serializer=orm.to_aiida_type, default=lambda: orm.Int(0))
    spec.input("potential", valid_type=AcePotentialData, help="Potential of the previous generation, or a basis.")
    spec.input("active_set", valid_type=ActiveSetData, required=False, help="Active set of the previous generation.")
    spec.input_namespace(
        "dataset",
        valid_type=ConfigurationsData,
        dynamic=True,
        required=False,
        help="Labelled sets of all previous generations; this one stores only what is new.",
    )
    spec.input("initial", valid_type=ConfigurationsData, required=False, help="First configurations to label.")
    spec.input(
        "window",
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        default=lambda: functions.policies.choose_window({}).as_dict(),
        help="The gamma_lo, gamma_hi and gamma_stop in force, and the reason for them.",
    )
    spec.input("validation_report", valid_type=orm.Dict, required=False, help="Validation errors of `potential`.")
    best_potential(spec.input, spec.input_namespace, "before this generation [default: `potential`].")
    spec.input(
        "ensemble_data",
        valid_type=EnsembleData,
        required=False,
        help="Ensemble of the previous generation; scores the candidates.",
    )
    spec.input(
        "quarantine",
        valid_type=orm.List,
        required=False,
        help="Content hashes of structures that must not be labelled again.",
    )
    spec.input(
        "validation",
        valid_type=ConfigurationsData,
        help="Validation set: gate and calibration; never fitted. It is labelled first if it has no labels.",
    )
    spec.input_namespace(
        "tests",
        valid_type=ConfigurationsData,
        dynamic=True,
        required=False,
        help="Further sets that serve as tests. Neither their structures nor those of `validation` are candidates.",
    )
    spec.input_namespace(
        "properties", required=False, populate_defaults=False, help="Crystal and settings of `gate.properties`."
    )
    spec.input("properties.structure", valid_type=ConfigurationsData, help="As of aceal.validate.")
    spec.input("properties.settings", valid_type=orm.Dict, required=False, help="As of aceal.validate.")
    spec.input_namespace(
        "properties.labelled", valid_type=ConfigurationsData, dynamic=True, required=False,
        help="Structures of earlier validations: as of aceal.validate.",
    )  # fmt: skip
    spec.input(
        "properties.best", valid_type=orm.Dict, required=False,
        help="Relative errors of the properties of the best potential so far.",
    )  # fmt: skip
    ports.step_ports(spec)
    spec.output("potential", valid_type=AcePotentialData, help="Potential in force after this generation.")
    spec.output("active_set", valid_type=ActiveSetData, required=False)
    spec.output("ensemble", valid_type=EnsembleData, required=False, help="Ensemble in force after this generation.")
    spec.output(
        "labelled",
        valid_type=ConfigurationsData,
        required=False,
        help="Labelled configurations that this generation added.",
    )
    spec.output("validation", valid_type=ConfigurationsData, help="Labelled validation set.")
    spec.output("candidates", valid_type=ConfigurationsData, required=False)
    spec.output("selected", valid_type=ConfigurationsData, required=False)
    spec.output(
        "refused_potential", valid_type=AcePotentialData, required=False, help="New potential that the gate refused."
    )
    spec.output("window", valid_type=orm.Dict)
    spec.output("validation_report", valid_type=orm.Dict, required=False, help="Validation errors of `potential`.")
    best_potential(spec.output, spec.output_namespace, "after this generation.")
    spec.output(
        "calibration",
        valid_type=orm.Dict,
        required=False,
        help="Expected force error as a monotone function of gamma, and the window it proposes.",
    )
    spec.output(
        "properties", valid_type=orm.Dict, required=False, help="Summary of the aceal.validate that the gate asked for."
    )
    spec.output(
        "property_structures", valid_type=ConfigurationsData, required=False, help="Its structures with their labels."
    )
    spec.output("generation_report", valid_type=orm.Dict, help="The numbers of this generation.")
    spec.exit_code(401, "ERROR_EXPLORATION_FAILED", message="No explorer gave a usable result: {reason}")
    spec.exit_code(402, "ERROR_SELECTION_FAILED", message="The selection failed: {reason}")
    spec.exit_code(403, "ERROR_LABELLING_FAILED", message="Nothing was labelled: {reason}")
    spec.exit_code(
        404, "ERROR_TOO_MANY_FAILED_LABELS", message="{failed} of {total} labels failed; {tolerated} are tolerated."
    )
    spec.exit_code(405, "ERROR_FIT_FAILED", message="The fit failed: {reason}")
    spec.exit_code(406, "ERROR_ACTIVE_SET_FAILED", message="The active set could not be built: {reason}")
    spec.exit_code(407, "ERROR_VALIDATION_FAILED", message="The validation failed: {reason}")
    spec.exit_code(
        409, "ERROR_NO_ENSEMBLE_THRESHOLD", message="`candidates: ensemble` needs a threshold to decide by: {reason}"
    )
    spec.output_namespace(
        "to_label", valid_type=ConfigurationsData, dynamic=True, required=False,
        help="Sets that wait for labels, which somebody has to bring; empty otherwise.",
    )  # fmt: skip
    spec.exit_code(WAITING_GENERATION, "ERROR_WAITING_FOR_LABELS", message="{number} wait for labels.")
    spec.exit_code(408, "ERROR_NO_POTENTIAL", message="The first potential was refused: {reason}")


def check_inputs(inputs: Mapping[str, Any]) -> str | None:
    """First thing that is wrong with the inputs together, or ``None``."""
    if inputs.get("active_set") is None and not inputs.get("dataset") and inputs.get("initial") is None:
        return "give `initial` (configurations to label) or `dataset` (labelled ones): there is nothing to fit"
    if inputs.get("active_set") is not None and inputs.get("potential") is not None:
        problem = inputs["active_set"].check_potential(inputs["potential"])
        if problem:
            return f"active_set: {problem}"
    selection = filled("selection", inputs["selection"].get_dict() if inputs.get("selection") is not None else {})
    reference = inputs.get("dataset") or (selection.get("options") or {}).get("reference")
    if inputs.get("active_set") is not None and selection["strategy"] == "viability" and not reference:
        return "selection: viability judges candidates by the training set; give `dataset`"
    gate = inputs["gate"].get_dict() if inputs.get("gate") is not None else {}
    if gate.get("properties") and not inputs.get("properties"):
        return "gate.properties: give the namespace `properties`, which says of which crystal"
    ensemble = inputs.get("ensemble_data")
    if ensemble is not None:
        problem = ensemble.check_potential(inputs["potential"]) if inputs.get("potential") is not None else None
        if not problem and not ensemble.thresholds and not ensemble.threshold_notes:
            problem = "it has no thresholds; make it with aceal.fit, or set them (Ensemble.set_thresholds)"
        if problem:
            return f"ensemble_data: {problem}"
    return ports.check_steps(inputs, explorers_required=inputs.get("active_set") is not None)
