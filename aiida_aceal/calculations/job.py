"""CalcJobs made from the declaration of a job: ports, validators, files and exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import yaml
from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    REPORT_FILE,
    AceWorkerCalculation,
    check_seed,
    write_set,
    write_union,
)
from aiida_aceal.common.settings import check
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.jobs import find_job
from aiida_aceal.jobs.declaration import Input, Job

#: kind of a file -> node type
NODE_TYPES: Mapping[str, type[orm.Data]] = {
    "potential": AcePotentialData,
    "active_set": ActiveSetData,
    "configurations": ConfigurationsData,
    "ensemble": EnsembleData,
    "json": orm.SinglefileData,
}
SETTINGS_FILE = "settings.yaml"


class AceJobCalculation(AceWorkerCalculation):
    """Runs the job ``JOB`` on its files; `calculation` makes the class of a job.

    Inputs of the job are ports (namespaces where the job takes a union of sets), its settings one ``Dict``, checked at
    submission in the words of the worker.
    """

    JOB: ClassVar[Job]
    _PARSER = "aceal.job"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports of the job."""
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
            spec.input(
                "settings",
                valid_type=orm.Dict,
                serializer=orm.to_aiida_type,
                required=any(field.is_required() for field in fields.values()),
                help=f"{names}: see `aceal-worker {job.name} --help`.",
            )
        if job.seeded:
            spec.input(
                "seed", valid_type=orm.Int, serializer=orm.to_aiida_type, validator=check_seed,
                help="Random seed, the only source of randomness in the job.",
            )  # fmt: skip
        for part in job.outputs:
            spec.output(part.name, valid_type=NODE_TYPES[part.kind], required=False, help=part.help)

    # --- checks at submission --------------------------------------------------------------------------------------

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the worker would refuse."""
        node = inputs.get("settings")
        return check(cls.JOB.node_model, node.get_dict() if node is not None else {}, "settings")

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also: empty namespaces, an ensemble of other elements."""
        message = super().validate_inputs(inputs)
        if message:
            return message
        settings = inputs["settings"].get_dict() if inputs.get("settings") is not None else {}
        message = cls.JOB.check_inputs(settings, [part.name for part in cls.JOB.inputs if inputs.get(part.name)])
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

    def write_inputs(self, folder: Folder) -> list[str]:
        """Files of configurations and the words of the command line."""
        job = self.JOB
        words: list[str] = []
        for part in job.inputs:
            value = self.inputs.get(part.name)
            if value is None or (part.namespace and not value):
                continue
            if part.namespace:
                write_union(folder, part.filename, value)
            elif part.kind == "configurations":
                write_set(folder, part.filename, value)
            words += [part.option, part.filename] if part.option else []
        words += [part.filename for part in job.inputs if not part.option and self.has(part)]
        settings = self.worker_settings()
        if settings:
            with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
                yaml.safe_dump(settings, handle, sort_keys=True)
            words += [job.settings_option, SETTINGS_FILE]
        if job.seeded:
            words += ["--seed", str(self.inputs.seed.value)]
        for part in job.outputs:
            if part.wanted(self.settings()):
                words += [part.option, part.filename]
        return [*words, "--report", REPORT_FILE]

    def has(self, part: Input) -> bool:
        """Whether an input was given."""
        return bool(self.inputs.get(part.name)) if part.namespace else part.name in self.inputs

    def worker_settings(self) -> dict[str, Any]:
        """What of ``settings`` goes to the worker."""
        known = self.JOB.model.model_fields
        return {key: value for key, value in self.settings().items() if key in known}

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Files that are nodes already are copied, not written."""
        self._SUBCOMMAND = self.JOB.name
        self._OUTPUTS = tuple(part.filename for part in self.JOB.outputs)
        calcinfo = super().prepare_for_submission(folder)
        calcinfo.local_copy_list = []
        for part in self.JOB.inputs:
            if part.kind != "configurations" and not part.namespace and part.name in self.inputs:
                node = self.inputs[part.name]
                # our programs read local active sets in place of the .asi
                name = node.grading_filename if part.kind == "active_set" else node.filename
                calcinfo.local_copy_list.append((node.uuid, name, part.filename))
        return calcinfo


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


def calculation(job: Job, **members: Any) -> type[AceJobCalculation]:
    """The CalcJob class of a job; ``members`` are laid over those of the base.

    Give it the module-level name that the entry point of ``aiida.calculations`` states::

        SmallestCalculation = calculation(JOB, __module__=__name__, __qualname__="SmallestCalculation")
    """
    name = members.get("__qualname__") or "Ace" + "".join(word.title() for word in job.name.split("-")) + "Calculation"
    doc = f"{job.help}\n\nThe job ``{job.name}`` of ``aceal-worker``, see `aiida_aceal.jobs`."
    return type(name, (AceJobCalculation,), {"JOB": job, "__doc__": doc, "__module__": __name__, **members})


def __getattr__(name: str) -> type[AceJobCalculation]:
    """Classes of all jobs, ours and those of other packages, by name: ``AceGradeCalculation`` of the job ``grade``."""
    from aiida_aceal.jobs import job_names

    for job in job_names():
        if name == "Ace" + "".join(word.title() for word in job.split("-")) + "Calculation":
            made = calculation(find_job(job), __qualname__=name)
            globals()[name] = made  # one class for each job, which AiiDA finds again by module and name
            return made
    raise AttributeError(f"module {__name__} has no attribute {name}")
