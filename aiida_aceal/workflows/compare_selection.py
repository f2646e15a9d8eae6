"""``aceal.compare.selection``: learning curves of several selection strategies and seeds, one CalcJob for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, calcfunction, while_
from aiida.plugins import CalculationFactory

from aiida_aceal.calculations.worker_base import check_distinct, check_elements, check_labels
from aiida_aceal.common.errors import AceError
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.jobs.learning_curve import JOB as CURVE
from aiida_aceal.workflows.base import AceWorkChain, StepError, why

BASELINE = "random"
#: settings of the comparison itself; all others are those of every curve
OWN = ("baseline", "targets", "level")
JOB = "aceal.learning_curve"


def job_label(strategy: str, seed: int) -> str:
    """Name of one curve in the graph: letters, digits and single underscores."""
    return re.sub(r"[^0-9A-Za-z]+", "_", strategy).strip("_") + f"_seed_{seed}"


def curve_settings(settings: Mapping[str, Any], strategy: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one curve: those that all share, and the strategy with its options."""
    shared = {key: value for key, value in settings.items() if key not in OWN}
    return {**shared, **strategy}


def check_comparison(inputs: Mapping[str, Any]) -> str | None:
    """First thing that is wrong with ``settings``, ``strategies`` and ``seeds``, or ``None``."""
    from aiida_aceal.selection import load_strategy
    from aiida_aceal.selection.compare import CurveSettings

    settings = inputs["settings"].get_dict() if inputs.get("settings") is not None else {}
    strategies = inputs["strategies"].get_dict() if inputs.get("strategies") is not None else {}
    seeds = inputs["seeds"].get_list() if inputs.get("seeds") is not None else []
    for key in ("strategy", "options", "seed"):
        if key in settings:
            return f"settings: '{key}' belongs to `strategies` or `seeds`"
    baseline = settings.get("baseline", BASELINE)
    if baseline not in strategies:
        return f"strategies: the baseline '{baseline}' is not among them"
    labels: dict[str, str] = {}
    for name, strategy in strategies.items():
        if not isinstance(strategy, Mapping) or set(strategy) - {"strategy", "options"} or "strategy" not in strategy:
            return f"strategies.{name}: give a mapping with `strategy` and, if needed, `options`"
        label = job_label(name, 0)
        if label in labels or not label[0].isalpha():
            return (
                f"strategies: '{name}' is not a usable name, or is too similar to '{labels.get(label, '')}'; rename it"
            )
        labels[label] = name
        try:
            load_strategy(strategy["strategy"])
            CurveSettings.read(curve_settings(settings, strategy))
        except AceError as error:
            return f"strategies.{name}: {error}"
    if not seeds or any(not isinstance(s, int) or isinstance(s, bool) or s < 0 for s in seeds):
        return f"seeds: give non-negative integers, found {seeds}"
    if len(set(seeds)) != len(seeds):
        return f"seeds: each may occur only once, found {seeds}"
    return None


@calcfunction
def summarise_selection(facts: orm.Dict, **curves: orm.Dict) -> orm.Dict:
    """Compare the curves; ``facts``: ``jobs`` (label of the job -> strategy), ``baseline``, ``targets``, ``level``."""
    from aiida_aceal.selection.summary import summarise

    given = facts.get_dict()
    grouped: dict[str, list[dict[str, Any]]] = {name: [] for name in given["order"]}
    for label, strategy in given["jobs"].items():
        grouped[strategy].append(curves[label].get_dict())
    return orm.Dict(summarise(grouped, given["baseline"], given["targets"], given["level"]))


#: ports of the labelled sets
SETS = ("pool", "test")


def check_sets(inputs: Any) -> str | None:
    """What every one of the jobs would refuse: foreign elements, missing labels, configurations in both sets."""
    return (
        check_elements(inputs, SETS)
        or check_labels(inputs, "energy", "forces", names=SETS)
        or check_distinct(inputs, *SETS)
    )


def curve_of(process: orm.ProcessNode | None) -> orm.Dict | None:
    """The curve of a finished job."""
    if process is None or not process.is_finished_ok or "report" not in process.outputs:
        return None
    return process.outputs.report


