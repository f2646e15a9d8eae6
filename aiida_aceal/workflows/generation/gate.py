"""The gate: is the new potential finite, and no worse on the validation set than the best so far?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import summary
from aiida_aceal.workflows.generation.outcome import Failure, Outcome


@dataclass(frozen=True, kw_only=True)
class Verdict(Outcome):
    """Whether the new potential comes into force, and whether it is the best so far."""

    accepted: bool
    is_best: bool = False


def refusal(reason: str, standing: AcePotentialData) -> dict[str, Any]:
    """``facts`` and ``lines`` of a refusal; the potential ``standing`` stays in force."""
    return {
        "facts": {"accepted": False, "refused": reason, "status": "refused"},
        "lines": [f"new potential REFUSED, potential<{standing.pk}> stays in force: {reason}"],
    }


def decide(
    *,
    new: Mapping[str, Any],
    best: Mapping[str, Any],
    enabled: bool,
    tolerance: float,
    status: str,
    potential: AcePotentialData,
    active_set: ActiveSetData,
    standing: AcePotentialData,
) -> Verdict:
    """The verdict.

    :param new: validation errors of the new ``potential``
    :param best: those of the best so far, not of the last; empty if there are none
    :param enabled: whether a potential may be refused for its errors
    :param tolerance: fraction by which they may exceed those of the best
    :param status: of the generation, which becomes ``learned`` if it was ``explored``
    :param active_set: of ``potential``
    :param standing: potential in force until now
    :returns: fails with ``ERROR_NO_POTENTIAL`` if there is nothing to keep instead
    """
    values = [new.get(key, {}).get("rmse") for key in ("energy", "forces")]
    reason = None
    if any(value is None or not math.isfinite(value) for value in values):
        reason = "its validation errors are not finite"
    elif enabled and best and standing.is_fitted:
        reason = summary.is_worse(new, best, tolerance)
    if reason and not standing.is_fitted:
        return Verdict(accepted=False, failure=Failure("ERROR_NO_POTENTIAL", {"reason": reason}))
    if reason:
        return Verdict(accepted=False, **refusal(reason, standing))
    is_best = not best or summary.is_best(new, best)
    line = (
        f"accepted potential<{potential.pk}>: validation RMSE {1000 * values[0]:.3g} meV/atom, "
        f"{1000 * values[1]:.3g} meV/A"
        + (", the best so far" if is_best else ", an earlier one is better: exploration goes on")
        + f"; rank of the active set {active_set.rank}"
    )
    facts = {"accepted": True, "is_best": is_best, "status": "learned" if status == "explored" else status}
    return Verdict(accepted=True, is_best=is_best, facts=facts, lines=[line])
