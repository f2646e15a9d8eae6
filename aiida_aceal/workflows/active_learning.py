"""``aceal.active_learning``: generations until the runs are complete and stay below the threshold."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, if_, while_

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, policies, ports
from aiida_aceal.workflows.base import AceWorkChain, clean_scratch, output, why
from aiida_aceal.workflows.generation import GenerationWorkChain
from aiida_aceal.workflows.protocol import ProtocolMixin
from aiida_aceal.workflows.sections import filled
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs

_PASSED = ("explorers", "labeller", "fitter", "worker", "selection", "activeset", "gate", "limits", "ensemble")


class ActiveLearningWorkChain(ProtocolMixin, AceWorkChain):
    """A campaign: generation 0 labels, fits and grades; the next ones explore, select, label and refit."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("potential", valid_type=AcePotentialData, help="A basis (unfitted), or a potential to improve.")
        spec.input(
            "active_set", valid_type=ActiveSetData, required=False, help="Of a fitted `potential`: skips generation 0."
        )
        spec.input("initial", valid_type=ConfigurationsData, required=False, help="First configurations to label.")
        spec.input_namespace(
            "dataset",
            valid_type=ConfigurationsData,
            dynamic=True,
            required=False,
            help="Configurations that have labels already.",
        )
        spec.input(
            "validation",
            valid_type=ConfigurationsData,
            required=False,
            help="Fixed hold-out set; it is labelled first if it has no labels. Or give `sampler`.",
        )
        spec.input_namespace(
            "sampler",
            dynamic=True,
            required=False,
            help="Process that makes a labelled hold-out set: `entry_point` (such as aceal.sample), `code`, "
            "`configurations`, `settings`, `options`.",
        )
        ports.step_ports(spec)
        spec.input(
            "window",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Dict({"policy": policies.DEFAULT_POLICY}),
            validator=_check_window,
            help="`policy` (entry point of aiida_aceal.window_policies) and its settings; `fixed` takes gamma_lo, "
            "gamma_hi and gamma_stop.",
        )
        spec.input(
            "clean_workdir",
            valid_type=orm.Bool,
            serializer=orm.to_aiida_type,
            default=lambda: orm.Bool(True),
            help="Empty the work folders of finished jobs after each generation; those of failed jobs stay.",
        )
        ports.plain_dict(spec, "loop", "When to stop at the latest.")
        spec.inputs.validator = cls.validate_inputs
        spec.outline(
            cls.prepare,
            if_(cls.has_to_sample)(cls.sample_validation, cls.inspect_sampling),
            while_(cls.has_to_go_on)(cls.run_generation, cls.inspect_generation),
            cls.conclude,
        )
        spec.output("potential", valid_type=AcePotentialData, help="The potential in force at the end.")
        spec.output("active_set", valid_type=ActiveSetData)
        spec.output("ensemble", valid_type=EnsembleData, required=False, help="The last ensemble.")
        spec.output_namespace(
            "dataset", valid_type=ConfigurationsData, dynamic=True, help="Labelled sets, one per generation."
        )
        spec.output("validation", valid_type=ConfigurationsData, help="Labelled hold-out set.")
        spec.output("summary", valid_type=orm.Dict, help="Rows of numbers of all generations, and totals.")
        spec.exit_code(401, "ERROR_GENERATION_FAILED", message="Generation {number} failed: {reason}")
        spec.exit_code(402, "ERROR_SAMPLING_FAILED", message="The hold-out set could not be made: {reason}")
        spec.exit_code(
            410,
            "ERROR_MAX_GENERATIONS",
            message="Not converged after {number} generations; the outputs hold the best potential so far.",
        )
        spec.exit_code(
            411, "ERROR_TOO_MANY_REFUSALS", message="{number} new potentials in a row were refused; the last: {reason}"
        )
        spec.exit_code(
            412,
            "ERROR_NO_CANDIDATES",
            message="{number} generations in a row were not converged and found no candidate: widen the window.",
        )

    @classmethod
    def validate_inputs(cls, inputs: Any, _: Any) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        if inputs.get("initial") is None and not inputs.get("dataset"):
            return "give `initial` (configurations to label) or `dataset` (labelled ones): there is nothing to fit"
        if (inputs.get("validation") is None) == (not inputs.get("sampler")):
            return "give either `validation` (a hold-out set) or `sampler` (a process that makes one)"
        potential, active_set = inputs.get("potential"), inputs.get("active_set")
        if active_set is not None and potential is not None:
            if not potential.is_fitted or inputs.get("initial") is not None:
                return "active_set: goes with a fitted `potential` and its `dataset`, without `initial`"
            problem = active_set.check_potential(potential)
            if problem:
                return f"active_set: {problem}"
        return ports.check_steps(inputs, explorers_required=True)

    # --- steps -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start values; the context holds numbers and identifiers only."""
        loop = filled("loop", self.inputs.loop.get_dict() if "loop" in self.inputs else {})
        self.ctx.number = 1 if "active_set" in self.inputs else 0
        self.ctx.last = loop["max_generations"]
        self.ctx.potential = self.inputs.potential.uuid
        self.ctx.active_set = self.inputs.active_set.uuid if "active_set" in self.inputs else None
        self.ctx.validation = self.inputs.validation.uuid if "validation" in self.inputs else None
        self.ctx.validation_report = self.ctx.ensemble = None
        self.ctx.datasets = {key: node.uuid for key, node in (self.inputs.get("dataset") or {}).items()}
        self.ctx.reports = {}
        self.ctx.quarantine = []
        self.ctx.refusals = self.ctx.empty = 0
        self.ctx.status = "running"
        functions_of = self.inputs.potential.n_functions
        self.report(
            "campaign for "
            + ", ".join(f"{el} ({n} functions)" for el, n in functions_of.items())
            + f"; at most {self.ctx.last} generations; explorers: {', '.join(sorted(self.inputs.explorers))}"
        )

    def has_to_sample(self) -> bool:
        """Whether the hold-out set is to be made."""
        return self.ctx.validation is None

    def sample_validation(self) -> None:
        """Start the process that makes the hold-out set."""
        step = self.inputs.sampler
        cls = step_class(step["entry_point"].value)
        inputs = step_inputs(cls, step, seed=orm.Int(derived_seed(self.inputs.seed.value, 0, 2000)))
        self.start_child("sampler", cls, inputs, "hold-out set")
        self.report(f"making the hold-out set by {step['entry_point'].value}")

    def inspect_sampling(self) -> ExitCode | None:
        """Take the hold-out set."""
        child = self.ctx["sampler"]
        labelled = output(child, "labelled")
        if labelled is None or not child.is_finished_ok:
            return self.exit_codes.ERROR_SAMPLING_FAILED.format(reason=why(child))
        self.ctx.validation = labelled.uuid
        self.report(f"hold-out set of {len(labelled)} configurations")
        return None

    def has_to_go_on(self) -> bool:
        """Until the stop criterion, the largest number of generations, or a dead end."""
        return self.ctx.status == "running" and self.ctx.number <= self.ctx.last

    def run_generation(self) -> None:
        """Choose the window and start the next generation."""
        number = self.ctx.number
        window = self.call_once(
            f"window_{number:03d}",
            functions.choose_window,
            settings=self.inputs.window,
            **{key: orm.load_node(uuid) for key, uuid in self.ctx.reports.items()},
        )
        inputs: dict[str, Any] = {name: self.inputs[name] for name in _PASSED if name in self.inputs}
        inputs.update(
            {
                "generation": orm.Int(number),
                "potential": orm.load_node(self.ctx.potential),
                "dataset": {key: orm.load_node(uuid) for key, uuid in self.ctx.datasets.items()},
                "validation": orm.load_node(self.ctx.validation),
                "window": window,
                "seed": self.inputs.seed,
            }
        )
        if self.ctx.active_set is not None:
            inputs["active_set"] = orm.load_node(self.ctx.active_set)
        elif "initial" in self.inputs:
            inputs["initial"] = self.inputs.initial
        if self.ctx.validation_report is not None:
            inputs["validation_report"] = orm.load_node(self.ctx.validation_report)
        if self.ctx.ensemble is not None:
            inputs["ensemble_data"] = orm.load_node(self.ctx.ensemble)
        if self.ctx.quarantine:
            inputs["quarantine"] = orm.List(sorted(set(self.ctx.quarantine)))
        self.start_child(f"generation_{number:03d}", GenerationWorkChain, inputs, f"generation {number}")

    def inspect_generation(self) -> ExitCode | None:
        """Take over what the generation made, and decide how to go on."""
        number = self.ctx.number
        child = self.ctx[f"generation_{number:03d}"]
        if not child.is_finished_ok:
            reason = why(child)
            self.report(f"generation {number} failed: {reason}")
            self.ctx.status = "failed"
            self._attach()
            return self.exit_codes.ERROR_GENERATION_FAILED.format(number=number, reason=reason)
        if self.inputs.clean_workdir.value:
            for problem in clean_scratch(child)[1]:
                self.report(f"generation {number}: scratch not cleaned: {problem}")
        for name in ("potential", "active_set", "validation", "validation_report", "ensemble"):
            node = output(child, name)
            if node is not None:
                self.ctx[name] = node.uuid
        labelled = output(child, "labelled")
        if labelled is not None:
            self.ctx.datasets = {**self.ctx.datasets, f"generation_{number:03d}": labelled.uuid}
        report = output(child, "generation_report")
        self.ctx.reports = {**self.ctx.reports, f"generation_{number:03d}": report.uuid}
        row = report.get_dict()
        self.ctx.quarantine = [*self.ctx.quarantine, *(item["hash"] for item in row["quarantine"] if item.get("hash"))]
        self.ctx.refusals = self.ctx.refusals + 1 if row["status"] == "refused" else 0
        self.ctx.empty = self.ctx.empty + 1 if row["status"] == "no_candidates" else 0
        self.report(_story(row))
        loop = filled("loop", self.inputs.loop.get_dict() if "loop" in self.inputs else {})
        if row["status"] == "converged":
            self.ctx.status = "converged"
        elif self.ctx.refusals >= loop["max_refusals"]:
            self.ctx.status = "refused"
        elif self.ctx.empty >= loop["max_without_candidates"]:
            self.ctx.status = "no_candidates"
        self.ctx.number = number + 1
        return None

    def conclude(self) -> ExitCode | None:
        """Attach the results; say whether the campaign converged."""
        if self.ctx.status == "running":
            self.ctx.status = "max_generations"
        self._attach()
        last = orm.load_node(list(self.ctx.reports.values())[-1]).get_dict()
        if self.ctx.status == "max_generations":
            return self.exit_codes.ERROR_MAX_GENERATIONS.format(number=self.ctx.number - 1)
        if self.ctx.status == "refused":
            return self.exit_codes.ERROR_TOO_MANY_REFUSALS.format(number=self.ctx.refusals, reason=last["refused"])
        if self.ctx.status == "no_candidates":
            return self.exit_codes.ERROR_NO_CANDIDATES.format(number=self.ctx.empty)
        return None

    def _attach(self) -> None:
        """All outputs there are; a campaign that failed keeps what it has."""
        if self.ctx.reports:
            result = self.call_once(
                "summary",
                functions.summarise_campaign,
                facts=orm.Dict({"status": self.ctx.status}),
                **{key: orm.load_node(uuid) for key, uuid in self.ctx.reports.items()},
            )
            self.out("summary", result)
            total = result.get_dict()
            self.report(
                f"campaign {self.ctx.status}: {total['n_generations']} generations, {total['n_training']} training "
                f"structures, {total['n_labelled']} labels in {total['label_core_seconds']:.0f} core seconds"
            )
        for name in ("potential", "active_set", "validation", "ensemble"):
            if self.ctx[name] is not None:
                self.out(name, orm.load_node(self.ctx[name]))
        self.out("dataset", {key: orm.load_node(uuid) for key, uuid in self.ctx.datasets.items()})


def _story(row: dict[str, Any]) -> str:
    """One line on a finished generation."""

    def number(key: str, scale: float = 1.0) -> str:
        value = row.get(key)
        return "-" if value is None else f"{scale * value:.3g}"

    return (
        f"generation {row['generation']} {row['status']}: steps {row.get('md_steps_reached', '-')}/"
        f"{row.get('md_steps_total', '-')}, max gamma {number('max_gamma')}, {row['n_candidates']} candidates, "
        f"{row['n_selected']} selected, {row.get('n_training', 0)} training structures, hold-out "
        f"{number('holdout_energy_rmse', 1000)} meV/atom {number('holdout_forces_rmse', 1000)} meV/A, "
        f"{row['wall_seconds']:.0f} s"
    )


def _check_window(node: orm.Dict | None, _: Any) -> str | None:
    try:
        policies.choose_window(node.get_dict() if node is not None else {})
    except (ValueError, TypeError) as error:
        return str(error)
    return None