class CompareSelectionWorkChain(AceWorkChain):
    """All strategies from the same starts to the same sizes, refitted each time, tested on a fixed set.

    One CalcJob ``aceal.learning_curve`` for each (strategy, seed), ``max_concurrent`` at a time. With AiiDA's caching,
    a strategy or seed that is added later runs alone: the curves of the others are taken over.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="Code of `aceal-worker`.")
        spec.input("potential", valid_type=AcePotentialData, help="The basis of every fit.")
        for name in SETS:
            spec.input(name, valid_type=ConfigurationsData, help=CURVE.input(name).help)
        spec.input(
            "strategies",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            help="Name -> {strategy: entry point of aiida_aceal.strategies, options: its arguments}.",
        )
        spec.input(
            "seeds",
            valid_type=orm.List,
            serializer=orm.to_aiida_type,
            help="One curve for each seed; at least 3 seeds.",
        )
        spec.input(
            "settings",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Dict({}),
            help="Of every curve (`sizes`, `unit`, `fit`, ...: aiida_aceal.selection.compare.CurveSettings), and "
            "`baseline` (random), `targets` (metric -> errors for which the number of labels needed is "
            "reported), `level` (0.95).",
        )
        spec.input(
            "max_concurrent",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Int(2),
            validator=lambda node, _: "must be at least 1" if node is not None and node.value < 1 else None,
            help="Number of jobs that run at the same time.",
        )
        spec.input(
            "options", valid_type=orm.Dict, serializer=orm.to_aiida_type, required=False, help="metadata.options."
        )
        spec.inputs.validator = lambda inputs, _: check_comparison(inputs) or check_sets(inputs)
        spec.outline(cls.prepare, while_(cls.has_jobs)(cls.start_jobs, cls.inspect_jobs), cls.summarise)
        spec.output("summary", valid_type=orm.Dict, required=False, help="Result of selection.summary.summarise.")
        spec.output_namespace("curves", valid_type=orm.Dict, dynamic=True, help="Every curve.")
        spec.exit_code(401, "ERROR_CURVES_FAILED", message="{failed} of {total} curves failed: {reason}")
        spec.exit_code(402, "ERROR_NO_SUMMARY", message="The curves cannot be compared: {reason}")

    def prepare(self) -> None:
        """List the curves, seed by seed, so that a comparison that is stopped early holds all strategies."""
        names = list(self.inputs.strategies.get_dict())
        self.ctx.jobs = [[name, seed] for seed in self.inputs.seeds.get_list() for name in names]
        self.ctx.next = 0
        self.ctx.failed = []
        self.report(f"{len(self.ctx.jobs)} curves: {len(names)} strategies, {len(self.inputs.seeds.get_list())} seeds")

    def has_jobs(self) -> bool:
        """Whether some have not run yet."""
        return self.ctx.next < len(self.ctx.jobs)

    def _batch(self) -> list[list[Any]]:
        return self.ctx.jobs[self.ctx.next : self.ctx.next + self.inputs.max_concurrent.value]

    def start_jobs(self) -> None:
        """Start the next few."""
        settings, strategies = self.inputs.settings.get_dict(), self.inputs.strategies.get_dict()
        options = self.inputs.options.get_dict() if "options" in self.inputs else {}
        for name, seed in self._batch():
            inputs = {
                "code": self.inputs.code,
                "potential": self.inputs.potential,
                "pool": self.inputs.pool,
                "test": self.inputs.test,
                "settings": orm.Dict(curve_settings(settings, strategies[name])),
                "seed": orm.Int(seed),
                "metadata": {"options": options},
            }
            self.start_child(job_label(name, seed), CalculationFactory(JOB), inputs, f"{name}, seed {seed}")

    def inspect_jobs(self) -> None:
        """Say how they ended."""
        for name, seed in self._batch():
            child = self.ctx[job_label(name, seed)]
            curve = curve_of(child)
            if curve is None:
                self.ctx.failed = [*self.ctx.failed, [name, seed, why(child)]]
                self.report(f"{name}, seed {seed}: {why(child)}")
                continue
            first, last = curve["points"][0], curve["points"][-1]
            cached = " (from the cache)" if child.base.caching.is_created_from_cache else ""
            self.report(
                f"{name}, seed {seed}: {first['n_structures']} to {last['n_structures']} structures, force RMSE "
                f"{1000 * first['forces_rmse']:.3g} to {1000 * last['forces_rmse']:.3g} meV/A, largest "
                f"{1000 * first['forces_max']:.3g} to {1000 * last['forces_max']:.3g} meV/A{cached}"
            )
        self.ctx.next += len(self._batch())

    def summarise(self) -> ExitCode | None:
        """Compare what there is: a strategy with a failed curve is left out."""
        settings = self.inputs.settings.get_dict()
        broken = {name for name, _, _ in self.ctx.failed}
        order = [name for name in self.inputs.strategies.get_dict() if name not in broken]
        curves, jobs = {}, {}
        for name, seed in self.ctx.jobs:
            curve = curve_of(self.ctx[job_label(name, seed)])
            if curve is None:
                continue
            self.out(f"curves.{job_label(name, seed)}", curve)
            if name in order:
                curves[job_label(name, seed)] = curve
                jobs[job_label(name, seed)] = name
        baseline = settings.get("baseline", BASELINE)
        if baseline in order:
            facts = {
                "jobs": jobs,
                "order": order,
                "baseline": baseline,
                "targets": settings.get("targets") or {},
                "level": settings.get("level", 0.95),
            }
            try:
                self.out("summary", self.call_once("summary", summarise_selection, facts=orm.Dict(facts), **curves))
            except StepError as error:
                return self.exit_codes.ERROR_NO_SUMMARY.format(reason=str(error))
        if self.ctx.failed:
            return self.exit_codes.ERROR_CURVES_FAILED.format(
                failed=len(self.ctx.failed), total=len(self.ctx.jobs), reason=self.ctx.failed[0][2]
            )
        return None
