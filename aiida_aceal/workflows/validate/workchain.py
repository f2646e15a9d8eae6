"""``aceal.validate``: properties of a potential beside those of the reference that labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, if_, while_
from aiida.plugins import CalculationFactory

from aiida_aceal.calculations.job import check_ensemble
from aiida_aceal.calculations.worker_base import check_active_set, check_elements
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import check
from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.properties.names import DYNAMICS, property_names
from aiida_aceal.properties.settings import ValidateSettings
from aiida_aceal.workflows.base import AceWorkChain, output, why
from aiida_aceal.workflows.steps import check_step, step_class, step_inputs
from aiida_aceal.workflows.validate import functions

#: properties whose structures are made elsewhere
_APART = ("eos", *DYNAMICS)
#: searches for the volume of lowest energy
MAX_ROUNDS = 4


class ValidateWorkChain(AceWorkChain):
    """Structures of the properties, labels of the reference, labels of the potential, numbers of both.

    The equations of state come first. Their minimum in the energy of the reference gives the lattice at which all
    else is computed, for reference and potential alike, so that most structures depend on the potential in nothing:
    strained cells, displaced supercells, dimers. They are labelled apart from those that the potential relaxes.
    Structures that stand in ``labelled`` are not labelled again.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("potential", valid_type=AcePotentialData, help="The potential that is validated.")
        spec.input("active_set", valid_type=ActiveSetData, required=False, help="Numbers then come with grades.")
        spec.input("ensemble", valid_type=EnsembleData, required=False, help="Numbers then come with error bars.")
        spec.input(
            "structure", valid_type=ConfigurationsData,
            help="The crystal whose properties are computed, then further phases for the equations of state and, of "
            "elements, for the formation energies of defects.",
        )  # fmt: skip
        spec.input(
            "settings", valid_type=orm.Dict, serializer=orm.to_aiida_type, default=lambda: orm.Dict({}),
            help="Which properties, and how: aiida_aceal.properties.settings.ValidateSettings.",
        )  # fmt: skip
        spec.input_namespace(
            "labeller",
            dynamic=True,
            help="The process that labels, as in a campaign: `entry_point` (Str), `code`, `settings`, `options`.",
        )
        spec.input_namespace("worker", help="`aceal-worker`, for structures, evaluation and numbers.")
        spec.input("worker.code", valid_type=orm.AbstractCode, help="Code of `aceal-worker`.")
        spec.input(
            "worker.options", valid_type=orm.Dict, serializer=orm.to_aiida_type, required=False,
            help="metadata.options for its jobs.",
        )  # fmt: skip
        spec.input_namespace(
            "labelled", valid_type=ConfigurationsData, dynamic=True, required=False,
            help="Sets that the same method labelled before: structures of equal content are not labelled again.",
        )  # fmt: skip
        spec.inputs.validator = lambda inputs, _: cls.validate_inputs(inputs)
        spec.outline(
            cls.setup,
            while_(cls.has_volumes)(cls.label_volumes, cls.find_lattice),
            if_(cls.has_structures)(cls.make_structures, cls.inspect_structures),
            cls.label,
            cls.inspect_labels,
            cls.compute_numbers,
            cls.conclude,
        )
        spec.output_namespace(
            "numbers", valid_type=orm.Dict, dynamic=True, required=False,
            help="One for each property: `reference`, `potential`, `rows` (differences, with the largest grade of the "
            "structures behind each), `structures` (their content hashes).",
        )  # fmt: skip
        spec.output_namespace(
            "curves",
            valid_type=orm.ArrayData,
            dynamic=True,
            required=False,
            help="Curves of each property: aiida_aceal.workflows.validate.curves.curves_of reads them.",
        )
        spec.output(
            "structures", valid_type=ConfigurationsData, required=False,
            help="All structures with the labels of the reference, each with what it was computed for (`cases`).",
        )  # fmt: skip
        spec.output("summary", valid_type=orm.Dict, required=False, help="Worst numbers, failures, costs.")
        spec.exit_code(401, "ERROR_LABELLING_FAILED", message="No structure could be labelled: {reason}")
        spec.exit_code(402, "ERROR_EVALUATION_FAILED", message="The potential could not be evaluated: {reason}")
        spec.exit_code(403, "ERROR_NUMBERS_FAILED", message="The numbers could not be computed: {reason}")
        spec.exit_code(410, "ERROR_ALL_FAILED", message="None of the {number} properties could be had: {reason}")

    # --- checks at submission ----------------------------------------------------------------------------------

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """First thing that is wrong with the inputs, or ``None``."""
        message = check_step(inputs.get("labeller"), "labeller") or check_active_set(inputs)
        if not message and inputs.get("ensemble") is not None:
            message = check_ensemble("ensemble", inputs)
        return message or check_wanted(inputs)

    # --- what all steps use ------------------------------------------------------------------------------------

    @property
    def settings(self) -> ValidateSettings:
        """Settings with defaults."""
        return ValidateSettings.read(self.inputs.settings.get_dict())

    @property
    def names(self) -> tuple[str, ...]:
        """The properties."""
        return property_names(self.settings.properties)

    def _given(self, *sections: str) -> dict[str, Any]:
        """Those sections of the settings that were given."""
        given = self.inputs.settings.get_dict()
        return {key: given[key] for key in ("symprec", *sections) if key in given}

    def _worker(self, label: str, entry_point: str, description: str, wait: bool = True, **inputs: Any) -> None:
        cls = CalculationFactory(entry_point)
        self.start_child(label, cls, step_inputs(cls, self.inputs.worker, **inputs), description, wait)

    def _label(self, label: str, configurations: ConfigurationsData, what: str) -> None:
        cls = step_class(self.inputs.labeller["entry_point"].value)
        inputs = step_inputs(cls, self.inputs.labeller, configurations=configurations)
        self.start_child(label, cls, inputs, f"label {counted(len(configurations), 'structure')}: {what}")
        self.ctx.asked = {**self.ctx.asked, label: configurations.uuid}
        self.report(f"labelling {counted(len(configurations), 'structure')}: {what}")

    def _nodes(self, kind: str) -> dict[str, ConfigurationsData]:
        """Nodes of the context: ``frames`` or ``labelled``."""
        return {f"{kind}_{key}": orm.load_node(uuid) for key, uuid in self.ctx[kind].items()}

    def _past(self) -> dict[str, ConfigurationsData]:
        """Sets with labels that were given, after those made here."""
        return {f"labelled_z_{key}": node for key, node in (self.inputs.get("labelled") or {}).items()}

    def _take_labels(self, label: str) -> None:
        """Labels of a child, and the reasons of those that failed."""
        child = self.ctx.get(label)
        if child is None:
            return
        labelled, report = output(child, "labelled"), self.report_of(label)
        if labelled is not None:
            self.ctx.labelled = {**self.ctx.labelled, label: labelled.uuid}
            self.ctx.n_labelled += len(labelled)
        failures = {item["hash"]: item["reason"] for item in report.get("failures", [])}
        if labelled is None and not failures:
            failures = dict.fromkeys(orm.load_node(self.ctx.asked[label]).hashes, why(child))
        self.ctx.unlabelled = {**self.ctx.unlabelled, **failures}
        self.ctx.core_seconds += report.get("core_seconds", 0.0)
        if not child.is_finished_ok:
            self.report(why(child))

    # --- outline -----------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Start values; the context holds numbers and identifiers only."""
        self.ctx.lattice, self.ctx.round = self.inputs.structure.uuid, 0
        self.ctx.searching = "eos" in self.names or self.settings.lattice == "reference"
        self.ctx.frames, self.ctx.labelled, self.ctx.asked = {}, {}, {}
        self.ctx.unlabelled, self.ctx.errors, self.ctx.left_as_given = {}, {}, {}
        self.ctx.n_structures = self.ctx.n_labelled = self.ctx.n_reused = 0
        self.ctx.core_seconds = 0.0
        self.report(f"properties: {', '.join(self.names)}; labels by {self.inputs.labeller['entry_point'].value}")

    def has_volumes(self) -> bool:
        """Whether equations of state are needed (again), for themselves or for the lattice."""
        return self.ctx.searching

    def label_volumes(self) -> None:
        """Label the structures of the equations of state."""
        number = self.ctx.round
        lattice = orm.load_node(self.ctx.lattice)
        frames = self.call_once(
            f"volumes_{number}", functions.equations_of_state, structure=lattice, settings=self.inputs.settings
        )
        self.ctx.frames = {"eos": frames.uuid}
        if number == 0:
            self.ctx.first = frames.uuid
        parts = self.call_once(
            f"sort_volumes_{number}", functions.sort_structures, frames_eos=frames, **self._nodes("labelled"),
            **self._past(),
        )  # fmt: skip
        if "known" in parts:
            self.ctx.labelled = {**self.ctx.labelled, f"known_{number}": parts["known"].uuid}
        if "common" in parts:
            self._label(f"label_eos_{number}", parts["common"], "equations of state")

    def find_lattice(self) -> ExitCode | None:
        """The volumes at which the energy of the reference is lowest."""
        number = self.ctx.round
        self._take_labels(f"label_eos_{number}")
        if not self.ctx.labelled:
            return self.exit_codes.ERROR_LABELLING_FAILED.format(reason=why(self.ctx[f"label_eos_{number}"]))
        self.ctx.searching, self.ctx.round = False, number + 1
        if self.settings.lattice == "given":
            return None
        found = self.call_once(
            f"lattices_{number}", functions.lattices, structure=orm.load_node(self.ctx.lattice),
            settings=self.inputs.settings, frames=orm.load_node(self.ctx.frames["eos"]), **self._nodes("labelled"),
        )  # fmt: skip
        report = found["report"].get_dict()
        if report["again"] and self.ctx.round < MAX_ROUNDS:
            self.ctx.lattice, self.ctx.searching = found["structure"].uuid, True
            self.report("equations of state again, around the volumes of lowest energy")
        elif report["guesses"]:
            self.ctx.left_as_given = report["guesses"]
            self.ctx.lattice, self.ctx.frames = self.inputs.structure.uuid, {"eos": self.ctx.first}
            for name, reason in report["guesses"].items():
                self.report(f"the cells are used as given: {name} has no volume of lowest energy: {reason}")
        else:
            self.ctx.lattice = found["structure"].uuid
        return None

    def has_structures(self) -> bool:
        """Whether anything but equations of state is wanted."""
        return self.names != ("eos",)

    def make_structures(self) -> None:
        """Start the job that makes structures, and dynamics, of which both sides make their own (no step waits yet)."""
        lattice = orm.load_node(self.ctx.lattice)
        own = [name for name in self.names if name not in _APART]
        shared = {"potential": self.inputs.potential, "structure": lattice}
        if own:
            parts = ("relaxation", "elastic", "phonon", "defects", "surface", "pairs")
            settings = {**self._given(*parts), "properties": own, "relax_start": False, "structures_only": True}
            self._worker("structures", "aceal.properties", "structures", settings=orm.Dict(settings), **shared)
        runs = self._dynamics("potential")
        if not runs:
            return
        settings = {**self._given(*DYNAMICS), "properties": runs, "relax_start": False}
        self._worker(
            "md_potential", "aceal.properties", "dynamics of the potential", wait=False, settings=orm.Dict(settings),
            active_set=self.inputs.get("active_set"), **shared,
        )  # fmt: skip
        runs = self._dynamics("reference")
        if not runs:
            return
        given = self.inputs.labeller["settings"].get_dict()
        method = {key: value for key, value in given.items() if key in ("calculator", "kwargs")}
        self._worker(
            "md_reference", "aceal.reference_md", "dynamics of the reference", wait=False, structure=lattice,
            settings=orm.Dict({**method, **self._given(*DYNAMICS), "properties": runs}),
        )  # fmt: skip

    def _dynamics(self, side: str) -> list[str]:
        """Properties of which a side makes runs: the reference only if it is an ASE calculator."""
        names = [name for name in self.names if name in DYNAMICS]
        if side == "potential":
            return names
        labeller = self.inputs.labeller
        if labeller["entry_point"].value != "aceal.label.ase" or labeller.get("files"):
            return []
        return [name for name in names if name != "melting" or self.settings.melting.reference]

    def inspect_structures(self) -> None:
        """Take the structures; without them the equations of state are left."""
        child = self.ctx.get("structures")
        frames = output(child, "structures")
        if frames is not None:
            self.ctx.frames = {**self.ctx.frames, "own": frames.uuid}
            self.ctx.errors = self.report_of("structures").get("failed", {})
        elif child is not None:
            self.ctx.errors = dict.fromkeys((name for name in self.names if name not in _APART), why(child))
        for name, reason in self.ctx.errors.items():
            self.report(f"{name}: {reason}")

    def label(self) -> None:
        """Label what has no labels, evaluate everything; wait for that, and for the dynamics under way."""
        for label in ("md_potential", "md_reference"):
            if self.child(label) is not None:
                self.to_context(**{label: self.child(label)})
        if not self.ctx.frames:
            return
        done = {"done_eos": orm.load_node(self.ctx.frames["eos"])} if "eos" in self.ctx.frames else {}
        parts = self.call_once(
            "sort",
            functions.sort_structures,
            **self._nodes("frames"),
            **done,
            **self._past(),
        )
        if "known" in parts:
            self.ctx.labelled = {**self.ctx.labelled, "known": parts["known"].uuid}
            self.ctx.n_reused = len(parts["known"])
        for name, what in (("common", "the same for every potential"), ("relaxed", "relaxed with the potential")):
            if name in parts:
                self._label(f"label_{name}", parts[name], what)
        if "everything" in parts:
            self.ctx.n_structures = len(parts["everything"])
            self._worker(
                "evaluate", "aceal.evaluate", "evaluate the potential", potential=self.inputs.potential,
                configurations=parts["everything"], active_set=self.inputs.get("active_set"),
            )  # fmt: skip

    def inspect_labels(self) -> ExitCode | None:
        """Take the labels of both sides."""
        for label in ("label_common", "label_relaxed"):
            self._take_labels(label)
        failed = [self.ctx[name] for name in ("label_common", "label_relaxed") if self.ctx.get(name) is not None]
        if failed and not self.ctx.labelled:
            return self.exit_codes.ERROR_LABELLING_FAILED.format(reason=why(failed[0]))
        child = self.ctx.get("evaluate")
        if child is not None and output(child, "evaluated") is None:
            return self.exit_codes.ERROR_EVALUATION_FAILED.format(reason=why(child))
        if child is None and not self._dynamics("potential"):
            reason = "; ".join(self.ctx.errors.values())
            return self.exit_codes.ERROR_ALL_FAILED.format(number=len(self.names), reason=reason)
        return None

    def compute_numbers(self) -> None:
        """Start the analysis of both sides."""
        merged = self._sets()
        failures = self._failures()
        sections = self._given("eos", "elastic", "phonon", "defects", "surface", "pairs", *DYNAMICS)
        settings = {**sections, "properties": list(self.names), "unlabelled": self.ctx.unlabelled, **failures}
        runs = {f"{side}_runs": output(self.ctx.get(f"md_{side}"), name) for side, name in _RUNS}
        self._worker(
            "numbers", "aceal.property_numbers", "numbers of the properties", settings=orm.Dict(settings),
            ensemble=self.inputs.get("ensemble"), **merged, **runs,
        )  # fmt: skip

    def _sets(self) -> dict[str, ConfigurationsData]:
        """Structures and labels of both sides; for dynamics alone, whose frames bring their labels, the crystal."""
        lattice = orm.load_node(self.ctx.lattice)
        found = {name: lattice for name in ("structures", "reference", "evaluated")}
        sets = {**self._nodes("frames"), **self._nodes("labelled")}
        if sets:
            found.update(self.call_once("merge", functions.merge_sets, **sets))
        if self.ctx.get("evaluate") is not None:
            found["evaluated"] = output(self.ctx["evaluate"], "evaluated")
        return found

    def _failures(self) -> dict[str, dict[str, str]]:
        """Why a property has no structures, or one side no numbers."""
        sides: dict[str, dict[str, str]] = {"reference_errors": {}, "potential_errors": {}}
        for side, name in _RUNS:
            child, made = self.ctx.get(f"md_{side}"), self._dynamics(side)
            failed = self.report_of(f"md_{side}").get("failed", {}) if child is not None else {}
            for which in self._dynamics("potential"):
                if which not in made:
                    sides[f"{side}_errors"][which] = self._no_runs(which)
                elif which in failed or output(child, name) is None:
                    sides[f"{side}_errors"][which] = failed.get(which) or why(child)
        return {"errors": self.ctx.errors, **sides}

    def _no_runs(self, name: str) -> str:
        """Why the reference makes none."""
        if name == "melting" and not self.settings.melting.reference:
            return "the reference makes such runs only with melting.reference: true"
        return f"{self.inputs.labeller['entry_point'].value} labels single points, it makes no runs"

    def conclude(self) -> ExitCode | None:
        """Attach the numbers; say which are worst."""
        child = self.ctx["numbers"]
        numbers = output(child, "numbers")
        if numbers is None:
            return self.exit_codes.ERROR_NUMBERS_FAILED.format(reason=why(child))
        facts = {
            "n_structures": self.ctx.n_structures,
            "n_labelled": self.ctx.n_labelled,
            "n_unlabelled": len(self.ctx.unlabelled),
            "n_reused": self.ctx.n_reused,
            "label_core_seconds": self.ctx.core_seconds,
            "lattice": self.settings.lattice,
            "left_as_given": self.ctx.left_as_given,
        }
        evaluated = output(self.ctx.get("evaluate"), "evaluated")
        found = self.call_once(
            "collect", functions.collect_validation, facts=orm.Dict(facts), numbers=numbers, **self._nodes("frames"),
            **self._nodes("labelled"), **({"evaluated": evaluated} if evaluated is not None else {}),
        )  # fmt: skip
        for name, node in found.items():
            kind, _, key = name.partition("_")
            self.out(f"{kind}.{key}" if key else name, node)
        return self._story(found["summary"].get_dict())

    def _story(self, summary: dict[str, Any]) -> ExitCode | None:
        labels = f"{summary['n_labelled']} labels made, {summary['n_reused']} reused"
        self.report(f"{counted(summary['n_structures'], 'structure')}: {labels}")
        reasons = {name: _reasons(summary["properties"][name]) for name in summary["failed"]}
        for name, reason in reasons.items():
            self.report(f"{name}: {reason}")
        if summary["worst"]:
            worst = summary["worst"]
            self.report(
                f"worst: {worst['property']} {worst['quantity']} {worst['potential']:.4g} for {worst['reference']:.4g} "
                f"({worst['relative_percent']:+.1f} %)"
            )
        if len(reasons) == len(summary["properties"]):
            number, reason = len(reasons), next(iter(reasons.values()))
            return self.exit_codes.ERROR_ALL_FAILED.format(number=number, reason=reason)
        return None


#: side -> output that holds the frames of its dynamics
_RUNS = (("reference", "frames"), ("potential", "structures"))


def _reasons(entry: Mapping[str, Any]) -> str:
    """Why one side has no numbers."""
    found = {side: entry.get(f"{side}_error") for side in ("reference", "potential")}
    if found["reference"] == found["potential"]:
        return str(found["reference"])
    return "; ".join(f"{side}: {reason}" for side, reason in found.items() if reason)


def check_wanted(inputs: Mapping[str, Any]) -> str | None:
    """What is wrong with ``settings`` and ``structure``, or ``None``; ``potential`` has to know the elements."""
    given = inputs["settings"].get_dict() if inputs.get("settings") is not None else {}
    message = check(ValidateSettings, given, "settings") or check_elements(inputs, ("structure",))
    if message or inputs.get("structure") is None:
        return message
    from aiida_aceal.properties import eos_structures

    try:
        eos_structures(ValidateSettings.read(given), inputs["structure"].to_atoms())
    except AceError as error:
        return f"structure: {error}"
    return None
