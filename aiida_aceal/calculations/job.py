"""The CalcJob of a job of ``aceal-worker``, made from its declaration: ports, validators, files and exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ERROR_FILE,
    OUTPUT_FILE,
    REPORT_FILE,
    TIME_FRACTION,
    check_active_set,
    check_distinct,
    check_elements,
    check_labels,
    check_seed,
    common_exit_codes,
    n_threads,
    thread_lines,
    write_set,
    write_union,
)
from aiida_aceal.common.settings import check
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.jobs import find_job, job_names
from aiida_aceal.jobs.declaration import Input, Job

#: kind of a file -> node type
NODE_TYPES: Mapping[str, type[orm.Data]] = {
    "potential": AcePotentialData,
    "active_set": ActiveSetData,
    "configurations": ConfigurationsData,
    "ensemble": EnsembleData,
    "json": orm.SinglefileData,
    "arrays": orm.SinglefileData,
    "text": orm.SinglefileData,
}
SETTINGS_FILE = "settings.yaml"


class AceJobCalculation(CalcJob):
    """Runs a job of ``aceal-worker``; a subclass states which one, as ``JOB``.

    Inputs of the job are ports (namespaces where the job takes a union of sets), its settings one ``Dict``, checked at
    submission in the words of the worker. Bulky files are neither kept in the node's repository (inputs are nodes
    already) nor in ``retrieved`` (outputs become nodes).
    """

    JOB: ClassVar[Job]
    _PARSER = "aceal.job"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports of the job, and the exit codes that all have."""
        super().define(spec)
        job = cls.JOB
        for part in job.inputs:
            if part.namespace:
                spec.input_namespace(
                    part.name, valid_type=NODE_TYPES[part.kind], dynamic=True, required=part.required, help=part.help
                )
            else:
                spec.input(part.name, valid_type=NODE_TYPES[part.kind], required=part.required, help=part.help)
        fields = job.node_model.model_fields
        if fields:
            names = ", ".join(f"`{key}`" for key in fields)
            option = "keys" if job.style == "file" else "help"
            spec.input(
                "settings",
                valid_type=orm.Dict,
                serializer=orm.to_aiida_type,
                required=any(field.is_required() for field in fields.values()),
                help=f"{names}: see `aceal-worker {job.name} --{option}`.",
            )
        if job.seeded:
            spec.input(
                "seed", valid_type=orm.Int, serializer=orm.to_aiida_type, validator=check_seed,
                required=job.seed_required, help="Random seed, the only source of randomness in the job.",
            )  # fmt: skip
        for part in job.outputs:
            if part.node:
                spec.output(part.link, valid_type=NODE_TYPES[part.kind], required=False, help=part.help)
        spec.output("report", valid_type=orm.Dict, required=False, help="Report of the worker.")
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = cls._PARSER
        options["output_filename"].default = OUTPUT_FILE
        options["withmpi"].default = False
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        options["environment_variables"].help += " Unless OMP_NUM_THREADS is set, all cores of `resources` are used."
        common = spec.inputs.validator  # computer and resources

        def validate(inputs: Mapping[str, Any], ctx: Any) -> str | None:
            return (common(inputs, ctx) if common else None) or cls.validate_inputs(inputs)

        spec.inputs.validator = validate
        common_exit_codes(spec)

    # --- checks at submission --------------------------------------------------------------------------------------

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        for find_fault in (cls.check_settings, cls.check_sets, check_active_set, cls.check_job):
            message = find_fault(inputs)
            if message:
                return message
        return None

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What ``settings`` may not be: the worker refuses the same things with the same words."""
        job, values = cls.JOB, given_settings(inputs)
        for key in values:
            if key == job.cores:
                return f"settings: leave '{key}' out; it is the number of cores in metadata.options.resources"
            own = key in job.node_model.model_fields and not (key == "seed" and job.seeded)
            if key in job.model.model_fields and not own:
                ports = [part.name for part in job.inputs if part.key == key]
                ports += ["seed"] if key == "seed" and job.seeded else []
                remedy = f"use its input `{ports[0]}`" if ports else "leave it out"
                return f"settings: '{key}' is filled by the CalcJob; {remedy}"
        return check(job.node_model, values, "settings")

    @classmethod
    def check_sets(cls, inputs: Mapping[str, Any]) -> str | None:
        """Sets of configurations: elements, labels, what stands in two of them."""
        parts = [part for part in cls.JOB.inputs if part.kind == "configurations"]
        message = check_elements(inputs, [part.name for part in parts if not part.any_element])
        for part in parts:
            message = message or check_labels(inputs, *part.labels, names=(part.name,))
        return message or check_distinct(inputs, *cls.JOB.distinct)

    @classmethod
    def check_job(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the job itself refuses, empty namespaces, an ensemble of other elements."""
        given = [part.name for part in cls.JOB.inputs if inputs.get(part.name)]
        message = cls.JOB.check_inputs(given_settings(inputs), given)
        if message:
            return message
        for part in cls.JOB.inputs:
            if part.namespace and part.required and not inputs.get(part.name):
                return f"{part.name}: give at least one set of configurations"
            if part.kind == "ensemble" and inputs.get(part.name) is not None:
                message = check_ensemble(part.name, inputs)
                if message:
                    return message
        return None

    # --- submission ------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Content of the ``settings`` input, empty if it was not given."""
        return given_settings(self.inputs)

    def worker_settings(self) -> dict[str, Any]:
        """What of ``settings`` goes to the worker."""
        known = self.JOB.model.model_fields
        cores = {self.JOB.cores: n_threads(self.inputs.metadata.options)} if self.JOB.cores else {}
        return {**{key: value for key, value in self.settings().items() if key in known}, **cores}

    def write_inputs(self, folder: Folder) -> list[str]:
        """Write the files of configurations and settings; returns the command line after the name of the job."""
        files = {part.name: self.files_of(folder, part) for part in self.JOB.inputs if self.has(part)}
        outputs = [part for part in self.JOB.outputs if part.wanted(self.settings())]
        settings = self.worker_settings()
        if self.JOB.style == "file":
            return self.words_of_file(folder, files, outputs, settings)
        words: list[str] = []
        for part in self.JOB.inputs:
            words += [word for name in files.get(part.name, ()) if part.option for word in (part.option, name)]
        for part in self.JOB.inputs:
            words += [] if part.option else files.get(part.name, [])
        if settings:
            write_settings(folder, settings)
            words += [self.JOB.settings_option, SETTINGS_FILE]
        if "seed" in self.inputs:
            words += ["--seed", str(self.inputs.seed.value)]
        for part in outputs:
            words += [part.option, part.filename]
        return [*words, "--report", REPORT_FILE]

    def words_of_file(self, folder: Folder, files: dict[str, list[str]], outputs: Any, settings: Any) -> list[str]:
        """The same for a job that takes one file with all settings."""
        job = self.JOB
        for part in job.inputs:
            if part.name in files:
                settings[part.key] = files[part.name] if part.many else files[part.name][0]
        settings.update({part.key: part.filename for part in outputs})
        settings[job.report_key] = REPORT_FILE
        if "seed" in self.inputs:
            settings["seed"] = self.inputs.seed.value
        if job.mode:
            settings["mode"] = job.mode
        write_settings(folder, settings)
        return [SETTINGS_FILE]

    def files_of(self, folder: Folder, part: Input) -> list[str]:
        """Write the file of an input, unless it is copied from its node; returns the names in the working directory."""
        value = self.inputs[part.name]
        if part.namespace:
            write_union(folder, part.filename, value)
        elif part.kind == "configurations":
            write_set(folder, part.filename, value)
        return [part.filename]

    def has(self, part: Input) -> bool:
        """Whether an input was given."""
        return bool(self.inputs.get(part.name)) if part.namespace else part.name in self.inputs

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Files, command line and lists of what is copied and retrieved; files that are nodes already are copied."""
        words = self.write_inputs(folder)
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [*self._limit_words(), self.JOB.name, *words]
        codeinfo.stdout_name = self.inputs.metadata.options.output_filename
        codeinfo.stderr_name = ERROR_FILE
        calcinfo = CalcInfo()
        calcinfo.uuid = str(self.uuid)
        calcinfo.codes_info = [codeinfo]
        calcinfo.local_copy_list = []
        for part in self.JOB.inputs:
            if part.kind != "configurations" and not part.namespace and part.name in self.inputs:
                node = self.inputs[part.name]
                # our programs read local active sets in place of the .asi
                name = node.grading_filename if part.kind == "active_set" else node.filename
                calcinfo.local_copy_list.append((node.uuid, name, part.filename))
        written = [str(Path(path).relative_to(folder.abspath)) for path in Path(folder.abspath).rglob("*.extxyz")]
        calcinfo.provenance_exclude_list = written
        calcinfo.retrieve_list = [codeinfo.stdout_name, ERROR_FILE, REPORT_FILE]
        calcinfo.retrieve_list += [part.filename for part in self.JOB.outputs if not part.node]
        calcinfo.retrieve_temporary_list = [part.filename for part in self.JOB.outputs if part.node]
        calcinfo.prepend_text = thread_lines(self.inputs.metadata.options)
        return calcinfo

    def _limit_words(self) -> list[str]:
        seconds = self.inputs.metadata.options.get("max_wallclock_seconds")
        return ["--time-limit", f"{max(1.0, TIME_FRACTION * seconds):g}"] if seconds else []


def given_settings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the input ``settings``, empty if it was not given."""
    node = inputs.get("settings")
    return node.get_dict() if node is not None else {}


