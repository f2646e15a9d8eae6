"""Validate: errors of the new potential on the validation set and on what it has just learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.base import why
from aiida_aceal.workflows.generation import gate
from aiida_aceal.workflows.generation.outcome import Child, Failure, Outcome, Started, report_of, worker_child

#: exit status of the CalcJobs of aceal-worker for numbers that are not finite
NOT_FINITE = 305


@dataclass(frozen=True, kw_only=True)
class Errors(Outcome):
    """Report on the validation set; ``None`` if an evaluation failed, or the potential was refused for it."""

    report: dict[str, Any] | None = None


def errors_child(
    label: str,
    *,
    potential: AcePotentialData,
    configurations: ConfigurationsData,
    active_set: ActiveSetData | None,
    worker: Mapping[str, Any],
) -> Child:
    """The job that evaluates; with an active set its report has grades for the calibration."""
    given = {"potential": potential, "configurations": configurations, "active_set": active_set}
    return worker_child(label, "aceal.evaluate", worker, f"errors {label}", **given)


def start(
    *,
    potential: AcePotentialData,
    active_set: ActiveSetData | None,
    validation: ConfigurationsData,
    labelled: ConfigurationsData | None,
    worker: Mapping[str, Any],
) -> Started:
    """Errors of the new potential: ``holdout`` on the validation set, ``after`` on what is new.

    :param active_set: of the potential; one that a job still makes comes too late for the grades
    """
    children = [
        errors_child("holdout", potential=potential, configurations=validation, active_set=active_set, worker=worker)
    ]
    if labelled is not None:
        given = {"potential": potential, "configurations": labelled, "active_set": None}
        children.append(errors_child("after", worker=worker, **given))
    return Started(children=children)


def collect(*, children: Mapping[str, orm.ProcessNode], standing: AcePotentialData) -> Errors:
    """Validation errors; energies and forces that are not finite are a reason to refuse the potential.

    :param children: ``holdout`` and, if there was anything new, ``after``
    :param standing: potential in force; if it is only a basis, there is nothing to keep
    :returns: fails with ``ERROR_VALIDATION_FAILED`` on anything else that went wrong
    """
    for child in children.values():
        if not child.is_finished_ok:
            if child.exit_status == NOT_FINITE and standing.is_fitted:
                return Errors(**gate.refusal(f"its energies or forces are not finite ({why(child)})", standing))
            return Errors(failure=Failure("ERROR_VALIDATION_FAILED", {"reason": why(child)}))
    return Errors(report=report_of(children["holdout"]))
