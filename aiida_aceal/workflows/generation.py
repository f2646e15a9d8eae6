"""``aceal.generation``: explore, select, label, extend, fit, active set, validate."""

from __future__ import annotations

import math
from typing import Any

from aiida import orm
from aiida.common.timezone import now
from aiida.engine import ExitCode, ProcessSpec, if_
from aiida.plugins import CalculationFactory

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, ports, summary
from aiida_aceal.workflows.base import AceWorkChain, StepError, output, why
from aiida_aceal.workflows.calibration import has_pairs
from aiida_aceal.workflows.generation_ports import generation_ports
from aiida_aceal.workflows.large import LargeCandidates
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs

#: exit status of the CalcJobs of aceal-worker for numbers that are not finite
NOT_FINITE = 305


class GenerationWorkChain(LargeCandidates, AceWorkChain):
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
                if_(cls.has_large_candidates)(cls.extract, cls.inspect_extraction),
                if_(cls.has_candidates)(cls.select, cls.inspect_selection),
            ),
            if_(cls.has_to_label)(cls.label, cls.inspect_labels),
            if_(cls.has_to_learn)(cls.fit, cls.inspect_fit),
            if_(cls.has_new_potential)(cls.validate_potential, cls.inspect_validation),
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
        return ports.check_steps(inputs, explorers_required=inputs.get("active_set") is not None)

    # --- helpers -----------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Number of this generation."""
        return self.inputs.generation.value

    def _settings(self, name: str) -> dict[str, Any]:
        defaults = {"selection": ports.SELECTION, "activeset": ports.ACTIVE_SET, "gate": ports.GATE}
        return ports.with_defaults(self.inputs.get(name), defaults.get(name, ports.LIMITS))

    def _worker(self, entry_point: str, **inputs: Any) -> tuple[Any, dict[str, Any]]:
        cls = CalculationFactory(entry_point)
        return cls, step_inputs(cls, self.inputs.worker, **inputs)

    def _datasets(self) -> dict[str, ConfigurationsData]:
        """All labelled sets, those of the generations before and the new one."""
        sets = dict(self.inputs.get("dataset") or {})
        if self.ctx.labelled is not None:
            sets[f"generation_{self.number:03d}"] = orm.load_node(self.ctx.labelled)
        return sets

    def _validation(self) -> ConfigurationsData:
        return orm.load_node(self.ctx.validation) if self.ctx.validation else self.inputs.validation

    # --- steps -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start values; the context holds numbers and identifiers only."""
        self.ctx.facts = {
            "generation": self.number,
            "n_candidates": 0,
            "n_selected": 0,
            "n_labelled": 0,
            "n_failed_labels": 0,
            "status": "initial" if "active_set" not in self.inputs else "explored",
            "accepted": None,
            "refused": None,
            **{key: self.inputs.window.get_dict().get(key) for key in ("gamma_lo", "gamma_hi", "gamma_stop")},
            "window_reason": self.inputs.window.get_dict().get("reason"),
        }
        self.ctx.labelled = self.ctx.validation = self.ctx.candidates = self.ctx.active_set = None
        self.ctx.quarantine = []
        self.ctx.converged = False
        window = self.ctx.facts
        self.report(
            f"generation {self.number}: potential<{self.inputs.potential.pk}>, {len(self.inputs.get('dataset') or {})} "
            f"labelled sets, window gamma_lo {window['gamma_lo']:g}, gamma_hi {window['gamma_hi']:g} "
            f"({window['window_reason']})"
        )

    def has_to_explore(self) -> bool:
        """Without an active set there is no gamma yet."""
        return "active_set" in self.inputs

    def explore(self) -> None:
        """Start all explorers at once."""
        for index, name in enumerate(sorted(self.inputs.explorers)):
            step = self.inputs.explorers[name]
            cls = step_class(step["entry_point"].value)
            given = step.get("settings") or orm.Dict({})
            settings = self.call_once(
                f"window_{name}", functions.with_window, settings=given, window=self.inputs.window
            )
            inputs = step_inputs(
                cls,
                {key: value for key, value in step.items() if key != "settings"},
                potential=self.inputs.potential,
                active_set=self.inputs.active_set,
                settings=settings,
                seed=orm.Int(derived_seed(self.inputs.seed.value, self.number, 1 + index)),
            )
            self.start_child(f"explore_{name}", cls, inputs, f"generation {self.number}: explore {name}")
        self.report(f"generation {self.number}: exploring with {', '.join(sorted(self.inputs.explorers))}")

    def inspect_exploration(self) -> ExitCode | None:
        """Collect candidates of all explorers; a failed one costs only itself."""
        names = [f"explore_{name}" for name in sorted(self.inputs.explorers)]
        sets, failures = {}, []
        for name in names:
            child = self.ctx[name]
            candidates = output(child, "candidates")
            if candidates is not None:
                sets[name.removeprefix("explore_")] = candidates
            if not child.is_finished_ok:
                failures.append(why(child))
                self.report(f"generation {self.number}: {failures[-1]}")
        if len(failures) == len(names) and not sets:
            return self.exit_codes.ERROR_EXPLORATION_FAILED.format(reason="; ".join(failures))
        numbers = summary.exploration_numbers([self.report_of(name) for name in names])
        if failures:
            numbers["complete"] = False
        stop = self.ctx.facts["gamma_stop"]
        self.ctx.converged = summary.is_converged(numbers, stop)
        if sets and not self.ctx.converged:
            excluded = sorted(set(self.inputs.quarantine.get_list()) if "quarantine" in self.inputs else set())
            merged = self.call_once(
                "merge", functions.merge_candidates, excluded=orm.List([*excluded, *self._known_hashes(sets)]), **sets
            )
            if "candidates" in merged:
                self.ctx.candidates = merged["candidates"].uuid
                self.ctx.facts["n_candidates"] = len(merged["candidates"])
        gamma = numbers.get("max_gamma")
        self.report(
            f"generation {self.number}: explored {numbers.get('md_steps_reached')} of {numbers.get('md_steps_total')} "
            f"steps, max gamma {'unknown' if gamma is None else format(gamma, '.3g')}, "
            f"{self.ctx.facts['n_candidates']} candidates"
        )
        if self.ctx.converged:
            self.ctx.facts["status"] = "converged"
            self.report(
                f"generation {self.number}: every run reached its full length with gamma <= {stop:g}: converged"
            )
        elif self.ctx.candidates is None:
            self.ctx.facts["status"] = "no_candidates"
            self.report(f"generation {self.number}: not converged, but no configuration lies in the window")
        return None

    def _known_hashes(self, sets: dict[str, ConfigurationsData]) -> list[str]:
        """Candidates that are in the training set already."""
        known = {digest for node in (self.inputs.get("dataset") or {}).values() for digest in node.hashes}
        return sorted(known.intersection(digest for node in sets.values() for digest in node.hashes))

    def has_candidates(self) -> bool:
        """Whether there is anything to select from."""
        return self.ctx.candidates is not None

    def select(self) -> None:
        """Start the selection."""
        settings = self._settings("selection")
        cls, inputs = self._worker(
            "aceal.select",
            potential=self.inputs.potential,
            active_set=self.inputs.active_set,
            configurations=orm.load_node(self.ctx.candidates),
            settings=orm.Dict(settings),
            seed=orm.Int(derived_seed(self.inputs.seed.value, self.number, 0)),
        )
        self.start_child("select", cls, inputs, f"generation {self.number}: select")

    def inspect_selection(self) -> ExitCode | None:
        """Take what was chosen."""
        child = self.ctx["select"]
        if not child.is_finished_ok:
            return self.exit_codes.ERROR_SELECTION_FAILED.format(reason=why(child))
        selected = output(child, "selected")
        self.ctx.facts["n_selected"] = 0 if selected is None else len(selected)
        self.report(
            f"generation {self.number}: {self.ctx.facts['n_selected']} of {self.ctx.facts['n_candidates']} candidates "
            f"selected by {self._settings('selection')['strategy']}"
        )
        if selected is None:
            self.ctx.facts["status"] = "no_candidates"
        return None

    def _to_label(self) -> dict[str, ConfigurationsData]:
        wanted = {"initial": self.inputs.get("initial")} if not self.has_to_explore() else {}
        if self.ctx.get("select") is not None:
            wanted["label"] = output(self.ctx["select"], "selected")
        wanted["validation"] = self.inputs.validation
        return {key: node for key, node in wanted.items() if node is not None}

    def has_to_label(self) -> bool:
        """Whether there is anything without labels."""
        return any(not ports.is_labelled(node) for node in self._to_label().values()) or "label" in self._to_label()

    def label(self) -> None:
        """Start the labelling of what is new, and of the hold-out set if need be."""
        cls = step_class(self.inputs.labeller["entry_point"].value)
        for name, node in self._to_label().items():
            if name != "label" and ports.is_labelled(node):
                continue
            inputs = step_inputs(cls, self.inputs.labeller, configurations=node)
            self.start_child(f"label_{name}", cls, inputs, f"generation {self.number}: label {name}")
            self.report(f"generation {self.number}: labelling {len(node)} configurations ({name})")

    def inspect_labels(self) -> ExitCode | None:
        """Take what was labelled; failures are put in quarantine and counted."""
        total = failed = 0
        seconds = {"wall_seconds": 0.0, "core_seconds": 0.0}
        for name, node in self._to_label().items():
            child = self.ctx.get(f"label_{name}")
            if child is None:
                continue
            labelled = output(child, "labelled")
            report = self.report_of(f"label_{name}")
            if labelled is None:
                reasons = [str(item.get("reason")) for item in report.get("failures", [])[:1]]
                return self.exit_codes.ERROR_LABELLING_FAILED.format(reason="; ".join([why(child), *reasons]))
            missing = len(node) - len(labelled)
            total, failed = total + len(node), failed + missing
            for item in report.get("failures", []):
                self.ctx.quarantine.append({"hash": item.get("hash"), "reason": str(item.get("reason"))[:500]})
                self.report(f"generation {self.number}: label failed, quarantined: {self.ctx.quarantine[-1]}")
            for key in seconds:
                seconds[key] += float(report.get(key) or 0.0)
            if name == "validation":
                self.ctx.validation = labelled.uuid
                self.ctx.facts["n_validation"] = len(labelled)
            else:
                self.ctx.labelled = labelled.uuid
                self.ctx.facts["n_labelled"] = len(labelled)
        self.ctx.facts.update({"n_failed_labels": failed, **{f"label_{key}": value for key, value in seconds.items()}})
        tolerated = self._settings("limits")["max_failed_labels"]
        self.report(
            f"generation {self.number}: {total - failed} of {total} configurations labelled in "
            f"{seconds['core_seconds']:.1f} core seconds"
        )
        if failed > tolerated * total:
            return self.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.format(
                failed=failed, total=total, tolerated=f"{100 * tolerated:g} %"
            )
        return None

    def has_to_learn(self) -> bool:
        """New labels, or labelled sets without an active set yet."""
        if not self.has_to_explore() and self.ctx.labelled is None and "initial" in self.inputs:
            self.ctx.labelled = self.inputs.initial.uuid  # came with labels
        return self.ctx.labelled is not None or not self.has_to_explore()

    def fit(self) -> None:
        """Start the fit on all sets, and the errors of the last potential on the new one."""
        cls = step_class(self.inputs.fitter["entry_point"].value)
        datasets = self._datasets()
        n_structures = sum(len(node) for node in datasets.values())
        n_atoms = sum(int(node.base.attributes.get("n_atoms")) for node in datasets.values())
        self.ctx.facts.update({"n_training": n_structures, "n_training_atoms": n_atoms})
        inputs = step_inputs(
            cls,
            self.inputs.fitter,
            potential=self.inputs.potential,
            dataset=datasets,
            validation=self._validation(),
            seed=orm.Int(derived_seed(self.inputs.seed.value, self.number, 1000)),
        )
        self.start_child("fit", cls, inputs, f"generation {self.number}: fit")
        known = self.inputs.get("active_set")
        if self.inputs.potential.is_fitted:
            if self.ctx.labelled is not None:
                self._evaluate("before", orm.load_node(self.ctx.labelled), self.inputs.potential, known)
            if "validation_report" not in self.inputs:
                self._evaluate("holdout_before", self._validation(), self.inputs.potential, known)
        self.report(f"generation {self.number}: fitting {n_structures} structures, {n_atoms} atoms")

    def _evaluate(
        self,
        label: str,
        configurations: ConfigurationsData,
        potential: AcePotentialData,
        active_set: ActiveSetData | None = None,
    ) -> None:
        """Start the evaluation; with an active set its report has grades for the calibration."""
        given = {"potential": potential, "configurations": configurations, "active_set": active_set}
        cls, inputs = self._worker("aceal.evaluate", **given)
        self.start_child(label, cls, inputs, f"generation {self.number}: errors {label}")

    def inspect_fit(self) -> ExitCode | None:
        """Refuse coefficients that are not finite, fail on anything else that went wrong."""
        child = self.ctx["fit"]
        if output(child, "potential") is not None and child.is_finished_ok:
            return None
        if child.exit_status == NOT_FINITE and self.inputs.potential.is_fitted:
            self._refuse(f"the fit gave coefficients that are not finite ({why(child)})")
            return None
        return self.exit_codes.ERROR_FIT_FAILED.format(reason=why(child))

    def _refuse(self, reason: str) -> None:
        self.ctx.facts.update({"accepted": False, "refused": reason, "status": "refused"})
        self.report(
            f"generation {self.number}: new potential REFUSED, potential<{self.inputs.potential.pk}> stays: {reason}"
        )

    def has_new_potential(self) -> bool:
        """Whether the fit gave a potential to validate."""
        return self.ctx.get("fit") is not None and self.ctx.facts["accepted"] is None

    def validate_potential(self) -> ExitCode | None:
        """Start the active set and the errors of the new potential."""
        potential = output(self.ctx["fit"], "potential")
        try:
            self._start_active_set(potential)
        except StepError as error:
            return self.exit_codes.ERROR_ACTIVE_SET_FAILED.format(reason=str(error))
        # one that a job still makes comes too late for the grades of the hold-out set
        active_set = orm.load_node(self.ctx.active_set) if self.ctx.active_set else None
        self._evaluate("holdout", self._validation(), potential, active_set)
        if self.ctx.labelled is not None:
            self._evaluate("after", orm.load_node(self.ctx.labelled), potential)
        return None

    def _start_active_set(self, potential: AcePotentialData) -> None:
        settings = self._settings("activeset")
        limit = float(settings.pop("calcfunction_below_mb"))
        datasets = self._datasets()
        n_atoms = self.ctx.facts["n_training_atoms"]
        size = 8e-6 * n_atoms * max(potential.n_functions[el] * potential.n_densities[el] for el in potential.elements)
        if size < limit:
            result = self.call_once(
                "maxvol",
                CalculationFactory("aceal.maxvol"),
                potential=potential,
                settings=orm.Dict(settings),
                **datasets,
            )
            self.ctx.active_set = result.uuid
            return
        previous = self.inputs.get("active_set")
        if previous is not None and (previous.kind != settings.get("kind") or previous.check_potential(potential)):
            previous = None  # another basis, or a full set with the coefficients of before: build anew
        if previous is not None and (previous.local or settings.get("clusters") or settings.get("group_key")):
            previous = None  # local active sets are always built anew
        cls, inputs = self._worker(
            "aceal.active_set",
            potential=potential,
            dataset=datasets,
            previous=previous,
            settings=orm.Dict(settings),
        )
        self.start_child("active_set_job", cls, inputs, f"generation {self.number}: active set")

    def inspect_validation(self) -> ExitCode | None:
        """The gate: is the new potential finite and no worse than the last on the hold-out set?"""
        for name in ("holdout", "after"):
            child = self.ctx.get(name)
            if child is not None and not child.is_finished_ok:
                if child.exit_status == NOT_FINITE and self.inputs.potential.is_fitted:
                    self._refuse(f"its energies or forces are not finite ({why(child)})")
                    return None
                return self.exit_codes.ERROR_VALIDATION_FAILED.format(reason=why(child))
        job = self.ctx.get("active_set_job")
        if job is not None:
            active_set = output(job, "active_set")
            if active_set is None or not job.is_finished_ok:
                return self.exit_codes.ERROR_ACTIVE_SET_FAILED.format(reason=why(job))
            self.ctx.active_set = active_set.uuid
        new, old = self.report_of("holdout"), self._report_before()
        gate = self._settings("gate")
        reason = None
        values = [new.get(key, {}).get("rmse") for key in ("energy", "forces")]
        if any(value is None or not math.isfinite(value) for value in values):
            reason = "its hold-out errors are not finite"
        elif gate["enabled"] and old and self.inputs.potential.is_fitted:
            reason = summary.is_worse(new, old, gate["tolerance"])
        if reason:
            if not self.inputs.potential.is_fitted:
                return self.exit_codes.ERROR_NO_POTENTIAL.format(reason=reason)
            self._refuse(reason)
            return None
        self.ctx.facts["accepted"] = True
        if self.ctx.facts["status"] == "explored":
            self.ctx.facts["status"] = "learned"
        ranks = orm.load_node(self.ctx.active_set).rank
        self.report(
            f"generation {self.number}: accepted potential<{output(self.ctx['fit'], 'potential').pk}>: hold-out RMSE "
            f"{1000 * values[0]:.3g} meV/atom, {1000 * values[1]:.3g} meV/A; rank of the active set {ranks}"
        )
        return None

    def _report_before(self) -> dict[str, Any]:
        if "validation_report" in self.inputs:
            return self.inputs.validation_report.get_dict()
        return self.report_of("holdout_before") if self.ctx.get("holdout_before") is not None else {}

    def conclude(self) -> None:
        """Attach what is in force now, and the numbers."""
        accepted = bool(self.ctx.facts["accepted"])
        new = output(self.ctx["fit"], "potential") if self.ctx.get("fit") is not None else None
        self.out("potential", new if accepted else self.inputs.potential)
        if accepted:
            self.out("active_set", orm.load_node(self.ctx.active_set))
        elif "active_set" in self.inputs:
            # of the data the kept potential has learnt: gamma must not call known what it was not fitted to
            self.out("active_set", self.inputs.active_set)
        if new is not None and not accepted:
            self.out("refused_potential", new)
        if self.ctx.labelled is not None:
            self.out("labelled", orm.load_node(self.ctx.labelled))
        self.out("validation", self._validation())
        if self.ctx.candidates is not None:
            self.out("candidates", orm.load_node(self.ctx.candidates))
        selected = output(self.ctx.get("select"), "selected")
        if selected is not None:
            self.out("selected", selected)
        self.out("window", self.inputs.window)
        holdout = output(self.ctx.get("holdout"), "report") if accepted else None
        holdout = holdout or self.inputs.get("validation_report") or output(self.ctx.get("holdout_before"), "report")
        if holdout is not None:
            self.out("validation_report", holdout)
        self.out("generation_report", self._row(holdout))

    def _calibration(self) -> orm.Dict | None:
        """What the potential in force before knew of its errors, from all that it had not learnt."""
        if self.ctx.get("before") is None:
            return None
        reports = {"before": output(self.ctx["before"], "report"), "holdout": self.inputs.get("validation_report")}
        reports["holdout"] = reports["holdout"] or output(self.ctx.get("holdout_before"), "report")
        reports = {key: node for key, node in reports.items() if node is not None}
        if not has_pairs([node.get_dict() for node in reports.values()]):
            return None
        result = self.call_once("calibration", functions.calibrate_gamma, **reports)
        self.out("calibration", result)
        found = result["proposal"]
        self.report(
            f"generation {self.number}: calibration proposes gamma_lo {found['gamma_lo']:.3g}, gamma_hi "
            f"{found['gamma_hi']:.3g}; expected force error where gamma <= 1: {1000 * found['base_error']:.3g} meV/A"
        )
        return result

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
