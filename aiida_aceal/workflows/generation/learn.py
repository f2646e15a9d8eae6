"""Second half of a generation: fit, active set, errors, the gate, calibration."""

from __future__ import annotations

import math
from typing import Any

from aiida import orm
from aiida.engine import ExitCode
from aiida.plugins import CalculationFactory

from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, summary
from aiida_aceal.workflows.base import StepError, output, why
from aiida_aceal.workflows.generation.ensembles import EnsembleSteps
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs
from aiida_aceal.workflows.windows.calibration import has_pairs

#: exit status of the CalcJobs of aceal-worker for numbers that are not finite
NOT_FINITE = 305


class LearningSteps(EnsembleSteps):
    """Steps that make a potential and its active set, and decide whether they come into force."""

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
        self.start_child("fit", cls, self.fit_settings(inputs), f"generation {self.number}: fit")
        known = self.inputs.get("active_set")
        if self.inputs.potential.is_fitted:
            if self.ctx.labelled is not None:
                self._evaluate("before", orm.load_node(self.ctx.labelled), self.inputs.potential, known)
            if "validation_report" not in self.inputs:
                self._evaluate("holdout_before", self._validation(), self.inputs.potential, known)
        self.report(
            f"generation {self.number}: fitting {counted(n_structures, 'structure')}, {counted(n_atoms, 'atom')}"
        )

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
            f"generation {self.number}: new potential REFUSED, potential<{self.inputs.potential.pk}> stays in "
            f"force: {reason}"
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
        # one that a job still makes comes too late for the grades of the validation set
        active_set = orm.load_node(self.ctx.active_set) if self.ctx.active_set else None
        self._evaluate("holdout", self._validation(), potential, active_set)
        if self.ctx.labelled is not None:
            self._evaluate("after", orm.load_node(self.ctx.labelled), potential)
        return None

    def _start_active_set(self, potential: AcePotentialData, prefix: str = "") -> None:
        settings = self._settings("activeset")
        limit = float(settings.pop("calcfunction_below_mb"))
        datasets = self._datasets()
        n_atoms = self.ctx.facts["n_training_atoms"]
        size = 8e-6 * n_atoms * max(potential.n_functions[el] * potential.n_densities[el] for el in potential.elements)
        if size < limit:
            result = self.call_once(
                f"{prefix}maxvol",
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
        self.start_child(f"{prefix}active_set_job", cls, inputs, f"generation {self.number}: active set")

    def inspect_validation(self) -> ExitCode | None:
        """The gate: is the new potential finite, and no worse on the validation set than the best so far?"""
        for name in ("holdout", "after"):
            child = self.ctx.get(name)
            if child is not None and not child.is_finished_ok:
                if child.exit_status == NOT_FINITE and self.inputs.potential.is_fitted:
                    self._refuse(f"its energies or forces are not finite ({why(child)})")
                    return None
                return self.exit_codes.ERROR_VALIDATION_FAILED.format(reason=why(child))
        failure = self._take_active_set()
        if failure is not None:
            return failure
        new, best = self.report_of("holdout"), self._report_of_best()
        gate = self._settings("gate")
        reason = None
        values = [new.get(key, {}).get("rmse") for key in ("energy", "forces")]
        if any(value is None or not math.isfinite(value) for value in values):
            reason = "its validation errors are not finite"
        elif gate["enabled"] and best and self.inputs.potential.is_fitted:
            reason = summary.is_worse(new, best, gate["tolerance"])
        if reason:
            if not self.inputs.potential.is_fitted:
                return self.exit_codes.ERROR_NO_POTENTIAL.format(reason=reason)
            self._refuse(reason)
            return None
        self.ctx.facts.update({"accepted": True, "is_best": not best or summary.is_best(new, best)})
        if self.ctx.facts["status"] == "explored":
            self.ctx.facts["status"] = "learned"
        ranks = orm.load_node(self.ctx.active_set).rank
        self.report(
            f"generation {self.number}: accepted potential<{output(self.ctx['fit'], 'potential').pk}>: validation RMSE "
            f"{1000 * values[0]:.3g} meV/atom, {1000 * values[1]:.3g} meV/A"
            + (", the best so far" if self.ctx.facts["is_best"] else ", an earlier one is better: exploration goes on")
            + f"; rank of the active set {ranks}"
        )
        return None

    def _take_active_set(self, prefix: str = "") -> ExitCode | None:
        """Result of the job, if it was not made here."""
        job = self.ctx.get(f"{prefix}active_set_job")
        if job is None:
            return None
        active_set = output(job, "active_set")
        if active_set is None or not job.is_finished_ok:
            return self.exit_codes.ERROR_ACTIVE_SET_FAILED.format(reason=why(job))
        self.ctx.active_set = active_set.uuid
        return None

    def has_to_grade_the_old(self) -> bool:
        """A given potential stays, in force or as the best, and has no active set yet, which exploring needs."""
        facts = self.ctx.facts
        stays = facts["accepted"] is False or (facts["accepted"] and not facts["is_best"])
        return bool(stays) and "active_set" not in self.inputs

    def grade_the_old(self) -> ExitCode | None:
        """Its active set, of the labelled sets: what it was really fitted to is not known here."""
        made = self.ctx.active_set and orm.load_node(self.ctx.active_set)
        self.ctx.new_active_set = self.ctx.active_set
        if made and made.check_potential(self.inputs.potential) is None:
            return None  # of the same basis
        try:
            self._start_active_set(self.inputs.potential, "old_")
        except StepError as error:
            return self.exit_codes.ERROR_ACTIVE_SET_FAILED.format(reason=str(error))
        return None

    def inspect_grading(self) -> ExitCode | None:
        """Take it over."""
        failure = self._take_active_set("old_")
        if failure is None:
            self.ctx.old_active_set, self.ctx.active_set = self.ctx.active_set, self.ctx.new_active_set
            self.report(f"generation {self.number}: potential<{self.inputs.potential.pk}> has an active set now")
        return failure

    def _report_before(self) -> dict[str, Any]:
        if "validation_report" in self.inputs:
            return self.inputs.validation_report.get_dict()
        return self.report_of("holdout_before") if self.ctx.get("holdout_before") is not None else {}

    def _report_of_best(self) -> dict[str, Any]:
        """Validation errors that the gate compares with: of the best potential so far, not of the last."""
        known = (self.inputs.get("best") or {}).get("validation_report")
        return known.get_dict() if known is not None else self._report_before()

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
