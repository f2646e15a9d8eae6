"""``aceal.extract``: small cells about the unknown atoms of structures too large for a label."""

from __future__ import annotations

import yaml
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    ACTIVE_SET_FILE,
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    active_set_port,
    configurations_port,
    potential_port,
    settings_port,
    write_set,
)
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.exploration.extract import ExtractSettings

INPUT_FILE = "structures.extxyz"
SETTINGS_FILE = "settings.yaml"
CELLS_FILE = "cells.extxyz"


class AceExtractCalculation(AceWorkerCalculation):
    """Cut local environments out of large configurations; those that are small enough pass as they are.

    ``settings`` are those of :class:`aiida_aceal.exploration.extract.ExtractSettings`: ``gamma_lo``, ``max_atoms``,
    ``mode``, ...
    """

    _SUBCOMMAND = "extract"
    _PARSER = "aceal.extract"
    _OUTPUTS = (CELLS_FILE,)
    _MODEL = ExtractSettings

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        active_set_port(spec)
        configurations_port(spec, "Configurations that may be too large to label.")
        settings_port(spec, "`gamma_lo`, `max_atoms`, `mode`, ...: see `aceal-worker extract --help`.")
        spec.output(
            "candidates",
            valid_type=ConfigurationsData,
            required=False,
            help="The cells, with gamma of each atom; absent if no atom is above gamma_lo.",
        )

    def write_inputs(self, folder: Folder) -> list[str]:
        """Configurations and settings."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
            yaml.safe_dump(self.settings(), handle, sort_keys=True)
        words = [POTENTIAL_FILE, ACTIVE_SET_FILE, INPUT_FILE, "-o", CELLS_FILE]
        return [*words, "--settings", SETTINGS_FILE, "--report", REPORT_FILE]
