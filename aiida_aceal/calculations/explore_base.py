"""What ``aceal.explore.active`` and ``aceal.explore.pool`` share: the settings file of ``aceal-worker explore``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ACTIVE_SET_FILE,
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    active_set_port,
    potential_port,
    settings_port,
)
from aiida_aceal.data.dataset import ConfigurationsData

SETTINGS_FILE = "settings.yaml"
STRUCTURES_FILE = "structures.extxyz"
CANDIDATES_FILE = "candidates.extxyz"


class AceExploreCalculation(AceWorkerCalculation):
    """Base of explorers that are one run of ``aceal-worker explore``."""

    _SUBCOMMAND = "explore"
    _PARSER = "aceal.explore"
    _OUTPUTS = (CANDIDATES_FILE,)
    _MODE = ""
    #: keys of ``settings`` that the worker does not know
    _OWN_KEYS: tuple[str, ...] = ()

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        active_set_port(spec)
        settings_port(spec, f"Keys of mode `{cls._MODE}`: see `aceal-worker explore --keys`.")
        spec.output(
            "candidates",
            valid_type=ConfigurationsData,
            required=False,
            help="The configurations found, with gamma of each atom; absent if there are none.",
        )

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the worker would refuse, found before anything runs."""
        from aiida_aceal.worker.explore_files import ActiveFile, PoolFile

        values = inputs["settings"].get_dict() if inputs.get("settings") is not None else {}
        for key in values:
            if key not in cls._MODEL.model_fields and key in {**ActiveFile.model_fields, **PoolFile.model_fields}:
                return f"settings: '{key}' is filled by the CalcJob; use its input of that name"
        return super().check_settings(inputs)

    def structures(self, folder: Folder) -> dict[str, Any]:
        """Write structures; returns what else the settings file needs."""
        raise NotImplementedError

    def write_inputs(self, folder: Folder) -> list[str]:
        """Structures and the settings file."""
        settings = {
            **{key: value for key, value in self.settings().items() if key not in self._OWN_KEYS},
            "mode": self._MODE,
            "potential": POTENTIAL_FILE,
            "active_set": ACTIVE_SET_FILE,
            "output": CANDIDATES_FILE,
            "report": REPORT_FILE,
            **self.structures(folder),
        }
        with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
            yaml.safe_dump(settings, handle, sort_keys=True)
        return [SETTINGS_FILE]
