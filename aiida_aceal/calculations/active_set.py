"""``aceal.active_set``: the MaxVol active set of a training set, for sets of any size."""

from __future__ import annotations

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ACTIVE_SET_FILE,
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    dataset_port,
    potential_port,
    settings_port,
    write_union,
)
from aiida_aceal.data.active_set import ActiveSetData

INPUT_FILE = "dataset.extxyz"
PREVIOUS_FILE = "previous.asi"


class AceActiveSetCalculation(AceWorkerCalculation):
    """Build or update an active set.

    ``settings``: ``kind`` (``linear`` or ``full``), ``tolerance`` (1.001), ``memory`` (such as ``2GiB``).
    """

    _SUBCOMMAND = "active-set"
    _PARSER = "aceal.active_set"
    _OUTPUTS = (ACTIVE_SET_FILE,)
    _SETTINGS = {"kind": "--kind", "tolerance": "--tolerance", "memory": "--memory"}  # noqa: RUF012

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        dataset_port(spec, text="Sets of configurations; the environments of their union make up the active set.")
        spec.input(
            "previous",
            valid_type=ActiveSetData,
            required=False,
            help="Active set of the previous generation: updated by swaps instead of built anew.",
        )
        settings_port(spec, "`kind`, `tolerance`, `memory`.")
        spec.output("active_set", valid_type=ActiveSetData, required=False, help="The active set.")

    @classmethod
    def validate_inputs(cls, inputs) -> str | None:
        """Also refuse a previous set of another basis."""
        message = super().validate_inputs(inputs)
        if message:
            return message
        if not inputs.get("dataset"):
            return "dataset: give at least one set of configurations"
        if inputs.get("previous") is not None and inputs.get("potential") is not None:
            problem = inputs["previous"].check_potential(inputs["potential"])
            return f"previous: {problem}" if problem else None
        return None

    def write_inputs(self, folder: Folder) -> list[str]:
        """One file with the union of the sets."""
        write_union(folder, INPUT_FILE, self.inputs.dataset)
        words = [POTENTIAL_FILE, INPUT_FILE, "-o", ACTIVE_SET_FILE, "--report", REPORT_FILE, *self.option_words()]
        return words + (["--previous", PREVIOUS_FILE] if "previous" in self.inputs else [])

    def prepare_for_submission(self, folder: Folder):
        """Also copy the previous active set."""
        calcinfo = super().prepare_for_submission(folder)
        if "previous" in self.inputs:
            calcinfo.local_copy_list.append((self.inputs.previous.uuid, self.inputs.previous.filename, PREVIOUS_FILE))
        return calcinfo