def write_settings(folder: Folder, settings: Mapping[str, Any]) -> None:
    """The file of settings."""
    with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
        yaml.safe_dump(dict(settings), handle, sort_keys=True)


def check_ensemble(port: str, inputs: Mapping[str, Any]) -> str | None:
    """An ensemble that does not know an element of the potential or of a set of configurations."""
    known = inputs[port].elements
    for name, value in inputs.items():
        sets = list(value.values()) if isinstance(value, Mapping) else [value]
        for node in sets:
            if not isinstance(node, (AcePotentialData, ConfigurationsData)):
                continue
            foreign = sorted(set(node.elements) - set(known))
            if foreign:
                return f"{port}: does not know {', '.join(foreign)} of the {name}; it knows {', '.join(known)}"
    return None


def class_name(job: Job) -> str:
    """``AceExploreActiveCalculation`` for the mode ``active`` of the job ``explore``."""
    return f"{_start_of_name(job.name)}{job.mode.title()}Calculation"


def _start_of_name(job: str) -> str:
    return "Ace" + "".join(word.title() for word in job.split("-"))


def __getattr__(name: str) -> type[AceJobCalculation]:
    """Classes of jobs that need nothing special, made when they are asked for: ``AceGradeCalculation`` of grade.

    Jobs of other packages have theirs here too, so that they need not write one.
    """
    # those that the name cannot mean stay unloaded
    for job in (one for own in job_names() if name.startswith(_start_of_name(own)) for one in find_job(own).variants()):
        if name == class_name(job):
            doc = f"{job.help}\n\nThe job ``{job.name}`` of ``aceal-worker``, see `aiida_aceal.jobs`."
            made = type(name, (AceJobCalculation,), {"JOB": job, "__doc__": doc, "__module__": __name__})
            globals()[name] = made  # one class for each job, which AiiDA finds again by module and name
            return made
    raise AttributeError(f"module {__name__} has no attribute {name}")
