"""``label``: reference energies, forces and stress of many configurations by any ASE calculator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.labels.pool import Outcome

    from .task import Task

#: exit code when not a single configuration could be labelled
NOTHING_LABELLED = 4


def share_cores(n_configurations: int, workers: int | None) -> tuple[int, int]:
    """Number of processes, and threads of each, that use the cores given by ``OMP_NUM_THREADS`` (default: all)."""
    from aiida_aceal.common.threads import thread_count

    cores = thread_count()
    workers = max(1, min(workers or cores, n_configurations))
    return workers, max(1, cores // workers)


def warnings_for(target: str, configurations: Sequence[Atoms]) -> list[str]:
    """What the user should know about the method and these cells."""
    if target != "tblite.ase:TBLite":
        return []
    small = 0
    for atoms in configurations:
        lengths = atoms.cell.lengths()[atoms.pbc]
        small += bool(len(lengths) and lengths.min() < 8.0)
    if not small:
        return []
    return [
        f"{small} of {len(configurations)} cells have an edge shorter than 8 A: tblite samples the gamma point only; "
        "use larger cells"
    ]


def labelled(configurations: Sequence[Atoms], outcomes: Sequence[Outcome]) -> Iterator[Atoms]:
    """Copies of the configurations that have labels now, everything else as it was."""
    from ase.calculators.singlepoint import SinglePointCalculator

    for atoms, outcome in zip(configurations, outcomes, strict=True):
        if outcome.labels is not None:
            copy = atoms.copy()
            copy.calc = SinglePointCalculator(copy, **outcome.labels)
            yield copy


def run(task: Task) -> dict[str, Any]:
    """Label in processes side by side; a configuration that fails costs only itself."""
    from aiida_aceal.common.configurations import configuration_hash
    from aiida_aceal.labels.calculators import calculator_spec
    from aiida_aceal.labels.pool import label_batch

    settings = task.settings
    spec = calculator_spec(settings.calculator, settings.kwargs or {})
    configurations = list(task.configurations())
    workers, threads = share_cores(len(configurations), settings.workers)
    count = {"done": 0, "failed": 0}
    last = [0.0]

    def progress(outcome: Outcome) -> None:
        count["done"] += 1
        count["failed"] += outcome.labels is None
        if task.seconds - last[0] > 2.0 or count["done"] == len(configurations):
            last[0] = task.seconds
            done = f"{count['done']}/{len(configurations)} configurations, {count['failed']} failed"
            task.say(f"{done}, {last[0]:.1f} s")

    left = None if settings.budget is None else max(0.0, settings.budget - task.seconds)
    outcomes = label_batch(
        configurations, spec, workers, threads, settings.timeout, left, progress,
        energy=settings.energy, stress=settings.stress, max_force=settings.max_force,
    )  # fmt: skip
    hashes = [configuration_hash(atoms) for atoms in configurations]
    n_labelled = task.write("labelled", labelled(configurations, outcomes))
    report = {
        "n_configurations": len(configurations),
        "n_labelled": n_labelled,
        "n_failed": len(configurations) - n_labelled,
        "n_stress": sum("stress" in (o.labels or {}) for o in outcomes),
        "failures": [
            {"index": o.index, "hash": hashes[o.index], "reason": o.reason} for o in outcomes if o.labels is None
        ],
        "calculator": spec.describe(),
        "energy": settings.energy,
        "units": {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"},
        "warnings": warnings_for(spec.target, configurations),
        "workers": workers,
        "threads": threads,
        "wall_seconds": task.seconds,
        "core_seconds": sum(o.cpu_seconds for o in outcomes),
        "costs": [{"index": o.index, "wall_seconds": o.wall_seconds, "core_seconds": o.cpu_seconds} for o in outcomes],
    }
    for warning in report["warnings"]:
        task.say(f"Warning: {warning}")
    task.say(f"{n_labelled} of {len(configurations)} configurations labelled")
    return report


def exit_status(report: Mapping[str, Any]) -> int:
    """Not one labelled is a failure, some are not."""
    return 0 if report["n_labelled"] else NOTHING_LABELLED


JOB = Job(
    "label",
    "Label the configurations of DATA... with an ASE calculator.\n\n"
    "A configuration that fails is left out of OUTPUT and listed in the report with the reason; the order is kept. "
    "Exit code 4: no configuration could be labelled.",
    run,
    "aiida_aceal.labels.settings:LabelJobSettings",
    inputs=(
        Input(
            "configurations", "configurations", "Configurations to label; existing labels are replaced.", many=True,
            metavar="data",
        ),
    ),
    outputs=(
        Output("labelled", "configurations", "The configurations that could be labelled, in the original order."),
    ),
    options={"kwargs": "--settings"},
    exit_status=exit_status,
    source=lambda settings: f"label.ase {settings['calculator']}",
)  # fmt: skip
