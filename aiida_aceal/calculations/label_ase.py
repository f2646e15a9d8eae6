"""``aceal.label.ase``: reference labels of a batch of configurations by any ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.job import AceJobCalculation
from aiida_aceal.jobs.label import JOB, PROGRESS_FILE
from aiida_aceal.labels.settings import AseLabelSettings

#: part of the wall time for labels; what is done by then is kept
BUDGET_FRACTION = 0.85


class AceLabelAseCalculation(AceJobCalculation):
    """Label a batch, in parallel over the cores of the job; a configuration that fails costs only itself.

    ``settings``: :class:`aiida_aceal.labels.settings.AseLabelSettings`. The time for all labels follows from the wall
    time of the job. Labels are written one by one. A job that ended before all were tried, or in which some failed for
    a reason that may pass, has exit code 311, its labels as ``labelled``, and ``progress``: with it as an input, the
    next job computes only the rest. Where nothing could be retrieved, ``parent_folder`` does the same.
    """

    JOB = replace(JOB, node_settings=AseLabelSettings)
    #: entry point of the WorkChain that campaigns run it under
    RESTART = "aceal.restart.label"
    _PARSER = "aceal.label.ase"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Files of the calculator, and the exit code of a batch without a single label."""
        super().define(spec)
        spec.input_namespace(
            "files",
            valid_type=orm.SinglefileData,
            dynamic=True,
            required=False,
            help="Files that the calculator reads, such as the potential of `eam`; `kwargs` refer to them by "
            "file name.",
        )
        spec.input(
            "progress",
            valid_type=orm.SinglefileData,
            required=False,
            help="Labels that an earlier job has made (its output `progress`); not computed again if they are by "
            "the same method.",
        )
        spec.input(
            "parent_folder",
            valid_type=orm.RemoteData,
            required=False,
            help="Work folder of an earlier job of which nothing could be retrieved; the labels in it count as those "
            "of `progress`.",
        )
        spec.output(
            "progress",
            valid_type=orm.SinglefileData,
            required=False,
            help="Labels made so far, of a job that left something out.",
        )
        spec.exit_code(
            310, "ERROR_NOTHING_LABELLED", message="No configuration could be labelled: {message}",
            invalidates_cache=True,
        )  # fmt: skip
        spec.exit_code(
            311, "ERROR_LABELS_INCOMPLETE",
            message="{message}; `labelled` has the labels made, `progress` as an input continues from there",
            invalidates_cache=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """As the base; an earlier job may be named in one way only."""
        if inputs.get("progress") is not None and inputs.get("parent_folder") is not None:
            return "give either `progress` or `parent_folder`, not both"
        return super().validate_inputs(inputs)

    def worker_settings(self) -> dict[str, Any]:
        """As the base, with the time for all labels."""
        seconds = self.inputs.metadata.options.get("max_wallclock_seconds")
        budget = {"budget": max(1.0, BUDGET_FRACTION * seconds)} if seconds else {}
        return {**super().worker_settings(), **budget}

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """As the base, plus the calculator's own files and the labels that are there already."""
        calcinfo = super().prepare_for_submission(folder)
        # it becomes part of `labelled`, or an output node: no third copy
        calcinfo.retrieve_list.remove(PROGRESS_FILE)
        calcinfo.retrieve_temporary_list.append(PROGRESS_FILE)
        if "progress" in self.inputs:
            node = self.inputs.progress
            calcinfo.local_copy_list.append((node.uuid, node.filename, PROGRESS_FILE))
        if "parent_folder" in self.inputs:
            parent = self.inputs.parent_folder
            path = str(PurePosixPath(parent.get_remote_path()) / PROGRESS_FILE)
            calcinfo.remote_copy_list = [(parent.computer.uuid, path, PROGRESS_FILE)]
        for node in self.inputs.get("files", {}).values():
            calcinfo.local_copy_list.append((node.uuid, node.filename, node.filename))
        return calcinfo
