"""``aceal.fit.pacemaker``: the same ports as ``aceal.fit``, fitted by a user's ``pacemaker``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml
from aiida import orm
from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ERROR_FILE,
    OUTPUT_FILE,
    POTENTIAL_FILE,
    check_elements,
    check_labels,
    dataset_port,
    potential_port,
    seed_port,
    settings_port,
    thread_lines,
    union,
    write_set,
    write_union,
)
from aiida_aceal.common.errors import AceError
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.fitting import pacemaker

SCRIPT_FILE = "pacemaker_data.py"
SCRIPT_LOG = "pacemaker_data.log"
ERRORS_LOG = "test_errors.log"
REFERENCE_FILE = "reference_energies.json"
TRAIN_FILE, TEST_FILE = "train.extxyz", "test.extxyz"
INTERIM_FILES = "interim_potential_*.yaml"


class AceFitPacemakerCalculation(CalcJob):
    """Fit a potential by pacemaker; the start potential gives the basis and the first coefficients.

    ``settings``: ``fit`` and ``backend`` as in pacemaker's ``input.yaml``, ``reference_energies`` (``fit``,
    ``isolated``, ``none`` or element -> eV), ``reset``, ``accept_early_stop``, ``python``; see
    :class:`aiida_aceal.fitting.pacemaker.PacemakerSettings`. The data frame is a pickle: it is made on the computer of
    the code by ``python``, which must have the pandas and ASE that pacemaker has.
    """

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports and exit codes."""
        super().define(spec)
        options = spec.inputs["metadata"]["options"]
        options["parser_name"].default = "aceal.fit.pacemaker"
        options["output_filename"].default = OUTPUT_FILE
        options["withmpi"].default = False
        options["resources"].default = lambda: {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        potential_port(spec)
        dataset_port(spec)
        spec.input(
            "validation", valid_type=ConfigurationsData, required=False, help="pacemaker's test set; never fitted."
        )
        settings_port(spec, "`fit`, `backend`, `reference_energies`, `reset`, `accept_early_stop`, `python`.")
        seed_port(spec, required=False)
        spec.output("potential", valid_type=AcePotentialData, required=False, help="The fitted potential.")
        spec.output("report", valid_type=orm.Dict, required=False, help="Metrics, loss history, version, warnings.")
        common = spec.inputs.validator

        def validate(inputs: Mapping[str, Any], ctx: Any) -> str | None:
            return (common(inputs, ctx) if common else None) or cls.validate_inputs(inputs)

        spec.inputs.validator = validate
        for status, label, message in (
            (301, "ERROR_BAD_INPUT", "pacemaker refused its input: {message}"),
            (302, "ERROR_PACEMAKER_FAILED", "pacemaker failed: {message}"),
            (303, "ERROR_OUTPUT_MISSING", "The output {message} is missing."),
            (304, "ERROR_OUTPUT_TRUNCATED", "The output cannot be read: {message}"),
            (305, "ERROR_NOT_FINITE", "The potential holds numbers that are not finite: {message}"),
            (306, "ERROR_OUT_OF_WALLTIME", "Wall time exceeded: {message}"),
            (307, "ERROR_OUT_OF_MEMORY", "Out of memory: {message}"),
            (308, "ERROR_DATA_FRAME", "The data frame could not be made: {message}"),
            (320, "ERROR_DIVERGED", "The fit diverged: {message}"),
            (321, "ERROR_EARLY_STOP", "The fit stopped early: {message}"),
        ):
            spec.exit_code(status, label, message=message, invalidates_cache=True)

    # --- checks at submission ----------------------------------------------------------------------------------

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What pacemaker would refuse or misunderstand."""
        if inputs.get("settings") is None:
            return None
        try:
            pacemaker.PacemakerSettings.read(inputs["settings"].get_dict())
        except AceError as error:
            return str(error)
        return None

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """First thing that is wrong with the inputs together, or ``None``."""
        for check in (cls.check_settings, check_elements):
            message = check(inputs)
            if message:
                return message
        if not inputs.get("dataset"):
            return "dataset: give at least one set of configurations"
        message = check_labels(inputs, "energy", "forces")
        if message:
            return message
        given = inputs["settings"].get_dict() if inputs.get("settings") is not None else {}
        settings = pacemaker.PacemakerSettings.read(given)
        if settings.fit.min_relative_test_loss_per_iter and inputs.get("validation") is None:
            return "settings.fit.min_relative_test_loss_per_iter needs the input `validation`"
        try:
            reference_energies(settings, inputs["dataset"], inputs["potential"].elements)
        except AceError as error:
            return str(error)
        return None

    # --- submission --------------------------------------------------------------------------------------------

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Input, data and the script that makes the data frame."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        settings = pacemaker.PacemakerSettings.read(given)
        elements = self.inputs.potential.elements
        reference = reference_energies(settings, self.inputs.dataset, elements)
        write_union(folder, TRAIN_FILE, self.inputs.dataset)
        if "validation" in self.inputs:
            write_set(folder, TEST_FILE, self.inputs.validation)
        content = pacemaker.write_input(
            settings,
            POTENTIAL_FILE,
            self.inputs.potential.cutoff,
            reference,
            elements,
            test="validation" in self.inputs,
            seed=self.inputs.seed.value if "seed" in self.inputs else None,
        )
        with folder.open(pacemaker.INPUT_FILE, "w", encoding="utf-8") as handle:
            yaml.safe_dump(content, handle, sort_keys=False)
        with folder.open(REFERENCE_FILE, "w", encoding="utf-8") as handle:
            json.dump(reference, handle, indent=1)
        with folder.open(SCRIPT_FILE, "w", encoding="utf-8") as handle:
            handle.write(resources.files("aiida_aceal.fitting").joinpath(SCRIPT_FILE).read_text(encoding="utf-8"))
        codeinfo = CodeInfo()
        codeinfo.code_uuid = self.inputs.code.uuid
        codeinfo.cmdline_params = [pacemaker.INPUT_FILE]
        codeinfo.stdout_name = self.inputs.metadata.options.output_filename
        codeinfo.stderr_name = ERROR_FILE
        calcinfo = CalcInfo()
        calcinfo.uuid = str(self.uuid)
        calcinfo.codes_info = [codeinfo]
        node = self.inputs.potential
        calcinfo.provenance_exclude_list = [TRAIN_FILE, TEST_FILE]
        if settings.reset:
            with folder.open(POTENTIAL_FILE, "w", encoding="utf-8") as handle:
                handle.write(pacemaker.reset_potential(node.get_potential()).to_yaml())
            calcinfo.provenance_exclude_list.append(POTENTIAL_FILE)
        else:
            calcinfo.local_copy_list = [(node.uuid, node.filename, POTENTIAL_FILE)]
        calcinfo.retrieve_list = [
            codeinfo.stdout_name,
            ERROR_FILE,
            SCRIPT_LOG,
            pacemaker.LOG_FILE,
            pacemaker.METRICS_FILE,
            pacemaker.TEST_METRICS_FILE,
            *([pacemaker.TEST_ERRORS_FILE, ERRORS_LOG] if "validation" in self.inputs else []),
        ]
        calcinfo.retrieve_temporary_list = [pacemaker.OUTPUT_FILE, INTERIM_FILES]
        calcinfo.prepend_text = "\n".join(
            line
            for line in (
                thread_lines(self.inputs.metadata.options),
                f"{settings.python} {SCRIPT_FILE} > {SCRIPT_LOG} 2>&1 || exit 1",
            )
            if line
        )
        if "validation" in self.inputs:
            # the evaluator pyace writes no table of the test set; what fails here does not spoil the fit
            calcinfo.append_text = f"{settings.python} {SCRIPT_FILE} errors > {ERRORS_LOG} 2>&1 || true"
        return calcinfo


def reference_energies(
    settings: pacemaker.PacemakerSettings, dataset: Mapping[str, ConfigurationsData], elements: list[str]
) -> dict[str, float]:
    """Energy of the free atoms, eV, after the settings.

    :raises AceError: they cannot be had, or leave energies that pacemaker would not take as they are.
    """
    from aiida_aceal.fitting.labels import collect_labels, reference_energies, reference_sum

    atoms = [a for node, indices in union(dataset) for a in node.iter_atoms(indices)]
    labels = collect_labels(atoms, elements, forces=False, what="dataset")
    reference = reference_energies(labels, settings.reference_energies)
    cohesive = (labels.energies - reference_sum(labels, reference)) / labels.n_atoms
    pacemaker.check_cohesive(cohesive.tolist(), labels.names)
    return {element: float(reference.get(element, 0.0)) for element in elements}
