"""Port ``ensemble`` of the CalcJobs that can take an ensemble beside, or in place of, gamma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.data.ensemble import EnsembleData

ENSEMBLE_FILE = "ensemble.zip"


class WithEnsemble:
    """Adds the port, its check, its file and its words; stands before ``AceWorkerCalculation`` in the bases."""

    _ENSEMBLE_HELP = "If given, dE (eV/atom) and dF (eV/A) of each configuration are computed: info entries `dE`, `dF`."

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Port."""
        super().define(spec)
        spec.input("ensemble", valid_type=EnsembleData, required=False, help=cls._ENSEMBLE_HELP)

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse an ensemble that does not know the elements."""
        message = super().validate_inputs(inputs)
        if message or inputs.get("ensemble") is None:
            return message
        known = inputs["ensemble"].elements
        for name in ("potential", "configurations"):
            foreign = sorted(set(inputs[name].elements) - set(known)) if inputs.get(name) is not None else []
            if foreign and name == "configurations":
                return (
                    f"ensemble: does not know {', '.join(foreign)} of the configurations; it knows {', '.join(known)}"
                )
            if foreign:
                return f"ensemble: does not know {', '.join(foreign)} of the potential; it knows {', '.join(known)}"
        return None

    def ensemble_words(self) -> list[str]:
        """Words of the command line."""
        return ["--ensemble", ENSEMBLE_FILE] if "ensemble" in self.inputs else []

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Also copy the archive."""
        calcinfo = super().prepare_for_submission(folder)
        if "ensemble" in self.inputs:
            node = self.inputs.ensemble
            calcinfo.local_copy_list.append((node.uuid, node.filename, ENSEMBLE_FILE))
        return calcinfo
