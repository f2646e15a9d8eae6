"""``aceal.generation``: explore, select, label, extend, fit, active set, validate.

The WorkChain hands each step what it takes, of the inputs and of what the steps before have found; what a step does is
in the module of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, if_

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows import ports
from aiida_aceal.workflows.generation import (
    active_set,
    conclude,
    cut,
    explore,
    fit,
    gate,
    label,
    properties,
    score,
    screen,
    select,
    validate,
)
from aiida_aceal.workflows.generation.outcome import Failure, Outcome, report_of, training_size
from aiida_aceal.workflows.generation.ports import check_inputs, generation_ports
from aiida_aceal.workflows.generation.running import StepRunner
from aiida_aceal.workflows.generation.state import first_state


class GenerationWorkChain(StepRunner):
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
            if_(cls.has_bounds)(cls.compute_properties, cls.inspect_properties),
            if_(cls.has_to_grade_the_old)(cls.grade_the_old, cls.inspect_grading),
            cls.conclude,
        )

    @classmethod
    def validate_inputs(cls, inputs: Any, _: Any) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        return check_inputs(inputs)

    # --- what several steps take -------------------------------------------------------------------------------

    def _datasets(self) -> dict[str, ConfigurationsData]:
        """All labelled sets, those of the generations before and the new one."""
        new = self.so_far.node("labelled")
        return {**self.given.datasets, **({f"generation_{self.given.number:03d}": new} if new is not None else {})}

    def _validation(self) -> ConfigurationsData:
        return self.so_far.node("validation") or self.inputs.validation

    def _children(self, names: Iterable[str], label_of: Callable[[str], str] = str) -> dict[str, orm.ProcessNode]:
        """Name -> child, of those that were launched."""
        found = {name: self.launched(label_of(name)) for name in names}
        return {name: child for name, child in found.items() if child is not None}

    def _explorers(self) -> dict[str, orm.ProcessNode]:
        return self._children(self.given.explorers, explore.label_of)

    def _to_label(self) -> dict[str, ConfigurationsData]:
        initial = None if self.has_to_explore() else self.inputs.get("initial")
        selected = self.output_of("select", "selected")
        return label.to_label(initial=initial, selected=selected, validation=self.inputs.validation)

    def _errors_before(self) -> orm.Dict | None:
        """Validation errors of the potential in force before."""
        return self.inputs.get("validation_report") or self.output_of("holdout_before", "report")

    # --- outline -----------------------------------------------------------------------------------------------

    def prepare(self) -> ExitCode | None:
        """Start values."""
        window = self.inputs.window.get_dict()
        state = first_state(self.given.number, window, explores=self.has_to_explore())
        initial = self.inputs.get("initial")
        if initial is not None and not self.has_to_explore() and ports.is_labelled(initial):
            state = state.changed({}, labelled=initial)
        self.keep_state(state)
        line = (
            f"potential<{self.inputs.potential.pk}>, {len(self.given.datasets)} labelled sets, window gamma_lo "
            f"{window['gamma_lo']:g}, gamma_hi {window['gamma_hi']:g} ({window.get('reason')})"
        )
        reason = score.why_undecided(self.inputs.get("ensemble_data"), self.given.ensemble)
        failure = Failure("ERROR_NO_ENSEMBLE_THRESHOLD", {"reason": reason}) if reason else None
        return self.record_outcome(Outcome(lines=[line], failure=failure))

    def has_to_explore(self) -> bool:
        """Without an active set there is no gamma yet."""
        return "active_set" in self.inputs

    def explore(self) -> None:
        """Start all explorers."""
        started = explore.start(
            explorers=self.inputs.explorers,
            potential=self.inputs.potential,
            active_set=self.inputs.active_set,
            window=self.inputs.window,
            tests=self.given.tests(),
            call=self.call_once,
            **self.given.seeds(),
        )
        self.launch_step(started)

    def inspect_exploration(self) -> ExitCode | None:
        """Take the candidates."""
        found = explore.collect(
            children=self._explorers(),
            gamma_stop=self.so_far.facts["gamma_stop"],
            tests=self.given.tests(),
            call=self.call_once,
            **self.given.known(),
        )
        return self.record_outcome(found, candidates=found.candidates)

    def has_to_score(self) -> bool:
        """Whether there are candidates and an ensemble to score them with."""
        return self.has_candidates() and "ensemble_data" in self.inputs

    def score(self) -> None:
        """Start the scoring of the candidates."""
        given = {"candidates": self.so_far.node("candidates"), "ensemble": self.inputs.ensemble_data}
        self.launch_step(score.start(**given, **self.given.in_force()))

    def inspect_scores(self) -> None:
        """Keep the scores; on request only candidates above the threshold stay."""
        scored = score.collect(
            child=self.launched("score"),
            candidates=self.so_far.node("candidates"),
            settings=self.given.ensemble,
            explorations=[report_of(child) for child in self._explorers().values()],
            call=self.call_once,
        )
        self.record_outcome(scored, candidates=scored.candidates)

    def has_large_candidates(self) -> bool:
        """Whether candidates exceed ``max_label_atoms``."""
        return cut.is_needed(self.so_far.node("candidates"), self.given.settings("limits")["max_label_atoms"])

    def extract(self) -> None:
        """Start the cutting."""
        started = cut.start(
            candidates=self.so_far.node("candidates"),
            limits=self.given.settings("limits"),
            gamma_lo=self.so_far.facts["gamma_lo"],
            call=self.call_once,
            **self.given.in_force(),
        )
        self.launch_step(started)

    def inspect_extraction(self) -> None:
        """Put the cuts in place of the large candidates."""
        found = cut.collect(
            child=self.launched("extract"),
            candidates=self.so_far.node("candidates"),
            limits=self.given.settings("limits"),
            gamma_hi=self.so_far.facts["gamma_hi"],
            call=self.call_once,
            **self.given.known(),
        )
        self.record_outcome(found, candidates=found.candidates)

    def has_candidates(self) -> bool:
        """Whether there is anything to select from."""
        return self.so_far.candidates is not None

    def select(self) -> None:
        """Start the selection."""
        started = select.start(
            candidates=self.so_far.node("candidates"),
            settings=self.given.settings("selection"),
            ensemble=self.inputs.get("ensemble_data") if self.given.ensemble["selection"] == "ensemble" else None,
            datasets=self.given.datasets,
            **self.given.seeds(),
            **self.given.in_force(),
        )
        self.launch_step(started)

    def inspect_selection(self) -> ExitCode | None:
        """Take what was chosen."""
        selected = select.collect(
            child=self.launched("select"),
            strategy=self.given.settings("selection")["strategy"],
            n_candidates=self.so_far.facts["n_candidates"],
        )
        return self.record_outcome(selected)

    def has_to_label(self) -> bool:
        """Whether there is anything without labels."""
        return bool(self._to_label())

    def label(self) -> None:
        """Start the labelling of what is new, and of the validation set if need be."""
        self.launch_step(label.start(wanted=self._to_label(), labeller=self.inputs.labeller))

    def inspect_labels(self) -> ExitCode | None:
        """Take what was labelled."""
        wanted = self._to_label()
        found = label.collect(
            wanted=wanted,
            children=self._children(wanted, label.label_of),
            tolerated=self.given.settings("limits")["max_failed_labels"],
        )
        if found.failure is not None and found.failure.name == "ERROR_WAITING_FOR_LABELS":
            self.out("to_label", wanted)
        made = {"labelled": found.labelled, "validation": found.validation}
        made = {name: node for name, node in made.items() if node is not None}
        failure = self.record_outcome(found, quarantine=found.quarantine, **made)
        if failure is not None:
            return failure
        screened = screen.screen(
            sets=made,
            potential=self.inputs.potential,
            datasets=self.given.datasets,
            limits=self.given.settings("limits"),
            call=self.call_once,
        )
        quarantine = [*found.quarantine, *screened.quarantine]
        return self.record_outcome(screened, quarantine=quarantine, **screened.sets)

    def has_to_learn(self) -> bool:
        """New labels, or labelled sets without an active set yet."""
        return self.so_far.labelled is not None or not self.has_to_explore()

    def fit(self) -> None:
        """Start the fit on all sets, and the errors of the last potential on the new one."""
        started = fit.start(
            fitter=self.inputs.fitter,
            datasets=self._datasets(),
            labelled=self.so_far.node("labelled"),
            validation=self._validation(),
            has_errors="validation_report" in self.inputs,
            ensemble=self.inputs.get("ensemble"),
            call=self.call_once,
            **self.given.seeds(),
            **self.given.in_force(),
        )
        self.launch_step(started)

    def inspect_fit(self) -> ExitCode | None:
        """Refuse coefficients that are not finite, fail on anything else that went wrong."""
        return self.record_outcome(fit.collect(child=self.launched("fit"), standing=self.inputs.potential))

    def has_new_potential(self) -> bool:
        """Whether the fit gave a potential to validate."""
        return self.launched("fit") is not None and self.so_far.facts["accepted"] is None

    def validate_potential(self) -> ExitCode | None:
        """Start the active set and the errors of the new potential."""
        potential = self.output_of("fit", "potential")
        made = self._make_active_set(potential)
        failure = self.launch_step(made, active_set=made.active_set)
        if failure is not None:
            return failure
        started = validate.start(
            potential=potential,
            active_set=made.active_set,
            validation=self._validation(),
            labelled=self.so_far.node("labelled"),
            worker=self.inputs.worker,
        )
        return self.launch_step(started)

    def _make_active_set(self, potential: orm.Data, prefix: str = "") -> active_set.Made:
        return active_set.start(
            potential=potential,
            datasets=self._datasets(),
            settings=self.given.settings("activeset"),
            previous=self.inputs.get("active_set"),
            worker=self.inputs.worker,
            call=self.call_once,
            prefix=prefix,
        )

    def _take_active_set(self, prefix: str, role: str) -> ExitCode | None:
        """Result of the job, if it was not made here."""
        job = self.launched(active_set.label_of(prefix))
        if job is None:
            return None
        made = active_set.collect(job=job)
        return self.record_outcome(made, **{role: made.active_set})

    def inspect_validation(self) -> ExitCode | None:
        """Take errors and active set to the gate."""
        errors = validate.collect(children=self._children(["holdout", "after"]), standing=self.inputs.potential)
        if errors.report is None:
            return self.record_outcome(errors)
        failure = self._take_active_set("", "active_set")
        if failure is not None:
            return failure
        best = (self.inputs.get("best") or {}).get("validation_report") or self._errors_before()
        verdict = gate.decide(
            new=errors.report,
            best=best.get_dict() if best is not None else {},
            status=self.so_far.facts["status"],
            potential=self.output_of("fit", "potential"),
            active_set=self.so_far.node("active_set"),
            standing=self.inputs.potential,
            **{key: self.given.settings("gate")[key] for key in ("enabled", "tolerance")},
        )
        return self.record_outcome(verdict)

    def has_bounds(self) -> bool:
        """Whether the gate has let the potential pass so far, and asks for properties too."""
        return bool(self.so_far.facts["accepted"] and properties.bounds_of(self.given.settings("gate")))

    def compute_properties(self) -> None:
        """Start the validation of the properties that have bounds."""
        started = properties.start(
            potential=self.output_of("fit", "potential"),
            active_set=self.so_far.node("active_set"),
            given=self.inputs.properties,
            bounds=properties.bounds_of(self.given.settings("gate")),
            labeller=self.inputs.labeller,
            worker=self.inputs.worker,
        )
        self.launch_step(started)

    def inspect_properties(self) -> None:
        """Take the errors of the properties to the gate."""
        best = self.inputs.properties.get("best")
        verdict = properties.collect(
            child=self.launched(properties.LABEL),
            bounds=properties.bounds_of(self.given.settings("gate")),
            best=best.get_dict() if best is not None else None,
            standing=self.inputs.potential,
        )
        self.record_outcome(verdict)

    def has_to_grade_the_old(self) -> bool:
        """A given potential stays, in force or as the best, and has no active set yet, which exploring needs."""
        facts = self.so_far.facts
        stays = facts["accepted"] is False or (facts["accepted"] and not facts["is_best"])
        return bool(stays) and not self.has_to_explore()

    def grade_the_old(self) -> ExitCode | None:
        """Its active set, of the labelled sets: what it was really fitted to is not known here."""
        new = self.so_far.node("active_set")
        if new is not None and new.check_potential(self.inputs.potential) is None:
            return self.record_outcome(Outcome(), old_active_set=new)  # of the same basis
        made = self._make_active_set(self.inputs.potential, "old_")
        return self.launch_step(made, old_active_set=made.active_set)

    def inspect_grading(self) -> ExitCode | None:
        """Take it over."""
        failure = self._take_active_set("old_", "old_active_set")
        if failure is not None:
            return failure
        return self.record_outcome(Outcome(lines=[f"potential<{self.inputs.potential.pk}> has an active set now"]))

    def conclude(self) -> None:
        """Attach what is in force now, and the numbers."""
        so_far, known = self.so_far, self._errors_before()
        calibrated = conclude.calibrate(before=self.output_of("before", "report"), holdout=known, call=self.call_once)
        self.record_outcome(calibrated)
        made = {
            "potential": self.output_of("fit", "potential"),
            "active_set": so_far.node("active_set"),
            "ensemble": self.output_of("fit", "ensemble"),
            "validation_report": self.output_of("holdout", "report"),
        }
        before = {
            "potential": self.inputs.potential,
            "active_set": so_far.node("old_active_set") or self.inputs.get("active_set"),
            "ensemble": self.inputs.get("ensemble_data"),
            "validation_report": known,
        }
        now, best = conclude.in_force(
            accepted=so_far.facts["accepted"],
            is_best=so_far.facts["is_best"],
            made=made,
            before=before,
            best=self.inputs.get("best"),
        )
        row = conclude.row(
            facts={**so_far.facts, "quarantine": so_far.quarantine, **training_size(self._datasets())},
            process=self.node,
            explorers={explore.label_of(name): child for name, child in self._explorers().items()},
            evaluations=self._children(["before", "after"]),
            holdout=now["validation_report"],
            calibration=calibrated.calibration,
            call=self.call_once,
        )
        outputs = {
            **now,
            **{f"best.{name}": node for name, node in best.items()},
            "refused_potential": None if so_far.facts["accepted"] else made["potential"],
            "labelled": so_far.node("labelled"),
            "validation": self._validation(),
            "candidates": so_far.node("candidates"),
            "selected": self.output_of("select", "selected"),
            "window": self.inputs.window,
            "calibration": calibrated.calibration,
            "properties": self.output_of(properties.LABEL, "summary"),
            "property_structures": self.output_of(properties.LABEL, "structures"),
            "generation_report": row,
        }
        for name, node in outputs.items():
            if node is not None:
                self.out(name, node)
