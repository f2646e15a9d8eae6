"""``sample``: labelled snapshots of molecular dynamics with any ASE calculator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.words import counted

from .declaration import Input, Job, Output

if TYPE_CHECKING:
    from ase import Atoms

    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """Run dynamics from each configuration and keep snapshots."""
    import numpy as np

    from aiida_aceal.exploration.sampling import sample_md
    from aiida_aceal.labels.calculators import calculator_spec, compute_labels

    cpu = time.process_time()
    settings = task.settings
    spec = calculator_spec(settings.calculator, settings.kwargs or {})
    configurations = list(task.configurations())
    children = np.random.SeedSequence(task.seed).spawn(len(configurations))

    def snapshots() -> Iterator[Atoms]:
        for number, (atoms, child) in enumerate(zip(configurations, children)):
            course = sample_md(
                atoms, spec.create(), settings.temperature, settings.steps, settings.interval,
                np.random.default_rng(child), settings.timestep, labels=compute_labels,
            )  # fmt: skip
            for snapshot in course:
                snapshot.info["source"] = f"md/{number}/{snapshot.info['step']}"
                done = f"run {number + 1}/{len(configurations)}, step {snapshot.info['step']}/{settings.steps}"
                task.say(f"{done}, {task.seconds:.1f} s")
                yield snapshot

    count = task.write("labelled", snapshots())
    task.say(f"{counted(count, 'labelled snapshot')}")
    return {
        "n_configurations": count,
        "n_labelled": count,
        "n_failed": 0,
        "failures": [],
        "calculator": spec.describe(),
        "steps": settings.steps * len(configurations),
        "wall_seconds": task.seconds,
        "core_seconds": time.process_time() - cpu,
    }


JOB = Job(
    "sample",
    "Run dynamics (NVT, temperature ramped) from each configuration of DATA... and keep labelled snapshots.\n\n"
    "Meant for hold-out sets: they come from the reference method's own dynamics, not from the potential's.",
    run,
    "aiida_aceal.labels.settings:SampleSettings",
    inputs=(
        Input("configurations", "configurations", "Configurations that runs start from, one run "
            "for each.", many=True, metavar="data"),
    ),
    outputs=(Output("labelled", "configurations", "Labelled snapshots."),),
    seeded=True,
    options={"kwargs": "--settings"},
    source=lambda settings: "reference md",
)  # fmt: skip
