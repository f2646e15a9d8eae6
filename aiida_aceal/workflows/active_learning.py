"""``aceal.active_learning``: generations until the runs are complete and stay below the threshold."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, if_, while_
from aiida.plugins import CalculationFactory

from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, ports, sets
from aiida_aceal.workflows.base import clean_scratch, output, why
from aiida_aceal.workflows.costs import campaign_costs
from aiida_aceal.workflows.generation.workchain import GenerationWorkChain
from aiida_aceal.workflows.labellers.manual import WAITING, WAITING_CAMPAIGN, WAITING_GENERATION
from aiida_aceal.workflows.protocol import ProtocolMixin
from aiida_aceal.workflows.sections import filled
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs
from aiida_aceal.workflows.stopping import STOP
from aiida_aceal.workflows.summary import error_numbers, story
from aiida_aceal.workflows.validate.steps import ValidationSteps, check_properties, properties_ports
from aiida_aceal.workflows.windows import policies

_PASSED = ("explorers", "labeller", "fitter", "worker", "selection", "activeset", "gate", "limits", "ensemble")
#: what belongs to a potential
_BELONGS = ("potential", "active_set", "ensemble", "validation_report")


class ActiveLearningWorkChain(ProtocolMixin, ValidationSteps):
    """A campaign: generation 0 labels, fits and grades; the next ones explore, select, label and refit."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("potential", valid_type=AcePotentialData, help="A basis (unfitted), or a potential to improve.")
        spec.input(
            "active_set",
            valid_type=ActiveSetData,
            required=False,
            help="Active set of a fitted `potential`; with it, generation 0 is skipped.",
        )
        spec.input("initial", valid_type=ConfigurationsData, required=False, help="First configurations to label.")
        spec.input_namespace(
            "dataset",
            valid_type=ConfigurationsData,
            dynamic=True,
            required=False,
            help="Configurations that are labelled already.",
        )
        spec.input(
            "validation",
            valid_type=ConfigurationsData,
            required=False,
            help="Validation set: decides at the gate, says which potential is the best, and calibrates; never fitted. "
            "It is labelled first if it has no labels. Alternatively, give `sampler`.",
        )
        spec.input(
            "test",
            valid_type=ConfigurationsData,
            required=False,
            help="Test set: decides nothing; the errors of the returned potential on it are reported. It is labelled "
            "first if it has no labels. Or give `test_sampler`.",
        )
        for name, what in (("sampler", "validation"), ("test_sampler", "test")):
            spec.input_namespace(
                name,
                dynamic=True,
                required=False,
                help=f"Process that makes a labelled {what} set: `entry_point` (such as aceal.sample), `code`, "
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
            help="Empty the work folders of finished jobs after each generation; those of failed jobs are kept.",
        )
        ports.plain_dict(spec, "loop", "When to stop at the latest.")
        properties_ports(spec)
        spec.inputs.validator = cls.validate_inputs
        spec.outline(
            cls.prepare,
            if_(cls.has_sets_to_make)(cls.make_sets, cls.inspect_sets),
            while_(cls.has_to_go_on)(
                cls.run_generation,
                cls.inspect_generation,
                if_(cls.is_due)(cls.validate_potential, cls.inspect_validation),
            ),
            if_(cls.has_to_test)(cls.test_potential, cls.inspect_test),
            if_(cls.has_to_validate)(cls.validate_potential, cls.inspect_validation),
            cls.conclude,
        )
        spec.output("potential", valid_type=AcePotentialData, help="The one of smallest validation error: the best.")
        spec.output("active_set", valid_type=ActiveSetData, help="Of `potential`.")
        spec.output("ensemble", valid_type=EnsembleData, required=False, help="Of `potential`.")
        spec.output("validation_report", valid_type=orm.Dict, required=False, help="Validation errors of `potential`.")
        spec.output_namespace(
            "latest",
            required=False,
            dynamic=True,
            help="What explored last, if that is not `potential`: a later potential, not as good on the validation set "
            "but within the tolerance of the gate. Its potential, active_set, ensemble, validation_report.",
        )
        spec.output_namespace(
            "dataset", valid_type=ConfigurationsData, dynamic=True, help="Labelled sets, one per generation."
        )
        spec.output("validation", valid_type=ConfigurationsData, help="Labelled validation set.")
        spec.output("test", valid_type=ConfigurationsData, required=False, help="Labelled test set.")
        spec.output("test_report", valid_type=orm.Dict, required=False, help="Errors of `potential` on the test set.")
        spec.output("summary", valid_type=orm.Dict, help="The numbers of all generations, and totals.")
        spec.exit_code(401, "ERROR_GENERATION_FAILED", message="Generation {number} failed: {reason}")
        spec.exit_code(402, "ERROR_SAMPLING_FAILED", message="The {name} set could not be made: {reason}")
        spec.exit_code(
            410,
            "ERROR_MAX_GENERATIONS",
            message="Not converged after {number} generations; the outputs hold the best potential so far ({best}).",
        )
        spec.exit_code(
            411, "ERROR_TOO_MANY_REFUSALS", message="{number} new potentials in a row were refused; the last: {reason}"
        )
        spec.exit_code(
            412,
            "ERROR_NO_CANDIDATES",
            message="{number} generations in a row neither converged nor found a candidate: widen the window.",
        )
        spec.output_namespace(
            "to_label", valid_type=ConfigurationsData, dynamic=True, required=False,
            help="Sets that wait for labels, which somebody has to bring; empty otherwise.",
        )  # fmt: skip
        spec.exit_code(
            WAITING_CAMPAIGN, "ERROR_WAITING_FOR_LABELS",
            message="{number} wait for labels (output `to_label`): aiida-aceal labels {pk} FILE...",
        )  # fmt: skip
        spec.exit_code(413, "ERROR_STOPPED", message="Stopped on request after generation {number}; it can be resumed.")

    @classmethod
    def validate_inputs(cls, inputs: Any, _: Any) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        if inputs.get("initial") is None and not inputs.get("dataset"):
            return "give `initial` (configurations to label) or `dataset` (labelled ones): there is nothing to fit"
        if (inputs.get("validation") is None) == (not inputs.get("sampler")):
            return "give either `validation` (a set that is never fitted) or `sampler` (a process that makes one)"
        if inputs.get("test") is not None and inputs.get("test_sampler"):
            return "give either `test` (a set that is only reported on) or `test_sampler` (a process that makes one)"
        labeller = (inputs.get("labeller") or {}).get("entry_point")
        if inputs.get("properties") and labeller is not None and labeller.value == "aceal.label.manual":
            return "properties: need a labeller that computes by itself; aceal.label.manual waits for a person"
        potential, active_set = inputs.get("potential"), inputs.get("active_set")
        if active_set is not None and potential is not None:
            if not potential.is_fitted or inputs.get("initial") is not None:
                return "active_set: requires a fitted `potential` and its `dataset`, and no `initial`"
            problem = active_set.check_potential(potential)
            if problem:
                return f"active_set: {problem}"
        return (
            ports.check_steps(inputs, explorers_required=True) or sets.check_apart(inputs) or check_properties(inputs)
        )

    # --- steps -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Start values; the context holds numbers and identifiers only."""
        loop = filled("loop", self.inputs.loop.get_dict() if "loop" in self.inputs else {})
        self.ctx.number = 1 if "active_set" in self.inputs else 0
        self.ctx.last = loop["max_generations"]
        self.ctx.potential = self.inputs.potential.uuid
        self.ctx.active_set = self.inputs.active_set.uuid if "active_set" in self.inputs else None
        for role in sets.SAMPLERS:
            self.ctx[role] = self.inputs[role].uuid if role in self.inputs else None
        self.ctx.validation_report = self.ctx.ensemble = None
        self.ctx.best, self.ctx.best_generation, self.ctx.best_properties = {}, None, None
        self.ctx.datasets = {key: node.uuid for key, node in (self.inputs.get("dataset") or {}).items()}
        self.ctx.reports = {}
        self.ctx.quarantine, self.ctx.validated = [], []
        self.ctx.refusals = self.ctx.empty = 0
        self.ctx.status = "running"
        functions_of = self.inputs.potential.n_functions
        self.report(
            "campaign for "
            + ", ".join(f"{el} ({n} functions)" for el, n in functions_of.items())
            + f"; at most {counted(self.ctx.last, 'generation')}; explorers: {', '.join(sorted(self.inputs.explorers))}"
        )

    def has_sets_to_make(self) -> bool:
        """Whether a set that is never fitted is to be sampled, or the test set to be labelled."""
        return bool(self._sets_to_make())

    def _sets_to_make(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Role -> label of the child that makes the set, and its namespace; the validation set is labelled by the first
        generation, together with the first structures."""
        found = {}
        for role, sampler in sets.SAMPLERS.items():
            if self.inputs.get(sampler):
                found[role] = (sampler, {"step": self.inputs[sampler]})
        test = self.inputs.get("test")
        if test is not None and not ports.is_labelled(test):
            found["test"] = ("label_test", {"step": self.inputs.labeller, "configurations": test})
        return found

    def make_sets(self) -> None:
        """Start the processes that sample or label, all at once."""
        for role, (label, given) in self._sets_to_make().items():
            step = given.pop("step")
            cls = step_class(step["entry_point"].value)
            seed = orm.Int(derived_seed(self.inputs.seed.value, 0, 2000 + (role == "test")))
            self.start_child(label, cls, step_inputs(cls, step, seed=seed, **given), f"{role} set")
            self.report(f"making the {role} set with {step['entry_point'].value}")

    def inspect_sets(self) -> ExitCode | None:
        """Take the sets."""
        for role, (label, _) in self._sets_to_make().items():
            child = self.ctx[label]
            labelled = output(child, "labelled")
            if child.exit_status == WAITING:
                self.report(f"the {role} set waits for labels")
                self.ctx[role] = None
                continue
            if labelled is None or not child.is_finished_ok:
                return self.exit_codes.ERROR_SAMPLING_FAILED.format(name=role, reason=why(child))
            self.ctx[role] = labelled.uuid
            self.report(f"{role} set of {counted(len(labelled), 'configuration')}")
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
        inputs.update(self.gate_inputs())
        tests = self.test_sets()
        if tests:
            inputs["tests"] = tests
        if self.ctx.active_set is not None:
            inputs["active_set"] = orm.load_node(self.ctx.active_set)
        elif "initial" in self.inputs:
            inputs["initial"] = self.inputs.initial
        if self.ctx.best:
            inputs["best"] = {name: orm.load_node(uuid) for name, uuid in self.ctx.best.items()}
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
            if child.exit_status == WAITING_GENERATION:
                return self._wait_for_labels(child)
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
        best = {name: output(child, f"best__{name}") for name in _BELONGS}
        self.ctx.best = {name: node.uuid for name, node in best.items() if node is not None}
        labelled = output(child, "labelled")
        if labelled is not None:
            self.ctx.datasets = {**self.ctx.datasets, f"generation_{number:03d}": labelled.uuid}
        report = output(child, "generation_report")
        self.ctx.reports = {**self.ctx.reports, f"generation_{number:03d}": report.uuid}
        row = report.get_dict()
        if row["is_best"]:
            self.ctx.best_generation, self.ctx.best_properties = number, row.get("property_errors")
        self.ctx.quarantine = [*self.ctx.quarantine, *(item["hash"] for item in row["quarantine"] if item.get("hash"))]
        self.ctx.refusals = self.ctx.refusals + 1 if row["status"] == "refused" else 0
        self.ctx.empty = self.ctx.empty + 1 if row["status"] == "no_candidates" else 0
        self.report(story(row))
        loop = filled("loop", self.inputs.loop.get_dict() if "loop" in self.inputs else {})
        if row["status"] == "converged":
            self.ctx.status = "converged"
        elif self.ctx.refusals >= loop["max_refusals"]:
            self.ctx.status = "refused"
        elif self.ctx.empty >= loop["max_without_candidates"]:
            self.ctx.status = "no_candidates"
        elif self.node.base.extras.get(STOP, False):
            self.ctx.status = "stopped"
        self.ctx.number = number + 1
        return None

    def _wait_for_labels(self, generation: orm.ProcessNode) -> ExitCode:
        """End here; the campaign that goes on is given the labels."""
        found = {name: output(generation, f"to_label__{name}") for name in ("initial", "label", "validation")}
        test = self.ctx.get("label_test")
        found["test"] = self.inputs.test if test is not None and test.exit_status == WAITING else None
        wanted = {name: node for name, node in found.items() if node is not None}
        self.ctx.status = "waiting"
        self._attach()
        self.out("to_label", wanted)
        number = counted(sum(len(node) for node in wanted.values()), "structure")
        return self.exit_codes.ERROR_WAITING_FOR_LABELS.format(number=number, pk=self.node.pk)

    def has_to_test(self) -> bool:
        """Whether there are a test set and a potential to evaluate on it."""
        return self.ctx.test is not None and "potential" in self.ctx.best

    def test_potential(self) -> None:
        """Start the evaluation of the potential that is returned on the set that has decided nothing."""
        cls = CalculationFactory("aceal.evaluate")
        given = {name: self.ctx.best.get(name) for name in ("potential", "active_set")}
        given["configurations"] = self.ctx.test
        nodes = {name: orm.load_node(uuid) for name, uuid in given.items() if uuid is not None}
        inputs = step_inputs(cls, self.inputs.worker, **nodes)
        self.start_child("test_evaluation", cls, inputs, "errors on the test set")

    def inspect_test(self) -> None:
        """Its errors; without them the campaign is no worse, but nobody knows how good it is."""
        child = self.ctx["test_evaluation"]
        if not child.is_finished_ok:
            self.report(f"no errors on the test set: {why(child)}")

    def conclude(self) -> ExitCode | None:
        """Attach the results; say whether the campaign converged."""
        if self.ctx.status == "running":
            self.ctx.status = "max_generations"
        self._attach()
        last = orm.load_node(list(self.ctx.reports.values())[-1]).get_dict()
        if self.ctx.status == "max_generations":
            return self.exit_codes.ERROR_MAX_GENERATIONS.format(number=self.ctx.number - 1, best=self._whose())
        if self.ctx.status == "refused":
            return self.exit_codes.ERROR_TOO_MANY_REFUSALS.format(number=self.ctx.refusals, reason=last["refused"])
        if self.ctx.status == "no_candidates":
            return self.exit_codes.ERROR_NO_CANDIDATES.format(number=self.ctx.empty)
        if self.ctx.status == "stopped":
            return self.exit_codes.ERROR_STOPPED.format(number=self.ctx.number - 1)
        return None

    def _attach(self) -> None:
        """All outputs there are; a campaign that failed keeps what it has."""
        tested = self.report_of("test_evaluation")
        if self.ctx.reports:
            facts = {
                "status": self.ctx.status,
                "best_generation": self.ctx.best_generation,
                "n_test": tested.get("n_structures"),
                **error_numbers(tested, "test", ""),
                "cost": {name: table for name, table in campaign_costs(self.node).items() if name != "generations"},
            }
            result = self.call_once(
                "summary",
                functions.summarise_campaign,
                facts=orm.Dict(facts),
                **{key: orm.load_node(uuid) for key, uuid in self.ctx.reports.items()},
            )
            self.out("summary", result)
            total = result.get_dict()
            self.report(
                f"campaign {self.ctx.status}: {total['n_generations']} generations, {total['n_training']} training "
                f"structures, {total['n_labelled']} labels in {total['label_core_seconds']:.0f} core seconds"
            )
        best = self.ctx.best or {name: self.ctx[name] for name in _BELONGS if self.ctx[name] is not None}
        for name, uuid in best.items():
            self.out(name, orm.load_node(uuid))
        for role in sets.SAMPLERS:
            if self.ctx[role] is not None:
                self.out(role, orm.load_node(self.ctx[role]))
        tested = output(self.ctx.get("test_evaluation"), "report")
        if tested is not None:
            self.out("test_report", tested)
        properties = self.last_properties()
        if properties is not None:
            self.out("properties", properties)
        if self.ctx.best and self.ctx.best["potential"] != self.ctx.potential:
            latest = {name: orm.load_node(self.ctx[name]) for name in _BELONGS if self.ctx[name] is not None}
            self.out("latest", latest)
            self.report(
                f"returned is the potential that is best on the validation set ({self._whose()}); "
                f"potential<{latest['potential'].pk}>, the last accepted one, is output `latest`"
            )
        self.out("dataset", {key: orm.load_node(uuid) for key, uuid in self.ctx.datasets.items()})

    def _whose(self) -> str:
        """Where the best potential comes from, in words."""
        number = self.ctx.best_generation
        return "the one given at the start" if number is None else f"of generation {number}"


def _check_window(node: orm.Dict | None, _: Any) -> str | None:
    try:
        policies.choose_window(node.get_dict() if node is not None else {})
    except (ValueError, TypeError) as error:
        return str(error)
    return None
