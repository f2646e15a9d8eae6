"""``label``: reference energies, forces and stress of many configurations by any ASE calculator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.labels.calculators import CalculatorSpec
    from aiida_aceal.labels.pool import Outcome
    from aiida_aceal.labels.progress import ProgressFile
    from aiida_aceal.labels.signals import Stop

    from .task import Task

#: where the CalcJob has its file of progress
PROGRESS_FILE = "labels.jsonl"
#: exit code when not a single configuration could be labelled
NOTHING_LABELLED = 4
#: exit code when the job ended before all were tried: run again, it goes on from there
INCOMPLETE = 5
#: tries in vain, each in a run of its own, after which a configuration is a failure for good
MAX_TRIES = 3


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
    """Label in processes side by side; a configuration that fails costs only itself, what is made is on the disk."""
    from aiida_aceal.labels.calculators import calculator_spec
    from aiida_aceal.labels.progress import ProgressFile, label_key, method_digest
    from aiida_aceal.labels.signals import stopping

    settings = task.settings
    spec = calculator_spec(settings.calculator, settings.kwargs or {})
    configurations = list(task.configurations())
    options = {name: getattr(settings, name) for name in ("energy", "stress", "max_force")}
    method = method_digest(spec, settings.kwargs, options)
    path = task.path("progress") or Path(f"{task.path('labelled')}.labels")
    with stopping() as stop, ProgressFile(path, method) as file:
        batch = Batch(task, configurations, [label_key(atoms) for atoms in configurations], file)
        batch.compute(spec, options, stop)
        n_labelled = task.write("labelled", labelled(configurations, batch.outcomes))
        report = {**batch.report(n_labelled), "calculator": spec.describe(), "energy": settings.energy}
    report["warnings"] = warnings_for(spec.target, configurations)
    for warning in report["warnings"]:
        task.say(f"Warning: {warning}")
    task.say(f"{n_labelled} of {len(configurations)} configurations labelled")
    if report["n_not_tried"]:
        task.say(f"{report['n_not_tried']} not tried ({report['not_tried'][0]['reason']}); {path} has the labels made")
    return report


class Batch:
    """The configurations of one run: which labels are there already, what becomes of the others."""

    def __init__(self, task: Task, configurations: Sequence[Atoms], keys: Sequence[str], file: ProgressFile) -> None:
        from aiida_aceal.labels.limits import TimeLimits

        self.task, self.configurations, self.keys, self.file = task, configurations, keys, file
        self.known = known = file.read()
        self.limits = TimeLimits.within(task.settings.timeout, task.settings.budget)
        self.workers, self.threads = share_cores(len(configurations), task.settings.workers)
        self.outcomes: list[Outcome] = []
        self.n_done = self.n_failed = 0
        self.said = 0.0
        if known.n_other:
            task.say(f"{file.path}: {known.n_other} labels by another method or with other settings do not count")
        if known.n_damaged:
            task.say(f"{file.path}: {known.n_damaged} damaged lines are left out and computed again")

    def taken(self, index: int) -> Outcome | None:
        """What the file of progress says of a configuration, ``None`` if it is to be computed."""
        from aiida_aceal.labels.pool import Outcome

        key = self.keys[index]
        known = self.known.outcomes.get(key)
        if known is not None:
            return replace(known, index=index)
        if self.known.tries[key] >= MAX_TRIES:
            last = self.known.reasons.get(key, "the job ended while it was under way")
            return Outcome(index, "failed", None, f"{last} (tried {self.known.tries[key]} times)")
        return None

    def compute(self, spec: CalculatorSpec, options: Mapping[str, Any], stop: Stop) -> None:
        """Take what is there, compute the rest; what was begun in vain before comes last."""
        from aiida_aceal.labels.pool import label_batch

        found = {index: self.taken(index) for index in range(len(self.configurations))}
        todo = [index for index, outcome in found.items() if outcome is None]
        todo.sort(key=lambda index: self.known.tries[self.keys[index]])
        self.n_taken = len(found) - len(todo)
        self.n_done = self.n_taken
        self.n_failed = sum(outcome is not None and outcome.labels is None for outcome in found.values())
        if self.n_taken:
            self.task.say(f"{self.n_taken} of {len(found)} configurations are in {self.file.path} already")
        for index, outcome in found.items():
            if outcome is not None and outcome.labels is not None:
                self.limits.learn(len(self.configurations[index]), outcome.wall_seconds)

        def started(number: int) -> None:
            self.file.start(self.keys[todo[number]])

        def progress(outcome: Outcome) -> None:
            self.file.add(self.keys[todo[outcome.index]], outcome)
            self.say_progress(outcome)

        budget = self.task.settings.budget
        left = None if budget is None else max(0.0, budget - self.task.seconds)
        made = label_batch(
            [self.configurations[index] for index in todo], spec, self.workers, self.threads, self.limits, left,
            progress, started, stop, **options,
        )  # fmt: skip
        found.update({todo[outcome.index]: replace(outcome, index=todo[outcome.index]) for outcome in made})
        self.outcomes = [found[index] for index in range(len(found))]

    def say_progress(self, outcome: Outcome) -> None:
        """A line now and then."""
        self.n_done += 1
        self.n_failed += outcome.labels is None
        total, seconds = len(self.configurations), self.task.seconds
        if seconds - self.said > 2.0 or self.n_done == total:
            self.said = seconds
            self.task.say(f"{self.n_done}/{total} configurations, {self.n_failed} failed, {seconds:.1f} s")

    def report(self, n_labelled: int) -> dict[str, Any]:
        """Numbers, failures with reasons, and what was not tried, which is no failure."""
        from aiida_aceal.common.configurations import configuration_hash

        def rows(*states: str) -> list[dict[str, Any]]:
            found = [outcome for outcome in self.outcomes if outcome.state in states]
            return [
                {"index": o.index, "hash": configuration_hash(self.configurations[o.index]), "reason": o.reason}
                for o in found
            ]

        lost = rows("lost")
        failures = sorted([*rows("failed"), *({**row, "transient": True} for row in lost)], key=lambda r: r["index"])
        not_tried = rows("interrupted", "waiting")
        tried = [o for o in self.outcomes if o.state != "waiting"]
        return {
            "n_configurations": len(self.outcomes),
            "n_labelled": n_labelled,
            "n_failed": len(failures),
            "n_transient": len(lost),
            "n_not_tried": len(not_tried),
            "n_taken": self.n_taken,
            "n_stress": sum("stress" in (o.labels or {}) for o in self.outcomes),
            "failures": failures,
            "not_tried": not_tried,
            "units": {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"},
            "time_limit": self.limits.report(),
            "workers": self.workers,
            "threads": self.threads,
            "wall_seconds": self.task.seconds,
            "core_seconds": sum(o.cpu_seconds for o in tried),
            "costs": [{"index": o.index, "wall_seconds": o.wall_seconds, "core_seconds": o.cpu_seconds} for o in tried],
        }


def exit_status(report: Mapping[str, Any]) -> int:
    """Not one labelled is a failure, some are not; what was not tried is told apart."""
    if report["n_not_tried"]:
        return INCOMPLETE
    return 0 if report["n_labelled"] else NOTHING_LABELLED


JOB = Job(
    "label",
    "Label the configurations of DATA... with an ASE calculator.\n\n"
    "A configuration that fails is left out of OUTPUT and listed in the report with the reason; the order is kept. "
    "Each label is appended to a file (--progress) as soon as it is made: the same command, run again after a kill, "
    "computes only the rest. SIGTERM and Ctrl-C end the job in good order. "
    "Exit code 4: no configuration could be labelled; 5: the job ended before all were tried.",
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
        Output(
            "progress", "text", "Labels are appended to FILE as they are made, and what stands in it is not computed "
            "again (default: OUTPUT.labels).", option="--progress", short="", required=False, node=False,
            file=PROGRESS_FILE,
        ),
    ),
    options={"kwargs": "--settings"},
    exit_status=exit_status,
    source=lambda settings: f"label.ase {settings['calculator']}",
)  # fmt: skip
