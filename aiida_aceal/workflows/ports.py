"""Inputs that a generation and a campaign have in common, and the checks of them at submission."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ProcessSpec

from aiida_aceal.calculations.worker_base import foreign_elements
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.plausible import first_on_top
from aiida_aceal.common.settings import describe
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.labels.calculators import calculator_spec, check_abilities
from aiida_aceal.workflows.ensemble_settings import ENSEMBLE, check_ensemble, check_fitter
from aiida_aceal.workflows.sections import SECTIONS, check_section, filled
from aiida_aceal.workflows.steps import check_step


def plain_dict(spec: ProcessSpec, name: str, text: str) -> None:
    """Port of a section of settings, checked by its declaration; what is not given has the default."""
    model, _ = SECTIONS[name]
    keys = ", ".join(
        f"`{row.key}` ({row.default_text})" for row in describe(model) if not row.key.startswith("extract.")
    )
    spec.input(
        name,
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        default=lambda: orm.Dict(filled(name, {})),
        validator=lambda node, _: check_section(name, node.get_dict() if node is not None else {}),
        help=f"{text} Keys and defaults: {keys}.",
    )


def step_ports(spec: ProcessSpec) -> None:
    """Who explores, labels and fits: namespaces with an ``entry_point`` and the inputs of that process."""
    spec.input_namespace(
        "explorers",
        dynamic=True,
        required=False,
        help="One namespace for each explorer: `entry_point` (Str), `code`, `configurations` (that it starts from), "
        "`settings` (Dict), `options` (Dict: metadata.options for its jobs). All of them run in every generation.",
    )
    for name, text in (("labeller", "labels configurations"), ("fitter", "fits the potential")):
        spec.input_namespace(
            name,
            dynamic=True,
            help=f"The process that {text}: `entry_point` (Str), `code`, `settings` (Dict), `options` (Dict), ...",
        )
    spec.input_namespace("worker", help="`aceal-worker`, for selection, active sets and validation.")
    spec.input("worker.code", valid_type=orm.AbstractCode, help="Code of `aceal-worker`.")
    spec.input(
        "worker.options",
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        required=False,
        help="metadata.options for its jobs.",
    )
    plain_dict(
        spec,
        "selection",
        "How candidates are chosen for labelling; `strategy` is an entry point of aiida_aceal.strategies.",
    )
    plain_dict(
        spec,
        "activeset",
        "How active sets are built; the calcfunction aceal.maxvol builds those whose projection matrix is "
        "smaller than `calcfunction_below_mb`, the CalcJob aceal.active_set the others.",
    )
    plain_dict(
        spec,
        "gate",
        "A new potential whose validation error is larger than that of the best so far by more than the fraction "
        "`tolerance` is refused.",
    )
    plain_dict(
        spec,
        "limits",
        "What is tolerated: the fraction of labels that may fail in one generation. From candidates with more atoms "
        "than `max_label_atoms` (none: no limit), at most `max_cut_candidates` of them in a generation, "
        "aceal.extract cuts "
        "out the unknown environments; `extract` holds the settings of the cuts.",
    )
    spec.input(
        "ensemble",
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        default=lambda: orm.Dict(dict(ENSEMBLE)),
        validator=lambda node, _: check_ensemble(node.get_dict() if node is not None else {}),
        help="An ensemble beside the potential: each fit makes one of `members` potentials (0: none), and it "
        "scores the "
        "candidates of the next generation by dE and dF. `candidates` and `selection` (default: gamma) state which of "
        "them decides, gamma or ensemble; the limit of the ensemble is `factor` (1.0) times its threshold. All keys of "
        "the fit's `ensemble` can be given.",
    )
    spec.input(
        "seed",
        valid_type=orm.Int,
        serializer=orm.to_aiida_type,
        validator=lambda value, _: "seed: must not be negative" if value is not None and value.value < 0 else None,
        help="Random seed, the only source of randomness.",
    )


def check_steps(inputs: Mapping[str, Any], explorers_required: bool) -> str | None:
    """First thing that is wrong with the steps, or ``None``."""
    explorers = inputs.get("explorers") or {}
    if explorers_required and not explorers:
        return "explorers: give at least one"
    for name in sorted(explorers):
        if not name.isidentifier() or "__" in name:
            return f"explorers: '{name}' is not a valid name; use letters, digits and single underscores"
        message = check_step(explorers[name], f"explorers.{name}")
        if message:
            return message
        start = explorers[name].get("configurations")
        message = foreign_elements(inputs.get("potential"), start, f"explorers.{name}.configurations")
        if message:
            return message
    for name in ("labeller", "fitter"):
        message = check_step(inputs.get(name), name)
        if message:
            return message
    for name in ("sampler", "test_sampler"):
        message = check_step(inputs[name], name) if inputs.get(name) else None
        if message:
            return message
    message = check_fitter(inputs)
    if message:
        return message
    message = check_calculator(inputs.get("labeller"), inputs.get("potential"))
    if message:
        return message
    initial = inputs.get("initial")
    if isinstance(initial, ConfigurationsData) and not is_labelled(initial):
        message = first_on_top(initial.iter_atoms(), "initial")
        if message:
            return message
    for name in ("initial", "validation", "test"):
        message = foreign_elements(inputs.get("potential"), inputs.get(name), name)
        if message:
            return message
    datasets = inputs.get("dataset") or {}
    for key in sorted(datasets):
        node = datasets[key]
        if not node.has_labels("energy", "forces"):
            return f"dataset.{key}: not all configurations have energy and forces; pass it as `initial` for labelling"
        message = foreign_elements(inputs.get("potential"), node, f"dataset.{key}")
        if message:
            return message
    return None


def check_calculator(labeller: Mapping[str, Any] | None, potential: Any) -> str | None:
    """What the ASE calculator of a labeller cannot do, where it can be known: its code is of this installation.

    Calculators with files of their own are not tried: they find them in the folder of the job only. Neither are classes
    that the input names: a check must not run a stranger's module.
    """
    code = (labeller or {}).get("code")
    if code is None or labeller["entry_point"].value != "aceal.label.ase" or labeller.get("files"):
        return None
    here = Path(sys.executable).parent
    if not isinstance(code, orm.InstalledCode) or Path(str(code.filepath_executable)).parent != here:
        return None
    settings = labeller["settings"].get_dict()
    if ":" in settings["calculator"]:
        return None
    elements = potential.elements if potential is not None else ()
    try:
        check_abilities(calculator_spec(settings["calculator"], settings.get("kwargs")), elements)
    except AceError as error:
        return f"labeller: {error}"
    return None


def is_labelled(node: ConfigurationsData) -> bool:
    """Whether a fit can use all configurations as they are."""
    return node.has_labels("energy", "forces")
