"""``select``: which candidates are worth a label."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.words import counted

from .declaration import Input, Job, Output
from .parts import ACTIVE_SET, ENSEMBLE, POTENTIAL

if TYPE_CHECKING:
    from .task import Task


def check_reference(settings: Mapping[str, Any], given: Collection[str]) -> str | None:
    """``viability`` without anything to compare the candidates with."""
    numbers = (settings.get("options") or {}).get("reference")
    if settings.get("strategy") == "viability" and "reference" not in given and not numbers:
        return (
            "reference: `viability` judges candidates by the training set of the potential; give its sets as input "
            "`reference` (command line: --reference FILE), or numbers U, sU, E, sE as options.reference"
        )
    return None


def run(task: Task) -> dict[str, Any]:
    """Select by the strategy, within the budget."""
    from aiida_aceal.selection import Budget, select

    settings = task.settings
    structures = list(task.configurations())
    known = list(task.configurations("reference")) if task.given("reference") else None
    indicator = None
    if task.given("ensemble"):
        from aiida_aceal.fitting.ensemble import Ensemble

        indicator = Ensemble.load(task.path("ensemble"))
    last = [-1.0]

    def progress(line: str) -> None:
        # counters come hundreds of times: one a second is enough
        if line.startswith("round") or task.seconds - last[0] > 1.0:
            last[0] = task.seconds
            task.say(f"{last[0]:7.1f} s  {line}")

    progress(f"read {len(structures)} candidates")
    chosen = select(
        settings.strategy, structures, seed=task.seed, model=task.model, active_set=task.active_set,
        budget=Budget(settings.count, settings.max_atoms, settings.max_cost, settings.cost_power), indicator=indicator,
        descriptor=settings.descriptor, reference=known, duplicate_distance=settings.duplicate_distance,
        memory=settings.memory, options=dict(settings.options), progress=progress,
    )  # fmt: skip
    picked = []
    for index, score, reason, turn in zip(chosen.indices, chosen.scores, chosen.reasons, chosen.rounds):
        atoms = structures[index]
        atoms.info.update(reason=f"{settings.strategy}: {reason}", score=score, round=turn)
        picked.append(atoms)
    task.write("selected", picked)
    report = {
        **chosen.report(),
        "n_candidates": len(structures),
        "n_atoms": sum(len(atoms) for atoms in picked),
        "seconds": task.seconds,
    }
    for line in chosen.notes:
        task.echo(line)
    task.echo(
        f"{len(picked)} of {counted(len(structures), 'candidate')} selected by {settings.strategy} in "
        f"{counted(report['rounds'], 'round')}, {counted(len(chosen.dropped), 'near-duplicate')} dropped"
    )
    return report


JOB = Job(
    "select",
    "Select from CANDIDATES... with POTENTIAL and its active set ASI.\n\n"
    "Chosen structures get the info entries reason, score and round; the budget is a number of structures, of atoms, "
    "or a label cost, whichever is reached first.",
    run,
    "aiida_aceal.selection.settings:SelectSettings",
    inputs=(
        POTENTIAL,
        ACTIVE_SET,
        Input("configurations", "configurations", "The candidates.", many=True, metavar="candidates"),
        replace(
            ENSEMBLE,
            help="If given, its indicator (dF or dE) takes the place of gamma in strategies that use uncertainty.",
        ),
        Input(
            "reference", "configurations",
            "Training set of the potential (the union of these sets), with which `viability` compares candidates.",
            required=False, many=True, namespace=True, option="--reference",
        ),
    ),
    outputs=(
        Output(
            "selected", "configurations",
            "The chosen configurations with info reason, score and round; absent if none was "
                "chosen.", may_be_empty=True,
        ),
    ),
    seeded=True,
    check_inputs=check_reference,
)  # fmt: skip
