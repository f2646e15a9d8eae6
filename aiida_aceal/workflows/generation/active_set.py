"""Active set of a potential: by a calcfunction if it is small, else by a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.plugins import CalculationFactory

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.base import StepError, output, why
from aiida_aceal.workflows.generation.outcome import Call, Failure, Started, training_size, worker_child


@dataclass(frozen=True, kw_only=True)
class Made(Started):
    """The active set; ``None`` if a job (among ``children``) has still to make it."""

    active_set: ActiveSetData | None = None


def label_of(prefix: str = "") -> str:
    """Label of the job."""
    return f"{prefix}active_set_job"


def start(
    *,
    potential: AcePotentialData,
    datasets: Mapping[str, ConfigurationsData],
    settings: Mapping[str, Any],
    previous: ActiveSetData | None,
    worker: Mapping[str, Any],
    call: Call,
    prefix: str = "",
) -> Made:
    """Make it here if the projection matrix is small, else say which job does.

    :param datasets: what the potential has learnt
    :param settings: the section ``activeset``
    :param previous: active set of the last potential, which a job goes on from if it can
    :param prefix: of the labels of the children
    :returns: fails with ``ERROR_ACTIVE_SET_FAILED``
    """
    own = dict(settings)
    limit = float(own.pop("calcfunction_below_mb"))
    n_atoms = training_size(datasets)["n_training_atoms"]
    size = 8e-6 * n_atoms * max(potential.n_functions[el] * potential.n_densities[el] for el in potential.elements)
    if size < limit:
        function = CalculationFactory("aceal.maxvol")
        try:
            made = call(f"{prefix}maxvol", function, potential=potential, settings=orm.Dict(own), **datasets)
        except StepError as error:
            return Made(failure=Failure("ERROR_ACTIVE_SET_FAILED", {"reason": str(error)}))
        return Made(active_set=made)
    if previous is not None and (previous.kind != own.get("kind") or previous.check_potential(potential)):
        previous = None  # another basis, or a full set with the coefficients of before: build anew
    if previous is not None and (previous.local or own.get("clusters") or own.get("group_key")):
        previous = None  # local active sets are always built anew
    given = {"potential": potential, "dataset": dict(datasets), "previous": previous, "settings": orm.Dict(own)}
    return Made(children=[worker_child(label_of(prefix), "aceal.active_set", worker, "active set", **given)])


def collect(*, job: orm.ProcessNode) -> Made:
    """Result of the finished job.

    :returns: fails with ``ERROR_ACTIVE_SET_FAILED``
    """
    made = output(job, "active_set")
    if made is None or not job.is_finished_ok:
        return Made(failure=Failure("ERROR_ACTIVE_SET_FAILED", {"reason": why(job)}))
    return Made(active_set=made)
