"""``learning-curve``: how errors fall when one strategy, with one seed, chooses from a labelled pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.errors import NotFiniteError

from .declaration import Input, Job
from .parts import POTENTIAL

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """The curve of one strategy and seed."""
    from aiida_aceal.selection.compare import learning_curve

    from .curve_files import labelled_sets

    sets = labelled_sets(task, "pool", "test")
    curve = learning_curve(*sets, task.settings, task.seed, progress=task.say_time)
    last = curve["points"][-1]
    task.echo(
        f"{curve['strategy']}, seed {curve['seed']}: {last['n_structures']} structures, forces RMSE "
        f"{1000 * last['forces_rmse']:.1f} meV/A, largest {1000 * last['forces_max']:.0f} meV/A, "
        f"{curve['seconds']:.1f} s"
    )
    return curve


def check_report(report: Mapping[str, Any]) -> str | None:
    """A curve without points. Raises `NotFiniteError` for errors that are not finite."""
    for point in report.get("points") or ():
        for key, value in point.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise NotFiniteError(f"{key} = {value} at size {point.get('size')}")
    return None if report.get("points") else "points of the curve"


JOB = Job(
    "learning-curve",
    "Compute a learning curve as described in the YAML file SETTINGS; its paths are relative to the working "
    "directory.\n\n"
    "\b\n"
    "potential: basis.yaml         basis of every fit, or its description (elements, cutoff, ...)\n"
    "pool: [pool.extxyz]           labelled configurations to choose from; also a single name\n"
    "test: [test.extxyz]           labelled configurations that are never chosen\n"
    "output: curve.json\n"
    "strategy: d_optimal           its arguments: options: {...}\n"
    "seed: 0                       of the random start (the same for every strategy) and of the strategy\n"
    "sizes: [20, 40, 80]           of the training set, in unit: structures (or atoms); the first is the start\n"
    "fit: {...}                    settings of every refit, as in aceal-worker fit",
    run,
    "aiida_aceal.jobs.curve_files:CurveFile",
    style="file",
    node_settings="aiida_aceal.selection.compare:CurveSettings",
    inputs=(
        POTENTIAL,
        Input(
            "pool", "configurations", "Labelled configurations to choose from.", many=True, key="pool",
            labels=("energy", "forces"),
        ),
        Input(
            "test", "configurations", "Labelled configurations that are never chosen.", many=True, key="test",
            labels=("energy", "forces"),
        ),
    ),
    seeded=True,
    label_keys=True,
    report_key="output",
    distinct=("pool", "test"),
    check_report=check_report,
    finite=True,
)  # fmt: skip
