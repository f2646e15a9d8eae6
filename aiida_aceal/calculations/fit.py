"""``aceal.fit``: fit the coefficients of a potential to labelled configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.worker_base import (
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    check_labels,
    dataset_port,
    potential_port,
    seed_port,
    settings_port,
    write_set,
    write_union,
)
from aiida_aceal.common.settings import check
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.fitting.settings import FitJobSettings

SETTINGS_FILE = "settings.yaml"
DATASET_FILE = "dataset.extxyz"
VALIDATION_FILE = "validation.extxyz"
FITTED_FILE = "fitted.yaml"
TEXT_REPORT_FILE = "report.txt"
ENSEMBLE_FILE = "ensemble.zip"
PARITY_FILE = "parity.npz"

#: keys of the worker's settings file that the CalcJob fills
FILLED = (
    "potential", "data", "validation", "output", "report", "text_report", "parity_plot", "parity_data",
    "ensemble_output", "seed", "threads",
)  # fmt: skip


class AceFitCalculation(AceWorkerCalculation):
    """Fit a potential; the start potential gives the basis and, for nonlinear fits, the first coefficients.

    ``settings`` are those of :class:`aiida_aceal.fitting.FitSettings` (``method``, ``weights``, ``regularization``,
    ``reference_energies``, ...) and ``validation_fraction``; with ``ensemble``
    (:class:`aiida_aceal.fitting.ensemble_settings.EnsembleSettings`) an ensemble on the same data is another output.
    ``retrieved`` keeps a readable report, ``report.txt``, and labels and predictions for parity plots, ``parity.npz``
    (thinned).
    """

    _SUBCOMMAND = "fit"
    _PARSER = "aceal.fit"
    _OUTPUTS = (FITTED_FILE, ENSEMBLE_FILE)

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        dataset_port(spec)
        spec.input(
            "validation",
            valid_type=ConfigurationsData,
            required=False,
            help="Configurations for validation only; never fitted.",
        )
        settings_port(spec, "Settings of the fit: method, weights, regularization, reference_energies, ...")
        seed_port(spec, required=False)
        spec.output("potential", valid_type=AcePotentialData, required=False, help="The fitted potential.")
        spec.output(
            "ensemble",
            valid_type=EnsembleData,
            required=False,
            help="The ensemble that `ensemble` of `settings` asks for.",
        )

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the fit itself would refuse, found before anything runs."""
        if inputs.get("settings") is None:
            return None
        settings = inputs["settings"].get_dict()
        for key in FILLED:
            if key in settings:
                return f"settings: '{key}' is filled by the CalcJob; use its input of that name"
        if settings.get("validation_fraction") is not None and inputs.get("validation") is not None:
            return "settings: give `validation_fraction` or the input `validation`, not both"
        return check(FitJobSettings, settings, "settings")

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse sets without the labels that the fit needs."""
        message = super().validate_inputs(inputs)
        if message:
            return message
        if not inputs.get("dataset"):
            return "dataset: give at least one set of configurations"
        weights = (inputs["settings"].get_dict() if inputs.get("settings") is not None else {}).get("weights") or {}
        needed = ["energy"]
        if weights.get("missing_forces") != "skip" and weights.get("kappa") != 0:
            needed.append("forces")
        return check_labels(inputs, *needed)

    def write_inputs(self, folder: Folder) -> list[str]:
        """Data files and the settings file."""
        write_union(folder, DATASET_FILE, self.inputs.dataset)
        settings: dict[str, Any] = {
            **self.settings(),
            "potential": POTENTIAL_FILE,
            "data": [DATASET_FILE],
            "output": FITTED_FILE,
            "report": REPORT_FILE,
            "text_report": TEXT_REPORT_FILE,
            "parity_data": PARITY_FILE,
        }
        if settings.get("ensemble") is not None:
            settings["ensemble_output"] = ENSEMBLE_FILE
        if "validation" in self.inputs:
            write_set(folder, VALIDATION_FILE, self.inputs.validation)
            settings["validation"] = [VALIDATION_FILE]
        if "seed" in self.inputs:
            settings["seed"] = self.inputs.seed.value
        with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
            yaml.safe_dump(settings, handle, sort_keys=True)
        return [SETTINGS_FILE]

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Also keep the readable report and what parity plots are drawn from."""
        calcinfo = super().prepare_for_submission(folder)
        calcinfo.retrieve_list += [TEXT_REPORT_FILE, PARITY_FILE]
        return calcinfo
