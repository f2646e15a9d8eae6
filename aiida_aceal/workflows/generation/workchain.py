"""``aceal.generation``: explore, select, label, extend, fit, active set, validate."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.timezone import now
from aiida.engine import ExitCode, ProcessSpec, if_

from aiida_aceal.workflows import functions, ports
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.generation.gather import GatheringSteps
from aiida_aceal.workflows.generation.learn import LearningSteps
from aiida_aceal.workflows.generation.ports import generation_ports
from aiida_aceal.workflows.sections import filled


class GenerationWorkChain(GatheringSteps, LearningSteps):
    """One generation. With ``initial`` there is nothing to explore yet: label, fit, build the active set, validate."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        generation_ports(spec)
        spec.inputs.validator = cls.validate_inputs
        spec.outline(
            cls.prepare,
            if_(cls.has_to_explore)(
                cls.explore,
                cls.inspect_exploration,
                if_(cls.has_to_score)(cls.score, cls.inspect_scores),
                if_(cls.has_large_candidates)(cls.extract, cls.inspect_extraction),
                if_(cls.has_candidates)(cls.select, cls.inspect_selection),
            ),
            if_(cls.has_to_label)(cls.label, cls.inspect_labels),
            if_(cls.has_to_learn)(cls.fit, cls.inspect_fit),
            if_(cls.has_new_potential)(cls.validate_potential, cls.inspect_validation),
            if_(cls.has_to_grade_the_old)(cls.grade_the_old, cls.inspect_grading),
            cls.conclude,
        )

    @classmethod
    def validate_inputs(cls, inputs: Any, _: Any) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        if inputs.get("active_set") is None and not inputs.get("dataset") and inputs.get("initial") is None:
            return "give `initial` (configurations to label) or `dataset` (labelled ones): there is nothing to fit"
        if inputs.get("active_set") is not None and inputs.get("potential") is not None:
            problem = inputs["active_set"].check_potential(inputs["potential"])
            if problem:
                return f"active_set: {problem}"
        selection = filled("selection", inputs["selection"].get_dict() if inputs.get("selection") is not None else {})
        reference = inputs.get("dataset") or (selection.get("options") or {}).get("reference")
        if inputs.get("active_set") is not None and selection["strategy"] == "viability" and not reference:
            return "selection: viability judges candidates by the training set; give `dataset`"
        ensemble = inputs.get("ensemble_data")
        if ensemble is not None:
            problem = ensemble.check_potential(inputs["potential"]) if inputs.get("potential") is not None else None
            if not problem and not ensemble.thresholds and not ensemble.threshold_notes:
                problem = "it has no thresholds; make it with aceal.fit, or set them (Ensemble.set_thresholds)"
            if problem:
                return f"ensemble_data: {problem}"
        return ports.check_steps(inputs, explorers_required=inputs.get("active_set") is not None)

    def prepare(self) -> ExitCode | None:
        """Start values; the context holds numbers and identifiers only."""
        self.ctx.facts = {
            "generation": self.number,
            "n_candidates": 0,
            "n_selected": 0,
            "n_labelled": 0,
            "n_failed_labels": 0,
            "status": "initial" if "active_set" not in self.inputs else "explored",
            "accepted": None,
            "is_best": False,
            "refused": None,
            **{key: self.inputs.window.get_dict().get(key) for key in ("gamma_lo", "gamma_hi", "gamma_stop")},
            "window_reason": self.inputs.window.get_dict().get("reason"),
        }
        self.ctx.labelled = self.ctx.validation = self.ctx.candidates = self.ctx.active_set = None
        self.ctx.quarantine = []
        self.ctx.old_active_set = None  # of the given potential, if it had none
        self.ctx.converged = False
        window = self.ctx.facts
        self.report(
            f"generation {self.number}: potential<{self.inputs.potential.pk}>, {len(self.inputs.get('dataset') or {})} "
            f"labelled sets, window gamma_lo {window['gamma_lo']:g}, gamma_hi {window['gamma_hi']:g} "
            f"({window['window_reason']})"
        )
        reason = self.why_the_ensemble_cannot_decide()
        return self.exit_codes.ERROR_NO_ENSEMBLE_THRESHOLD.format(reason=reason) if reason else None

    def conclude(self) -> None:
        """Attach what is in force now, and the numbers."""
        accepted = bool(self.ctx.facts["accepted"])
        new = output(self.ctx["fit"], "potential") if self.ctx.get("fit") is not None else None
        old_set = self.ctx.old_active_set and orm.load_node(self.ctx.old_active_set)
        # of the data the kept potential has learnt: gamma must not call known what it was not fitted to
        before = {
            "potential": self.inputs.potential,
            "active_set": old_set or self.inputs.get("active_set"),
            "ensemble": self.inputs.get("ensemble_data"),
            "validation_report": self.inputs.get("validation_report")
            or output(self.ctx.get("holdout_before"), "report"),
        }
        now = before
        if accepted:
            now = {
                "potential": new,
                "active_set": orm.load_node(self.ctx.active_set),
                "ensemble": output(self.ctx.fit, "ensemble") or self.inputs.get("ensemble_data"),
                "validation_report": output(self.ctx.holdout, "report"),
            }
        elif new is not None:
            self.out("refused_potential", new)
        best = dict(self.inputs.get("best") or before)
        if self.ctx.facts["is_best"]:
            best = {**now, "ensemble": output(self.ctx.fit, "ensemble")}  # an older one belongs to another potential
        for prefix, nodes in (("", now), ("best.", best)):
            for name, node in nodes.items():
                if node is not None:
                    self.out(prefix + name, node)
        if self.ctx.labelled is not None:
            self.out("labelled", orm.load_node(self.ctx.labelled))
        self.out("validation", self._validation())
        if self.ctx.candidates is not None:
            self.out("candidates", orm.load_node(self.ctx.candidates))
        selected = output(self.ctx.get("select"), "selected")
        if selected is not None:
            self.out("selected", selected)
        self.out("window", self.inputs.window)
        self.out("generation_report", self._row(now["validation_report"]))

    def _row(self, holdout: orm.Dict | None) -> orm.Dict:
        datasets = self._datasets()
        self.ctx.facts.update(
            {
                "quarantine": self.ctx.quarantine,
                "wall_seconds": round((now() - self.node.ctime).total_seconds(), 2),
                "n_training": sum(len(node) for node in datasets.values()),
                "n_training_atoms": sum(int(node.base.attributes.get("n_atoms")) for node in datasets.values()),
                "n_jobs": len([n for n in self.node.called_descendants if isinstance(n, orm.CalcJobNode)]),
                "n_jobs_from_cache": sum(
                    1
                    for node in self.node.called_descendants
                    if isinstance(node, orm.CalcJobNode) and node.base.caching.is_created_from_cache
                ),
            }
        )
        reports = {
            name: output(self.ctx[name], "report")
            for name in [*(f"explore_{key}" for key in self.inputs.get("explorers") or {}), "before", "after"]
            if self.ctx.get(name) is not None
        }
        reports["holdout"] = holdout
        reports["calibration"] = self._calibration()
        return self.call_once(
            "summary",
            functions.summarise_generation,
            facts=orm.Dict(self.ctx.facts),
            **{key: node for key, node in reports.items() if node is not None},
        )
