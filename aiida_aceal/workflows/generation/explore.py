"""Explore: all explorers run with the potential in force; what lies in the gamma window are the candidates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm

from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, summary
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.generation.outcome import (
    Call,
    Child,
    Failure,
    Outcome,
    Started,
    known_hashes,
    report_of,
)
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs


@dataclass(frozen=True, kw_only=True)
class Found(Outcome):
    """Candidates of all explorers, ``None`` without any; ``converged``: the stop criterion holds."""

    candidates: ConfigurationsData | None = None
    converged: bool = False


def label_of(name: str) -> str:
    """Label of the child that runs the explorer ``name``."""
    return f"explore_{name}"


def start(
    *,
    explorers: Mapping[str, Mapping[str, Any]],
    potential: AcePotentialData,
    active_set: ActiveSetData,
    window: orm.Dict,
    seed: int,
    number: int,
    tests: Mapping[str, ConfigurationsData],
    call: Call,
) -> Started:
    """All explorers at once.

    :param explorers: name -> ``entry_point`` and inputs of the process
    :param window: gamma window in force, put into the settings of each explorer
    :param seed: of the campaign; each explorer of each generation has its own, derived from it
    :param number: of the generation
    :param tests: sets that are never learnt, for explorers that ask for them
    """
    children = []
    for index, name in enumerate(sorted(explorers)):
        step = explorers[name]
        cls = step_class(step["entry_point"].value)
        given = step.get("settings") or orm.Dict({})
        settings = call(f"window_{name}", functions.with_window, settings=given, window=window)
        inputs = step_inputs(
            cls,
            {key: value for key, value in step.items() if key != "settings"},
            potential=potential,
            active_set=active_set,
            settings=settings,
            seed=orm.Int(derived_seed(seed, number, 1 + index)),
            tests=dict(tests),
        )
        children.append(Child(label_of(name), cls, inputs, f"explore {name}"))
    return Started(children=children, lines=[f"exploring with {', '.join(sorted(explorers))}"])


def collect(
    *,
    children: Mapping[str, orm.ProcessNode],
    gamma_stop: float,
    datasets: Mapping[str, ConfigurationsData],
    quarantine: Iterable[str],
    tests: Mapping[str, ConfigurationsData],
    call: Call,
) -> Found:
    """Candidates of all explorers; a failed one costs only itself.

    :param children: name of the explorer -> its finished process
    :param gamma_stop: converged if every run reached its full length with no grade above it
    :param datasets: the training set, whose configurations are no candidates
    :param quarantine: content hashes of other configurations that are no candidates
    :param tests: sets whose configurations are no candidates either, since errors are measured on them
    :returns: fails with ``ERROR_EXPLORATION_FAILED`` if all explorers failed and left nothing
    """
    sets, failures, lines = {}, [], []
    for name, child in children.items():
        candidates = output(child, "candidates")
        if candidates is not None:
            sets[name] = candidates
        if not child.is_finished_ok:
            failures.append(why(child))
            lines.append(failures[-1])
    if len(failures) == len(children) and not sets:
        return Found(lines=lines, failure=Failure("ERROR_EXPLORATION_FAILED", {"reason": "; ".join(failures)}))
    numbers = summary.exploration_numbers([report_of(child) for child in children.values()])
    if failures:
        numbers["complete"] = False
    converged = summary.is_converged(numbers, gamma_stop)
    found = None
    if sets and not converged:
        left_out = known_hashes(tests, sets)
        if left_out:
            lines.append(f"{counted(len(left_out), 'candidate')} left out: errors are measured on the same structures")
        excluded = orm.List(sorted({*quarantine, *known_hashes(datasets, sets), *left_out}))
        found = call("merge", functions.merge_candidates, excluded=excluded, **sets).get("candidates")
    facts: dict[str, Any] = {"n_candidates": 0 if found is None else len(found)}
    gamma = numbers.get("max_gamma")
    lines.append(
        f"explored {numbers.get('md_steps_reached')} of {numbers.get('md_steps_total')} steps, max gamma "
        f"{'unknown' if gamma is None else format(gamma, '.3g')}, {facts['n_candidates']} candidates"
    )
    if converged:
        facts["status"] = "converged"
        lines.append(f"every run reached its full length with gamma <= {gamma_stop:g}: converged")
    elif found is None:
        facts["status"] = "no_candidates"
        lines.append("not converged, but no configuration lies in the window")
    return Found(candidates=found, converged=converged, facts=facts, lines=lines)
