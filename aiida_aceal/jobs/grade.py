"""``grade``: the extrapolation grade of every atom of many configurations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.common.words import counted

from .declaration import Input, Job, Output
from .parts import ACTIVE_SET, ENSEMBLE, POTENTIAL

if TYPE_CHECKING:
    from .task import Task


class GradeSettings(Settings):
    """What becomes a node."""

    heading = "Grading: `settings` of `aceal.grade`"

    store: bool = setting(True, "Whether the graded configurations are stored as a node (the report always is).")


def run(task: Task) -> dict[str, Any]:
    """Grade all configurations."""
    import numpy as np

    from aiida_aceal.uncertainty.emptiness import mark

    from .ensemble_scores import EnsembleScores

    scores = EnsembleScores(task.path("ensemble")) if task.given("ensemble") else None
    largest: list[float] = []
    n_atoms = n_emptier = 0
    note = task.active_set.emptiness_note
    if note:
        task.say(f"note: {note}")

    def graded() -> Iterator:
        nonlocal n_atoms, n_emptier
        for chunk in task.chunks():
            results = task.model.evaluate_batch(chunk, forces=False, stress=False, gamma=True)
            if scores is not None:
                scores.add(chunk)
            for atoms, result in zip(chunk, results):
                atoms.arrays["gamma"] = np.asarray(result.gamma, dtype=float)
                atoms.info["gamma_max"] = float(result.gamma.max())
                n_emptier += mark(atoms.info, result.emptiness)
                largest.append(atoms.info["gamma_max"])
                n_atoms += len(atoms)
                yield atoms
            task.say(f"{counted(len(largest), 'structure')}, {counted(n_atoms, 'atom')}")

    task.write("graded", graded())
    median, q90, q99 = (float(q) for q in np.quantile(largest, [0.5, 0.9, 0.99]))
    report = {
        "n_structures": len(largest),
        "n_atoms": n_atoms,
        "kind": task.active_set.kind,
        "gamma": {"max": max(largest), "median": median, "q90": q90, "q99": q99},
        "n_above_1": int(np.sum(np.array(largest) > 1.0 + 1e-6)),  # beyond rounding
        "emptiness": {"n_structures": n_emptier, "note": note},
        "seconds": task.seconds,
    }
    if scores is not None:
        report["ensemble"] = scores.report()
    task.echo(
        f"{counted(len(largest), 'structure')}: gamma max {max(largest):.4g}, median {median:.4g}, "
        f"{report['n_above_1']} above 1"
        + (f", {n_emptier} with atoms in environments emptier than any that was learnt" if n_emptier else "")
    )
    return report


JOB = Job(
    "grade",
    "Grade DATA... by the active set ASI of POTENTIAL; a linear set needs no fitted potential.",
    run,
    inputs=(
        POTENTIAL,
        ACTIVE_SET,
        Input("configurations", "configurations", "Configurations to grade.", many=True, metavar="data"),
        ENSEMBLE,
    ),
    outputs=(
        Output(
            "graded", "configurations", "The configurations with gamma of each atom (array gamma, info gamma_max).",
            required=False, wanted=lambda settings: settings.get("store", True),
        ),
    ),
    node_settings=GradeSettings,
)  # fmt: skip
