"""What a campaign cost: core hours and wall time by stage, from the nodes of its jobs.

A job states its own time in its report. One that does not, or that failed before it could, counts with the time
between the first and the last change of its node, which includes waiting in a queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.common.links import LinkType
from aiida.common.timezone import now

from aiida_aceal.workflows.base import descendants, output

#: stage -> heading of its column
STAGES = {"md": "MD", "selection": "selection", "labels": "labels", "fits": "fits", "validation": "validation"}
#: what no job worked on: AiiDA, start-up of jobs, queues
REST = "rest"
#: label of the child of a generation or campaign, or how it begins -> stage
_STAGE_OF = {
    "explore": "md", "score": "selection", "extract": "selection", "select": "selection", "label": "labels",
    "sampler": "labels", "test_sampler": "labels", "fit": "fits", "active_set": "fits", "old_active_set": "fits",
    "maxvol": "fits", "old_maxvol": "fits", "before": "validation", "holdout": "validation", "after": "validation",
    "test_evaluation": "validation", "validate": "validation", "properties": "validation",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JobCost:
    """One job: its stage, when it worked (seconds of the epoch), core seconds, whether a cache had the result.

    ``is_light``: a function that AiiDA itself ran; it takes time, but is not counted among the jobs.
    """

    stage: str
    began: float
    ended: float
    core_seconds: float
    cached: bool = False
    is_light: bool = False


def stage_of(label: str) -> str:
    """Stage of a child of a generation or campaign by the label of its CALL link; :data:`REST` if it has none."""
    found = [name for name in _STAGE_OF if label == name or label.startswith(f"{name}_")]
    return _STAGE_OF[max(found, key=len)] if found else REST


def cost_table(jobs: Sequence[JobCost], began: float, ended: float) -> dict[str, Any]:
    """Wall and core seconds by stage.

    ``wall_seconds`` of a stage is the time in which at least one of its jobs worked, so that jobs side by side count
    once; stages that overlap count in both. ``rest`` is the time in which no job worked at all. Jobs from a cache cost
    nothing: ``cached`` has their number and the core seconds that they once took.

    :param began: of the whole, in seconds of the epoch; ``ended``: likewise
    """
    done = [job for job in jobs if not job.cached]
    cached = [job for job in jobs if job.cached and not job.is_light]
    stages = {}
    for stage in STAGES:
        own = [job for job in done if job.stage == stage]
        stages[stage] = {
            "wall_seconds": round(_covered(own), 3),
            "core_seconds": round(sum(job.core_seconds for job in own), 3),
            "n_jobs": sum(not job.is_light for job in own),
        }
    wall = max(0.0, ended - began)
    worked = _covered([job for job in done if job.stage in STAGES])
    return {
        "stages": stages,
        REST: {"wall_seconds": round(max(0.0, wall - worked), 3)},
        "total": {
            "wall_seconds": round(wall, 3),
            "core_seconds": round(sum(stage["core_seconds"] for stage in stages.values()), 3),
            "n_jobs": sum(stage["n_jobs"] for stage in stages.values()),
        },
        "cached": {"n_jobs": len(cached), "core_seconds": round(sum(job.core_seconds for job in cached), 3)},
    }


def _covered(jobs: Iterable[JobCost]) -> float:
    """Length of the union of the intervals in which jobs worked."""
    total, reached = 0.0, float("-inf")
    for job in sorted(jobs, key=lambda job: job.began):
        total += max(0.0, job.ended - max(job.began, reached))
        reached = max(reached, job.ended)
    return total


# --- from the nodes ----------------------------------------------------------------------------------------------


def costs_of(process: orm.ProcessNode) -> dict[str, Any]:
    """Table of one generation, or of what a campaign does itself: sets that are sampled, tests of the result."""
    return _costs_of(process, jobs_of(process))


def _costs_of(process: orm.ProcessNode, jobs: Sequence[JobCost]) -> dict[str, Any]:
    end = process.mtime if process.is_terminated else now()
    if process.process_label == "GenerationWorkChain":
        return cost_table(jobs, process.ctime.timestamp(), end.timestamp())
    return cost_table(jobs, 0.0, _covered(job for job in jobs if not job.cached))


def campaign_costs(campaign: orm.ProcessNode) -> dict[str, Any]:
    """Tables of a campaign: ``generations`` (number -> table), ``campaign`` (jobs outside of them), ``total``.

    The rest of ``total`` is all time of the campaign in which no job worked.
    """
    if campaign.process_label == "GenerationWorkChain":
        own = costs_of(campaign)
        return {"generations": {str(campaign.inputs.generation.value): own}, "campaign": None, "total": own}
    children = [child for child in campaign.called if child.process_label == "GenerationWorkChain"]
    own = jobs_of(campaign)
    jobs, generations = list(own), {}
    for child in sorted(children, key=lambda child: child.pk):
        below = jobs_of(child)
        generations[str(child.inputs.generation.value)] = _costs_of(child, below)
        jobs += below
    end = campaign.mtime if campaign.is_terminated else now()
    total = cost_table(jobs, campaign.ctime.timestamp(), end.timestamp())
    return {"generations": generations, "campaign": _costs_of(campaign, own), "total": total}


def jobs_of(process: orm.ProcessNode) -> list[JobCost]:
    """All jobs below a process, generations below it aside; light steps count where they are a stage themselves."""
    found = []
    links = process.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK)).all()
    for link in links:
        child, stage = link.node, stage_of(link.link_label)
        if child.process_label == "GenerationWorkChain":
            continue
        if isinstance(child, orm.CalcFunctionNode) and stage in STAGES:
            found.append(_light(child, stage))
        below = [child] if isinstance(child, orm.CalcJobNode) else descendants(child)
        found += [_job(node, _own_stage(node, stage)) for node in below if isinstance(node, orm.CalcJobNode)]
    return found


def _own_stage(node: orm.CalcJobNode, stage: str) -> str:
    """Labels that a validation of properties has made are labels."""
    name = str(node.process_type).removeprefix("aiida.calculations:")
    made = name.startswith("aceal.label") or not name.startswith("aceal.")
    return "labels" if stage == "validation" and made else stage


def _light(node: orm.CalcFunctionNode, stage: str) -> JobCost:
    began, ended = node.ctime.timestamp(), node.mtime.timestamp()
    cached, seconds = node.base.caching.is_created_from_cache, ended - began
    return JobCost(stage=stage, began=began, ended=ended, core_seconds=seconds, cached=cached, is_light=True)


def _job(node: orm.CalcJobNode, stage: str) -> JobCost:
    """When a job worked: its own time lies in the middle of that of its node, before and after it is start and end."""
    from aiida_aceal.workflows.labellers.base import n_cores

    end = node.mtime if node.is_terminated else now()
    first, last = node.ctime.timestamp(), end.timestamp()
    wall, core = stated(node)
    if wall is None:
        wall = last - first
    margin = max(0.0, last - first - wall) / 2
    cached = node.base.caching.is_created_from_cache
    began = first + margin
    return JobCost(
        stage=stage, began=began, ended=began + wall, cached=cached,
        core_seconds=wall * n_cores(node) if core is None else core,
    )  # fmt: skip


def stated(node: orm.CalcJobNode) -> tuple[float | None, float | None]:
    """Wall and core seconds as the job itself, its code or the scheduler states them; ``None`` where nothing does."""
    report = output(node, "report")
    if isinstance(report, orm.Dict):
        given = report.get_dict()
        cost = given.get("cost") or {}
        wall = cost.get("wall_seconds", given.get("wall_seconds", given.get("seconds")))
        if isinstance(wall, dict):  # by part of the job, as fits had it before they stated their cost
            wall = wall.get("total")
        # processes of a pool that were not waited for are missing in the time of the whole
        core = [value for value in (cost.get("core_seconds"), given.get("core_seconds")) if value is not None]
        if wall is not None:
            return float(wall), max(core, default=None)
    for name, path in (("misc", ("run_stats", "elapsed_time")), ("output_parameters", ("wall_time_seconds",))):
        value: Any = output(node, name)
        value = value.get_dict() if isinstance(value, orm.Dict) else None
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return float(value), None
    info = node.get_last_job_info()
    seconds = getattr(info, "wallclock_time_seconds", None) if info is not None else None
    return (float(seconds) if seconds else None), None
