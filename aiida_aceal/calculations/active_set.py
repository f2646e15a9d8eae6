"""``aceal.active_set``: the MaxVol active set of a training set, for sets of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ACTIVE_SET_FILE,
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    check_labels,
    dataset_port,
    potential_port,
    seed_port,
    settings_port,
    write_union,
)
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.uncertainty.settings import ActiveSetSettings

INPUT_FILE = "dataset.extxyz"
PREVIOUS_FILE = "previous.asi"


class AceActiveSetCalculation(AceWorkerCalculation):
    """Build or update an active set.

    ``settings``: ``kind`` (``linear`` or ``full``; default: that of ``previous``, else ``linear``), ``tolerance``
    (1.001), ``memory`` (such as ``2GiB``), ``exclude_outliers`` (environments with a force error beyond Q3 + 1.5 IQR),
    ``emptiness`` (true: environments emptier than any of these will be flagged).
    Local active sets: ``clusters`` (number for each element) or ``group_key`` (info entry that names the group of a
    structure), ``definition`` (``minimum`` or ``own``), ``switch`` (local grade only in clusters with less than this
    part of an equal share). They are always built anew.
    """

    _SUBCOMMAND = "active-set"
    _PARSER = "aceal.active_set"
    _MODEL = ActiveSetSettings
    _OUTPUTS = (ACTIVE_SET_FILE,)
    _SETTINGS = {  # noqa: RUF012
        "kind": "--kind",
        "tolerance": "--tolerance",
        "memory": "--memory",
        "exclude_outliers": "--exclude-outliers",
        "emptiness": "--emptiness",
        "clusters": "--clusters",
        "group_key": "--group-key",
        "definition": "--definition",
        "switch": "--switch",
    }

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
        settings_port(
            spec,
            "`kind`, `tolerance`, `memory`, `exclude_outliers`, `emptiness`; for local active sets `clusters` or "
            "`group_key`, `definition`, `switch`.",
        )
        seed_port(spec, required=False)
        spec.output("active_set", valid_type=ActiveSetData, required=False, help="The active set.")

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse a previous set of another basis."""
        message = super().validate_inputs(inputs)
        if message:
            return message
        if not inputs.get("dataset"):
            return "dataset: give at least one set of configurations"
        settings = inputs["settings"].get_dict() if inputs.get("settings") is not None else {}
        previous = inputs.get("previous")
        message = check_local(settings, previous)
        if message:
            return message
        if settings.get("exclude_outliers"):
            if previous is not None:
                return "settings: `exclude_outliers` applies to a set that is built, not to an update of `previous`"
            message = check_labels(inputs, "forces")
        if previous is not None and inputs.get("potential") is not None:
            problem = previous.check_potential(inputs["potential"])
            if problem:
                return f"previous: {problem}"
            if settings.get("kind", previous.kind) != previous.kind:
                return f"previous: it is {previous.kind}, but settings.kind is {settings['kind']}"
        return message

    def option_words(self) -> list[str]:
        """Emptiness is on by default: leaving the word out would not switch it off."""
        off = self.settings().get("emptiness") is False
        return [*super().option_words(), *(["--no-emptiness"] if off else [])]

    def settings(self) -> dict[str, Any]:
        """An update keeps the kind."""
        settings = super().settings()
        if "previous" in self.inputs:
            settings.setdefault("kind", self.inputs.previous.kind)
        return settings

    def write_inputs(self, folder: Folder) -> list[str]:
        """One file with the union of the sets."""
        write_union(folder, INPUT_FILE, self.inputs.dataset)
        words = [POTENTIAL_FILE, INPUT_FILE, "-o", ACTIVE_SET_FILE, "--report", REPORT_FILE, *self.option_words()]
        if "seed" in self.inputs:
            words += ["--seed", str(self.inputs.seed.value)]
        return words + (["--previous", PREVIOUS_FILE] if "previous" in self.inputs else [])

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Also copy the previous active set."""
        calcinfo = super().prepare_for_submission(folder)
        if "previous" in self.inputs:
            calcinfo.local_copy_list.append((self.inputs.previous.uuid, self.inputs.previous.filename, PREVIOUS_FILE))
        return calcinfo


def check_local(settings: Mapping[str, Any], previous: ActiveSetData | None = None) -> str | None:
    """First thing that is wrong with an update of local active sets, or ``None``."""
    if previous is None:
        return None
    if previous.local is not None:
        return "previous: it is a local active set, which cannot be updated: leave `previous` out to build one anew"
    if settings.get("clusters") is not None or settings.get("group_key") is not None:
        return "settings: local active sets are always built anew; leave `previous` out"
    return None
