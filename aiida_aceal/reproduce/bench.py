"""Runs the jobs of a study in AiiDA, one after the other, and hands the studies plain objects.

Every job is one of the plugin's processes with its own node; with AiiDA's caching, one that ran before is taken over,
so that studies share what they have in common and an interrupted one goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from ase import Atoms

from . import sources
from .study import Step


@dataclass(frozen=True)
class Fit:
    """A fitted potential (`AcePotential`), its node, the report of the fit, the node of its ensemble if it has one."""

    potential: Any
    node: Any
    report: dict[str, Any]
    ensemble: Any = None


@dataclass(frozen=True)
class Evaluated:
    """Configurations with computed labels and, as ``reference_...``, those given; report of the job."""

    frames: list[Atoms]
    report: dict[str, Any]


class Progress:
    """How far a study is, and how long the rest will take.

    The declared seconds of the steps are scaled by what the steps computed so far have taken; steps from the cache
    count as nothing.
    """

    def __init__(self, plan: Sequence[Step], clock: Callable[[], float] = time.monotonic) -> None:
        self.plan, self.clock = list(plan), clock
        self.done = 0
        self.declared = self.taken = 0.0
        self._began = clock()

    def begin(self, label: str) -> str:
        """A line about the step that starts.

        :raises RuntimeError: the plan has another step here
        """
        if self.done >= len(self.plan) or self.plan[self.done].label != label:
            planned = self.plan[self.done].label if self.done < len(self.plan) else "the end"
            raise RuntimeError(f"step {self.done + 1} is {label!r}, but the plan has {planned!r}")
        self._began = self.clock()
        return f"[{self.done + 1}/{len(self.plan)}] {label} (about {duration(self.left())} left)"

    def end(self, cached: bool) -> None:
        """The step has ended."""
        if not cached:
            self.declared += self.plan[self.done].seconds
            self.taken += self.clock() - self._began
        self.done += 1

    def left(self) -> float:
        """Seconds until the end."""
        rest = sum(step.seconds for step in self.plan[self.done :])
        return rest * (self.taken / self.declared if self.declared > 0.0 else 1.0)


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Bench:
    """Where a study works.

    :param plan: steps of the study
    :param data: folder with public data sets
    :param find_code: as `aiida_aceal.cli.profile.find_code`
    :param launch: runs a builder and returns the node of the process, ended
    :param say: shows a line
    :param threads: cores of each job
    """

    def __init__(
        self,
        plan: Sequence[Step],
        data: Path | None,
        find_code: Callable[[str | None, str | None, str], Any],
        launch: Callable[[Any], Any],
        say: Callable[[str], None],
        threads: int = 1,
    ) -> None:
        self.progress = Progress(plan)
        self.data, self.threads, self.say = data, threads, say
        self._find_code, self._launch = find_code, launch
        self._sets: dict[int, tuple[Any, Any]] = {}
        self.processes: list[Any] = []

    # --- input -----------------------------------------------------------------------------------------------------

    def read(self, name: str) -> list[Atoms]:
        """Configurations of a public data set (see `sources`)."""
        return sources.read(name, self.data)

    def _set(self, frames: Sequence[Atoms], source: str) -> Any:
        """The node of a list of configurations; the same list gives the same node."""
        from aiida_aceal.data.dataset import ConfigurationsData

        if id(frames) not in self._sets:
            self._sets[id(frames)] = (frames, ConfigurationsData.from_atoms(frames, source=source))
        return self._sets[id(frames)][1]

    def _basis(self, basis: Mapping[str, Any] | Any) -> Any:
        from aiida import orm

        from aiida_aceal.workflows.functions import build_basis

        if isinstance(basis, Fit):
            return basis.node
        return build_basis(orm.Dict(dict(basis)), orm.Int(0)) if isinstance(basis, Mapping) else basis

    # --- processes -------------------------------------------------------------------------------------------------

    def run(self, label: str, builder: Any) -> Any:
        """Run one step; its node.

        :raises click.ClickException: it failed
        """
        self.say(self.progress.begin(label))
        if hasattr(builder.metadata, "label"):
            builder.metadata.label = label[:255]
        node = self._launch(builder)
        self.processes.append(node)
        if not node.is_finished_ok:
            reason = node.exit_message or node.exception or node.process_status or "no reason recorded"
            raise click.ClickException(f"{label}: {node.process_label}<{node.pk}> failed: {reason}")
        self.progress.end(node.base.caching.is_created_from_cache)
        return node

    def _job(self, label: str, entry_point: str, **inputs: Any) -> Any:
        from aiida.plugins import CalculationFactory

        builder = CalculationFactory(entry_point).get_builder()
        builder.code = self._find_code(None, "aceal-worker", "codes.worker")
        for name, value in inputs.items():
            if value is not None:
                setattr(builder, name, value)
        builder.metadata.options = {
            "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": self.threads},
            "withmpi": False,
        }
        return self.run(label, builder)

    def fit(
        self,
        label: str,
        basis: Mapping[str, Any] | Fit,
        frames: Sequence[Atoms],
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        test: Sequence[Atoms] | None = None,
    ) -> Fit:
        """``aceal.fit``: fit a basis, given by its description or as a fitted potential to go on from; ``test`` is only
        evaluated (``report["validation"]``)."""
        node = self._job(
            label, "aceal.fit", potential=self._basis(basis), dataset={"train": self._set(frames, "train")},
            validation=None if test is None else self._set(test, "test"), settings=dict(settings or {}), seed=seed,
        )  # fmt: skip
        out = node.outputs
        ensemble = out.ensemble if "ensemble" in out else None
        return Fit(out.potential.get_potential(), out.potential, out.report.get_dict(), ensemble)

    def active_set(
        self, label: str, fit: Fit, frames: Sequence[Atoms], settings: Mapping[str, Any] | None = None, seed: int = 0
    ) -> Any:
        """``aceal.active_set``: the active set of these configurations; its node."""
        node = self._job(
            label, "aceal.active_set", potential=fit.node, dataset={"train": self._set(frames, "train")},
            settings=dict(settings or {}), seed=seed,
        )  # fmt: skip
        return node.outputs.active_set

    def evaluate(
        self, label: str, fit: Fit, frames: Sequence[Atoms], active_set: Any = None, ensemble: Any = None
    ) -> Evaluated:
        """``aceal.evaluate``: energies, forces, gamma (array ``gamma``), ensemble deviations (info ``dE``, ``dF``)."""
        node = self._job(
            label, "aceal.evaluate", potential=fit.node, configurations=self._set(frames, "graded"),
            active_set=active_set, ensemble=ensemble, settings={"store": True},
        )  # fmt: skip
        return Evaluated(node.outputs.evaluated.to_atoms(), node.outputs.report.get_dict())

    def label(self, label: str, frames: Sequence[Atoms], settings: Mapping[str, Any]) -> list[Atoms]:
        """``aceal.label.ase``: copies with the labels of an ASE calculator; all must succeed.

        :raises click.ClickException: a configuration could not be labelled
        """
        node = self._job(
            label, "aceal.label.ase", configurations=self._set(frames, "to label"), settings=dict(settings)
        )  # fmt: skip
        return node.outputs.labelled.to_atoms()

    def learning_curve(
        self,
        label: str,
        basis: Mapping[str, Any],
        pool: Sequence[Atoms],
        test: Sequence[Atoms],
        settings: Mapping[str, Any],
        seed: int,
    ) -> dict[str, Any]:
        """``aceal.learning_curve``: the curve of one strategy and seed."""
        node = self._job(
            label, "aceal.learning_curve", potential=self._basis(basis), pool=self._set(pool, "pool"),
            test=self._set(test, "test"), settings=dict(settings), seed=seed,
        )  # fmt: skip
        return node.outputs.report.get_dict()

    def compare_uncertainty(
        self,
        label: str,
        basis: Mapping[str, Any],
        train: Sequence[Atoms],
        test: Sequence[Atoms],
        settings: Mapping[str, Any],
        seed: int,
    ) -> dict[str, Any]:
        """``aceal.compare_uncertainty``: active sets and an ensemble side by side; its report."""
        node = self._job(
            label, "aceal.compare_uncertainty", potential=self._basis(basis), train=self._set(train, "train"),
            test=self._set(test, "test"), settings=dict(settings), seed=seed,
        )  # fmt: skip
        return node.outputs.report.get_dict()

    def select(
        self,
        label: str,
        fit: Fit,
        active_set: Any,
        candidates: Sequence[Atoms],
        settings: Mapping[str, Any],
        seed: int,
        reference: Sequence[Atoms] | None = None,
    ) -> list[Atoms]:
        """``aceal.select``: the chosen of the candidates, with their labels; ``reference``: the training set, which
        `viability` compares with."""
        node = self._job(
            label, "aceal.select", potential=fit.node, active_set=active_set,
            configurations=self._set(candidates, "pool"), settings=dict(settings), seed=seed,
            reference=None if reference is None else {"train": self._set(reference, "train")},
        )  # fmt: skip
        return node.outputs.selected.to_atoms() if "selected" in node.outputs else []

    def sample(self, label: str, starts: Sequence[Atoms], settings: Mapping[str, Any], seed: int) -> list[Atoms]:
        """``aceal.sample``: labelled snapshots of dynamics with an ASE calculator."""
        node = self._job(
            label, "aceal.sample", configurations=self._set(starts, "start"), settings=dict(settings), seed=seed
        )  # fmt: skip
        return node.outputs.labelled.to_atoms()
