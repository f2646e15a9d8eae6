"""``aceal.label.ase``: reference labels of a batch of configurations by any ASE calculator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.job import AceJobCalculation
from aiida_aceal.jobs.label import JOB
from aiida_aceal.labels.settings import AseLabelSettings

#: part of the wall time for labels; what is done by then is kept
BUDGET_FRACTION = 0.85


class AceLabelAseCalculation(AceJobCalculation):
    """Label a batch, in parallel over the cores of the job; a configuration that fails costs only itself.

    ``settings``: :class:`aiida_aceal.labels.settings.AseLabelSettings`. The time for all labels follows from the wall
    time of the job.
    """

    JOB = replace(JOB, node_settings=AseLabelSettings)
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
        spec.exit_code(
            310, "ERROR_NOTHING_LABELLED", message="No configuration could be labelled: {message}",
            invalidates_cache=True,
        )  # fmt: skip

    def worker_settings(self) -> dict[str, Any]:
        """As the base, with the time for all labels."""
        seconds = self.inputs.metadata.options.get("max_wallclock_seconds")
        budget = {"budget": max(1.0, BUDGET_FRACTION * seconds)} if seconds else {}
        return {**super().worker_settings(), **budget}

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """As the base, plus the calculator's own files."""
        calcinfo = super().prepare_for_submission(folder)
        for node in self.inputs.get("files", {}).values():
            calcinfo.local_copy_list.append((node.uuid, node.filename, node.filename))
        return calcinfo
