"""``aceal.sample``: a labelled hold-out set from molecular dynamics with the reference method."""

from __future__ import annotations

import json

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    REPORT_FILE,
    AceWorkerCalculation,
    configurations_port,
    seed_port,
    settings_port,
    write_set,
)
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.worker.settings import SampleSettings

INPUT_FILE = "start.extxyz"
SAMPLES_FILE = "samples.extxyz"


class AceSampleCalculation(AceWorkerCalculation):
    """Snapshots of NVT dynamics with an ASE calculator, labelled.

    ``settings``: ``calculator`` (required) and its arguments ``kwargs``, ``temperature`` ([first, last], K), ``steps``,
    ``interval``, ``timestep`` (ps).
    """

    _SUBCOMMAND = "sample"
    _PARSER = "aceal.sample"
    _MODEL = SampleSettings
    _OUTPUTS = (SAMPLES_FILE,)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        configurations_port(spec, "Where the runs start, one for each.")
        settings_port(spec, "`calculator`, `kwargs`, `temperature`, `steps`, `interval`, `timestep`.", required=True)
        seed_port(spec)
        spec.output("labelled", valid_type=ConfigurationsData, required=False, help="Labelled snapshots.")

    def write_inputs(self, folder: Folder) -> list[str]:
        """Start configurations and the words of the command line."""
        write_set(folder, INPUT_FILE, self.inputs.configurations)
        settings = self.settings()
        words = [INPUT_FILE, "--calculator", settings["calculator"], "-o", SAMPLES_FILE, "--report", REPORT_FILE]
        if settings.get("kwargs"):
            words += ["--settings", json.dumps(settings["kwargs"], sort_keys=True)]
        if "temperature" in settings:
            words += ["--temperature", *(str(value) for value in settings["temperature"])]
        for key in ("steps", "interval", "timestep"):
            if key in settings:
                words += [f"--{key}", str(settings[key])]
        return [*words, "--seed", str(self.inputs.seed.value)]
