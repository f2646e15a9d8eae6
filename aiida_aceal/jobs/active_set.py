"""``active-set``: the MaxVol active set of labelled or unlabelled configurations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output
from .parts import POTENTIAL

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.uncertainty import ActiveSet

    from .task import Task


class Source:
    """Configurations of the input, read anew at each pass; nothing is kept."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __iter__(self) -> Iterator[Atoms]:
        from aiida_aceal.common.configurations import configuration_hash

        for atoms in self.task.configurations("dataset"):
            atoms.info.setdefault("aceal_hash", configuration_hash(atoms))
            yield atoms


def check_previous(settings: Mapping[str, Any], given: Collection[str]) -> str | None:
    """An update takes the tolerance only: what needs all environments again is for a set that is built."""
    if "previous" not in given:
        return None
    if settings.get("clusters") is not None or settings.get("group_key") is not None:
        return "settings: local active sets are always built anew; leave `previous` out"
    if settings.get("exclude_outliers"):
        return "settings: `exclude_outliers` applies to a set that is built, not to an update of `previous`"
    return None


def run(task: Task) -> dict[str, Any]:
    """Build or update; the memory that libraries and kernels use counts as well."""
    from aiida_aceal.ace import AceModel
    from aiida_aceal.uncertainty import build_active_set, build_local_active_set, update_active_set
    from aiida_aceal.uncertainty.equal_densities import with_equal_densities
    from aiida_aceal.uncertainty.local_build import group_names
    from aiida_aceal.uncertainty.sources import memory_left

    settings, potential = task.settings, task.potential
    model = AceModel(potential)
    if settings.clusters is not None:
        import sklearn.cluster  # noqa: F401  (before the memory in use is looked at)
    source = Source(task)
    common = {
        "tolerance": settings.tolerance, "memory": memory_left(settings.memory), "progress": task.say_time,
    }  # fmt: skip
    if settings.clusters is not None or settings.group_key is not None:
        groups = None if settings.group_key is None else group_names(source, settings.group_key)
        active_set = build_local_active_set(
            model, source, settings.kind, clusters=settings.clusters or 1, groups=groups,
            definition=settings.definition, switch=settings.switch, emptiness=settings.emptiness, seed=task.seed,
            **common,
        )  # fmt: skip
    elif task.given("previous"):
        active_set = update_active_set(_previous(task), model, source, **common)
    else:
        active_set = build_active_set(
            model, source, settings.kind, exclude_outliers=settings.exclude_outliers, emptiness=settings.emptiness,
            seed=task.seed, **common,
        )  # fmt: skip
    equal = with_equal_densities(active_set, potential.n_functions, potential.n_densities)
    equal.save(task.path("active_set"))
    if equal is not active_set:
        task.echo(
            f"{task.path('active_set')}: elements have different numbers of densities; written for as many of all, as "
            "ML-PACE and python-ace need it: give them the potential written by AcePotential.with_equal_densities()"
        )
    report = {**active_set.report(), "seconds": task.seconds}
    for element, one in report["elements"].items():
        task.echo(
            f"{element:3s} {one['environments']} environments, {one['functions']} functions, rank {one['rank']}, "
            f"log volume {one['log_volume']:.6g}, max gamma {one['max_gamma']}, {len(one['structures'])} structures"
        )
    if not active_set.converged:
        task.say(
            f"warning: gamma of a training environment is {active_set.tolerance_reached:.4g}, above the tolerance "
            f"{settings.tolerance:g}"
        )
    return report


def _previous(task: Task) -> ActiveSet:
    """The set that is updated. Raises `AceError` if it cannot be."""
    from aiida_aceal.common.errors import AceError
    from aiida_aceal.uncertainty import ActiveSet, LocalActiveSet

    # without a stated kind an update keeps that of the old set
    kind = task.settings.kind if "kind" in task.settings.model_fields_set else None
    old = ActiveSet.load(task.path("previous"), potential=task.potential, kind=kind)
    if isinstance(old, LocalActiveSet):
        raise AceError(f"{task.path('previous')} holds local active sets, which cannot be updated: build them anew")
    return old


def slim(report: dict[str, Any]) -> dict[str, Any]:
    """Without the lists per row: the active set's node keeps them in its repository."""
    elements = report.get("elements")
    if not isinstance(elements, dict):
        return report
    heavy = ("active_environments", "identifiers", "structures")
    kept = {el: {k: v for k, v in facts.items() if k not in heavy} for el, facts in elements.items()}
    return {**report, "elements": kept}


JOB = Job(
    "active-set",
    "Choose the environments of DATA... with the largest volume for POTENTIAL (fitted or not).\n\n"
    "With --previous, all of DATA is checked against the old set, and only what exceeds the tolerance is swapped in. "
    "With --clusters or --group-key, OUTPUT contains local active sets as well as the global one: `grade`, `select`, "
    "`explore` and `aceal-lmp` read it, ML-PACE does not.",
    run,
    "aiida_aceal.uncertainty.settings:ActiveSetSettings",
    inputs=(
        POTENTIAL,
        Input(
            "dataset", "configurations",
            "Sets of configurations; the environments of their union make up the active set.", many=True,
            namespace=True, metavar="data",
        ),
        Input(
            "previous", "active_set",
            "Active set of the previous generation: updated by swaps instead of built anew.", required=False,
            option="--previous",
        ),
    ),
    outputs=(Output("active_set", "active_set", "The active set."),),
    seeded=True,
    seed_required=False,
    check_inputs=check_previous,
    slim=slim,
)  # fmt: skip
