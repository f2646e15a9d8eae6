"""Score: the ensemble that the last fit made gives dE and dF of the candidates; on request it decides on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import summary
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.generation.outcome import Call, Outcome, Started, report_of, worker_child


@calcfunction
def choose_uncertain(candidates: ConfigurationsData, settings: orm.Dict) -> dict[str, Any]:
    """The scored candidates whose indicator (``name``: dF or dE) exceeds ``threshold``."""
    given = settings.get_dict()
    scores = [atoms.info[given["name"]] for atoms in candidates.iter_atoms()]
    indices = [k for k, score in enumerate(scores) if score > given["threshold"]]
    result: dict[str, Any] = {"report": orm.Dict({"n_candidates": len(scores), "n_uncertain": len(indices)})}
    if indices:
        result["candidates"] = candidates.select(indices, source="explore")
    return result


@dataclass(frozen=True, kw_only=True)
class Scored(Outcome):
    """Candidates with their scores; ``None`` if the ensemble decides and none of them is above its threshold."""

    candidates: ConfigurationsData | None


def why_undecided(ensemble: EnsembleData | None, settings: Mapping[str, Any]) -> str | None:
    """Reason why the ensemble that is to choose candidates has no threshold for its indicator, or ``None``."""
    if ensemble is None or settings["candidates"] != "ensemble":
        return None
    if ensemble.base.attributes.get("use") in ensemble.thresholds:
        return None
    return "; ".join(ensemble.threshold_notes) or "the ensemble was made without thresholds"


def start(
    *,
    candidates: ConfigurationsData,
    potential: AcePotentialData,
    active_set: ActiveSetData,
    ensemble: EnsembleData,
    worker: Mapping[str, Any],
) -> Started:
    """The job that gives dE and dF beside gamma."""
    given = {"potential": potential, "active_set": active_set, "configurations": candidates, "ensemble": ensemble}
    return Started(
        children=[worker_child("score", "aceal.grade", worker, "score candidates with the ensemble", **given)]
    )


def collect(
    *,
    child: orm.ProcessNode,
    candidates: ConfigurationsData,
    settings: Mapping[str, Any],
    explorations: Sequence[Mapping[str, Any]],
    call: Call,
) -> Scored:
    """The scored candidates; if the ensemble decides, only those above its threshold.

    :param child: the finished job
    :param candidates: what stays if it failed: then gamma alone decides
    :param settings: ``candidates`` (gamma or ensemble: which decides) and ``factor`` on the threshold
    :param explorations: reports of the explorers; no candidate left, and all complete: converged
    """
    scored = output(child, "graded")
    if scored is None or not child.is_finished_ok:
        line = f"candidates not scored; gamma alone decides: {why(child)}"
        return Scored(candidates=candidates, lines=[line])
    found = report_of(child)["ensemble"]
    name, key = {"forces": ("dF", "forces"), "energy": ("dE", "energy")}[found["use"]]
    limit = found["thresholds"].get(key)
    threshold = None if limit is None else settings["factor"] * limit
    maxima = {f"max_{indicator}": found[indicator]["max"] for indicator in ("dE", "dF")}
    facts: dict[str, Any] = {"ensemble": {"indicator": name, "threshold": threshold, **maxima}}
    line = (
        f"ensemble of {found['members']}: largest dE {1000 * found['dE']['max']:.3g} meV/atom, "
        f"dF {1000 * found['dF']['max']:.3g} meV/A; "
    )
    if threshold is None:
        line += f"{name} has no threshold"
    else:
        above = found[name].get("n_above", 0)
        line += f"{name} above its threshold {1000 * threshold:.3g} in {above} of {len(scored)} candidates"
    if settings["candidates"] != "ensemble":
        return Scored(candidates=scored, facts=facts, lines=[line])
    limits = orm.Dict({"name": name, "threshold": threshold})
    kept = call("choose_uncertain", choose_uncertain, candidates=scored, settings=limits).get("candidates")
    if kept is not None:
        facts["n_candidates"] = len(kept)
        return Scored(candidates=kept, facts=facts, lines=[line, f"the ensemble decides: {len(kept)} candidates stay"])
    complete = bool(explorations) and all(explorations) and summary.exploration_numbers(explorations).get("complete")
    facts |= {"n_candidates": 0, "status": "converged" if complete else "no_candidates"}
    last = "no candidate is above the threshold of the ensemble"
    last += ", and every run reached its full length: converged" if complete else ""
    return Scored(candidates=None, facts=facts, lines=[line, last])
