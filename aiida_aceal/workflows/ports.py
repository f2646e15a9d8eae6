"""Inputs that a generation and a campaign have in common, and the checks of them at submission."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessSpec
from aiida.plugins import CalculationFactory

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.ensemble_settings import ENSEMBLE, check_ensemble, check_fitter
from aiida_aceal.workflows.large import LARGE, check_large
from aiida_aceal.workflows.policies import nearest
from aiida_aceal.workflows.steps import check_step

#: settings of `selection`, `activeset`, `gate` and `limits` with their defaults
SELECTION = {"strategy": "d_optimal", "count": 10}
ACTIVE_SET = {"kind": "linear", "tolerance": 1.001, "memory": "2GiB", "calcfunction_below_mb": 64.0}
GATE = {"tolerance": 0.25, "enabled": True}
LIMITS = {"max_failed_labels": 0.2, **LARGE}


def plain_dict(
    spec: ProcessSpec,
    name: str,
    defaults: Mapping[str, Any],
    text: str,
    job: str | None = None,
    values: Callable[[Mapping[str, Any]], str | None] | None = None,
) -> None:
    """Port of a Dict whose keys are known; what is not given has the default.

    :param job: entry point of the CalcJob that gets the settings: what it knows is known here, and it checks them
    :param values: says what is wrong with the values, if anything
    """
    keys = ", ".join(f"`{key}` ({value})" for key, value in defaults.items())

    def check(node: orm.Dict | None, _: Any) -> str | None:
        given = node.get_dict() if node is not None else {}
        cls = CalculationFactory(job) if job else None
        known = {**defaults, **(cls._SETTINGS if cls else {})}
        for key in given:
            if key not in known:
                return f"{name}: unknown key '{key}'; {nearest(key, known)}"
        if cls is None:
            message = values(given) if values else None
            return f"{name}: {message}" if message else None
        passed = {key: value for key, value in {**defaults, **given}.items() if key in cls._SETTINGS}
        message = cls.check_settings({"settings": orm.Dict(passed)})
        return f"{name}: {message.removeprefix('settings: ')}" if message else None

    spec.input(
        name,
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        default=lambda: orm.Dict(dict(defaults)),
        validator=check,
        help=f"{text} Keys and defaults: {keys}.",
    )


def step_ports(spec: ProcessSpec) -> None:
    """Who explores, labels and fits: namespaces with an ``entry_point`` and the inputs of that process."""
    spec.input_namespace(
        "explorers",
        dynamic=True,
        required=False,
        help="One namespace for each explorer: `entry_point` (Str), `code`, `configurations` (where it starts), "
        "`settings` (Dict), `options` (Dict: metadata.options of its jobs). All of them run in every generation.",
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
        help="metadata.options of its jobs.",
    )
    plain_dict(
        spec,
        "selection",
        SELECTION,
        "How candidates are chosen for labelling; `strategy` is an entry point of aiida_aceal.strategies. All settings "
        "of aceal.select are possible.",
        job="aceal.select",
    )
    plain_dict(
        spec,
        "activeset",
        ACTIVE_SET,
        "How active sets are built; below `calcfunction_below_mb` (size of the projection matrix) by the calcfunction "
        "aceal.maxvol, above by the CalcJob aceal.active_set, whose settings are all possible.",
        job="aceal.active_set",
    )
    plain_dict(
        spec,
        "gate",
        GATE,
        "A new potential whose hold-out error is larger than that of the last by more than the fraction `tolerance` "
        "is refused.",
    )
    plain_dict(
        spec,
        "limits",
        LIMITS,
        "What is tolerated: the fraction of labels that may fail in one generation. Of candidates with more atoms than "
        "`max_label_atoms` (none: no limit) the unknown environments are cut out by aceal.extract, of at most "
        "`max_cut_candidates` in a generation; `extract`: settings of the cuts.",
        values=check_large,
    )
    spec.input(
        "ensemble",
        valid_type=orm.Dict,
        serializer=orm.to_aiida_type,
        default=lambda: orm.Dict(dict(ENSEMBLE)),
        validator=lambda node, _: check_ensemble(node.get_dict() if node is not None else {}),
        help="An ensemble beside the potential: each fit makes one of so many `members` (0: none), and it scores the "
        "candidates of the next generation by dE and dF. `candidates`, `selection` (gamma): gamma or ensemble, which "
        "of them decides; `factor` (1.0) times its threshold is the limit of the ensemble. All keys of the fit's "
        "`ensemble` are possible.",
    )
    spec.input(
        "seed",
        valid_type=orm.Int,
        serializer=orm.to_aiida_type,
        validator=lambda value, _: "seed: must not be negative" if value is not None and value.value < 0 else None,
        help="All randomness comes from this number.",
    )


def check_steps(inputs: Mapping[str, Any], explorers_required: bool) -> str | None:
    """First thing that is wrong with the steps, or ``None``."""
    explorers = inputs.get("explorers") or {}
    if explorers_required and not explorers:
        return "explorers: give at least one"
    for name in sorted(explorers):
        if not name.isidentifier() or "__" in name:
            return f"explorers: '{name}' is no name; use letters, digits and single underscores"
        message = check_step(explorers[name], f"explorers.{name}")
        if message:
            return message
        start = explorers[name].get("configurations")
        message = check_elements(inputs.get("potential"), start, f"explorers.{name}.configurations")
        if message:
            return message
    for name in ("labeller", "fitter"):
        message = check_step(inputs.get(name), name)
        if message:
            return message
    if inputs.get("sampler"):
        message = check_step(inputs["sampler"], "sampler")
        if message:
            return message
    message = check_fitter(inputs)
    if message:
        return message
    for name in ("initial", "validation"):
        message = check_elements(inputs.get("potential"), inputs.get(name), name)
        if message:
            return message
    datasets = inputs.get("dataset") or {}
    for key in sorted(datasets):
        node = datasets[key]
        if not node.has_labels("energy", "forces"):
            return f"dataset.{key}: not all configurations have energy and forces; pass it as `initial` to label it"
        message = check_elements(inputs.get("potential"), node, f"dataset.{key}")
        if message:
            return message
    return None


def check_elements(potential: Any, configurations: Any, where: str) -> str | None:
    """Configurations with an element that the potential does not know."""
    if potential is None or not isinstance(configurations, ConfigurationsData):
        return None
    foreign = sorted(set(configurations.elements) - set(potential.elements))
    if foreign:
        return f"{where}: has {', '.join(foreign)}, but the potential knows only {', '.join(potential.elements)}"
    return None


def with_defaults(node: orm.Dict | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a settings node, completed by the defaults."""
    return {**defaults, **(node.get_dict() if node is not None else {})}


def is_labelled(node: ConfigurationsData) -> bool:
    """Whether a fit can use all configurations as they are."""
    return node.has_labels("energy", "forces")
