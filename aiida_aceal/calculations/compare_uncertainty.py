"""``aceal.compare_uncertainty``: active sets and ensembles grade a labelled set, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.ace.errors import AceError
from aiida_aceal.calculations.learning_curve import SETTINGS_FILE, TEST_FILE, check_sets, set_ports
from aiida_aceal.calculations.worker_base import (
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    potential_port,
    seed_port,
    settings_port,
    write_set,
)

TRAIN_FILE = "train.extxyz"


class AceCompareUncertaintyCalculation(AceWorkerCalculation):
    """Fit to ``train``, grade ``test`` with all indicators; the output ``report`` is the comparison.

    ``settings`` are those of :class:`aiida_aceal.selection.indicators.IndicatorSettings`: ``indicators``, ``clusters``,
    ``gamma_threshold``, ``fit``, ``ensemble``, ...
    """

    _SUBCOMMAND = "compare-uncertainty"
    _PARSER = "aceal.compare_uncertainty"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        set_ports(spec, "train", "Labelled configurations that fit, active sets and ensemble are made from.")
        settings_port(spec, "`indicators`, `clusters`, `gamma_threshold`, `fit`, `ensemble`, ...")
        seed_port(spec)

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the worker would refuse, found before anything runs."""
        from aiida_aceal.selection.indicators import IndicatorSettings

        if inputs.get("settings") is None:
            return None
        try:
            IndicatorSettings.read(inputs["settings"].get_dict())
        except AceError as error:
            return str(error)
        return None

    @classmethod
    def check_elements(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also labels: both sets must have energies and forces."""
        return check_sets(inputs, "train")

    def write_inputs(self, folder: Folder) -> list[str]:
        """Both sets and the settings file."""
        write_set(folder, TRAIN_FILE, self.inputs.train)
        write_set(folder, TEST_FILE, self.inputs.test)
        settings = {
            **self.settings(),
            "potential": POTENTIAL_FILE,
            "train": [TRAIN_FILE],
            "test": [TEST_FILE],
            "output": REPORT_FILE,
            "seed": self.inputs.seed.value,
        }
        with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
            yaml.safe_dump(settings, handle, sort_keys=True)
        return [SETTINGS_FILE]
