"""Fit: a new potential from all labelled sets; beside it the errors of the old one on what it has not learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.ensemble_settings import fit_keys
from aiida_aceal.workflows.generation import gate
from aiida_aceal.workflows.generation.outcome import Call, Child, Failure, Outcome, Started, training_size
from aiida_aceal.workflows.generation.validate import NOT_FINITE, errors_child
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs


@calcfunction
def with_ensemble(settings: orm.Dict, ensemble: orm.Dict) -> orm.Dict:
    """Settings of a fit that makes the ensemble as well."""
    given = settings.get_dict()
    own = {**(given.get("ensemble") or {}), **(fit_keys(ensemble.get_dict()) or {})}
    return orm.Dict({**given, "ensemble": own})


@dataclass(frozen=True, kw_only=True)
class Fitted(Outcome):
    """The new potential; ``None`` if the fit failed, or gave one that cannot come into force."""

    potential: AcePotentialData | None = None


def start(
    *,
    fitter: Mapping[str, Any],
    potential: AcePotentialData,
    active_set: ActiveSetData | None,
    datasets: Mapping[str, ConfigurationsData],
    labelled: ConfigurationsData | None,
    validation: ConfigurationsData,
    has_errors: bool,
    ensemble: orm.Dict | None,
    seed: int,
    number: int,
    worker: Mapping[str, Any],
    call: Call,
) -> Started:
    """The fit on all sets, and the errors of the potential in force on the new one.

    :param fitter: ``entry_point`` and inputs of the process
    :param potential: in force (or a basis), and ``active_set`` its active set, for the calibration
    :param datasets: all labelled sets; ``labelled``: the new one among them
    :param has_errors: whether the validation errors of ``potential`` are known
    :param ensemble: settings of the ensemble that the fit makes as well; ``None`` or without members: none
    :param seed: of the campaign; each generation has its own, derived from it
    :param number: of the generation
    """
    cls = step_class(fitter["entry_point"].value)
    facts = training_size(datasets)
    inputs = step_inputs(
        cls,
        fitter,
        potential=potential,
        dataset=dict(datasets),
        validation=validation,
        seed=orm.Int(derived_seed(seed, number, 1000)),
    )
    if ensemble is not None and fit_keys(ensemble.get_dict()) is not None:
        given = inputs.get("settings") or orm.Dict({})
        inputs["settings"] = call("fit_settings", with_ensemble, settings=given, ensemble=ensemble)
    children = [Child("fit", cls, inputs, "fit")]
    if potential.is_fitted:
        old = {"potential": potential, "active_set": active_set, "worker": worker}
        if labelled is not None:
            children.append(errors_child("before", configurations=labelled, **old))
        if not has_errors:
            children.append(errors_child("holdout_before", configurations=validation, **old))
    line = f"fitting {counted(facts['n_training'], 'structure')}, {counted(facts['n_training_atoms'], 'atom')}"
    return Started(children=children, facts=facts, lines=[line])


def collect(*, child: orm.ProcessNode, standing: AcePotentialData) -> Fitted:
    """The new potential; coefficients that are not finite are refused.

    :param child: the finished fit
    :param standing: potential in force; if it is only a basis, there is nothing to keep
    :returns: fails with ``ERROR_FIT_FAILED`` on anything else that went wrong
    """
    potential = output(child, "potential")
    if potential is not None and child.is_finished_ok:
        return Fitted(potential=potential)
    if child.exit_status == NOT_FINITE and standing.is_fitted:
        reason = f"the fit gave coefficients that are not finite ({why(child)})"
        return Fitted(**gate.refusal(reason, standing))
    return Fitted(failure=Failure("ERROR_FIT_FAILED", {"reason": why(child)}))
