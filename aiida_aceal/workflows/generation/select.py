"""Select: which of the candidates are labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.generation.outcome import Failure, Outcome, Started, report_of, worker_child
from aiida_aceal.workflows.steps import derived_seed


@dataclass(frozen=True, kw_only=True)
class Selected(Outcome):
    """Configurations to label, ``None`` if the strategy wants none of the candidates."""

    selected: ConfigurationsData | None = None


def start(
    *,
    candidates: ConfigurationsData,
    settings: Mapping[str, Any],
    potential: AcePotentialData,
    active_set: ActiveSetData,
    ensemble: EnsembleData | None,
    datasets: Mapping[str, ConfigurationsData],
    seed: int,
    number: int,
    worker: Mapping[str, Any],
) -> Started:
    """The job that selects.

    :param settings: the section ``selection``
    :param ensemble: takes the place of gamma, if it is given
    :param datasets: the training set, for strategies that judge by it
    :param seed: of the campaign; each generation has its own, derived from it
    :param number: of the generation
    """
    child = worker_child(
        "select",
        "aceal.select",
        worker,
        "select",
        potential=potential,
        active_set=active_set,
        configurations=candidates,
        settings=orm.Dict(dict(settings)),
        ensemble=ensemble,
        reference=dict(datasets) or None,
        seed=orm.Int(derived_seed(seed, number, 0)),
    )
    return Started(children=[child])


def collect(*, child: orm.ProcessNode, strategy: str, n_candidates: int) -> Selected:
    """What was chosen, with the notes of the strategy.

    :param child: the finished job
    :returns: fails with ``ERROR_SELECTION_FAILED`` if the job did
    """
    if not child.is_finished_ok:
        return Selected(failure=Failure("ERROR_SELECTION_FAILED", {"reason": why(child)}))
    selected = output(child, "selected")
    facts: dict[str, Any] = {"n_selected": 0 if selected is None else len(selected)}
    if selected is None:
        facts["status"] = "no_candidates"
    line = f"{facts['n_selected']} of {n_candidates} candidates selected by {strategy}"
    return Selected(selected=selected, facts=facts, lines=[line, *report_of(child).get("notes", [])])
