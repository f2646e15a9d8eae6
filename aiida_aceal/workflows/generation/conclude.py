"""Conclude: what is in force and what is the best, what the generation cost, calibration, and the row of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.common.timezone import now

from aiida_aceal.workflows import functions
from aiida_aceal.workflows.base import descendants, output
from aiida_aceal.workflows.costs import costs_of
from aiida_aceal.workflows.generation.outcome import Call, Outcome
from aiida_aceal.workflows.windows.calibration import has_pairs

#: what belongs to a potential: name -> node or ``None``
Belongings = Mapping[str, orm.Data | None]


def in_force(
    *, accepted: bool | None, is_best: bool, made: Belongings, before: Belongings, best: Belongings | None
) -> tuple[Belongings, Belongings]:
    """What is in force after the generation, and what is the best.

    Each has ``potential``, ``active_set``, ``ensemble`` and ``validation_report``.

    :param made: by this generation; counts only if ``accepted``
    :param before: in force before. It stays with its own active set after a refusal: gamma must not call known what
        the potential in force was not fitted to
    :param best: the best before; if nothing is known of it, ``before``
    """
    after = {**made, "ensemble": made["ensemble"] or before["ensemble"]} if accepted else before
    # an older ensemble belongs to another potential: the best has its own or none
    return after, made if is_best else best or before


def costs(process: orm.ProcessNode) -> dict[str, Any]:
    """Seconds since ``process`` was made, number of its jobs, of those from the cache, cost by stage."""
    called = [node for node in descendants(process) if isinstance(node, orm.CalcJobNode)]
    return {
        "wall_seconds": round((now() - process.ctime).total_seconds(), 2),
        "n_jobs": len(called),
        "n_jobs_from_cache": sum(1 for node in called if node.base.caching.is_created_from_cache),
        "cost": costs_of(process),
    }


@dataclass(frozen=True, kw_only=True)
class Calibrated(Outcome):
    """Expected force error as a function of gamma, and the window it proposes; ``None`` without graded errors."""

    calibration: orm.Dict | None = None


def calibrate(*, before: orm.Dict | None, holdout: orm.Dict | None, call: Call) -> Calibrated:
    """What the potential in force before knew of its errors, from all that it had not learnt.

    :param before: report on the new configurations; ``None`` if there were none
    :param holdout: report on the validation set
    """
    if before is None:
        return Calibrated()
    reports = {key: node for key, node in (("before", before), ("holdout", holdout)) if node is not None}
    if not has_pairs([node.get_dict() for node in reports.values()]):
        return Calibrated()
    result = call("calibration", functions.calibrate_gamma, **reports)
    found = result["proposal"]
    line = (
        f"calibration proposes gamma_lo {found['gamma_lo']:.3g}, gamma_hi {found['gamma_hi']:.3g}; "
        f"expected force error where gamma <= 1: {1000 * found['base_error']:.3g} meV/A"
    )
    return Calibrated(calibration=result, lines=[line])


def row(
    *,
    facts: Mapping[str, Any],
    process: orm.ProcessNode,
    explorers: Mapping[str, orm.ProcessNode],
    evaluations: Mapping[str, orm.ProcessNode],
    holdout: orm.Dict | None,
    calibration: orm.Dict | None,
    call: Call,
) -> orm.Dict:
    """The numbers of the generation.

    :param facts: counts, window, decisions
    :param process: the generation, whose :func:`costs` are added
    :param explorers: ``explore_<name>`` -> finished process
    :param evaluations: ``before`` and ``after``, as far as there are any: errors on the new configurations
    :param holdout: validation errors of the potential in force now
    """
    reports = {key: output(child, "report") for key, child in {**explorers, **evaluations}.items()}
    reports |= {"holdout": holdout, "calibration": calibration}
    return call(
        "summary",
        functions.summarise_generation,
        facts=orm.Dict({**facts, **costs(process)}),
        **{key: node for key, node in reports.items() if node is not None},
    )
