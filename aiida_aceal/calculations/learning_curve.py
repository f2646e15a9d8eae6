"""``aceal.learning_curve``: errors on a test set while one strategy, with one seed, chooses from a labelled pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from aiida import orm
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.ace.errors import AceError
from aiida_aceal.calculations.worker_base import (
    POTENTIAL_FILE,
    REPORT_FILE,
    AceWorkerCalculation,
    potential_port,
    seed_port,
    settings_port,
    write_set,
)
from aiida_aceal.common.configurations import unknown_elements
from aiida_aceal.data.dataset import ConfigurationsData

SETTINGS_FILE = "settings.yaml"


class ComparisonCalculation(AceWorkerCalculation):
    """A worker command on a basis, two labelled sets and a file of settings; the output ``report`` is its result."""

    #: first set: name of the port, and what it is; the other is ``test``
    _SET = ("pool", "Labelled configurations to choose from.")
    _SETTINGS_HELP = ""
    _SETTINGS_REQUIRED = False

    @classmethod
    def settings_class(cls) -> Any:
        """Class of the settings, with a method ``read`` that raises ``AceError``."""
        raise NotImplementedError

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        potential_port(spec)
        set_ports(spec, *cls._SET)
        settings_port(spec, cls._SETTINGS_HELP, required=cls._SETTINGS_REQUIRED)
        seed_port(spec)

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What the worker would refuse, found before anything runs."""
        if inputs.get("settings") is None:
            return None
        try:
            cls.settings_class().read(inputs["settings"].get_dict())
        except AceError as error:
            return str(error)
        return None

    @classmethod
    def check_elements(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also labels: both sets must have energies and forces."""
        return check_sets(inputs, cls._SET[0])

    def write_inputs(self, folder: Folder) -> list[str]:
        """Both sets and the settings file."""
        settings = {
            **self.settings(),
            "potential": POTENTIAL_FILE,
            "output": REPORT_FILE,
            "seed": self.inputs.seed.value,
        }
        for name in (self._SET[0], "test"):
            settings[name] = [f"{name}.extxyz"]
            write_set(folder, f"{name}.extxyz", self.inputs[name])
        with folder.open(SETTINGS_FILE, "w", encoding="utf-8") as handle:
            yaml.safe_dump(settings, handle, sort_keys=True)
        return [SETTINGS_FILE]


class AceLearningCurveCalculation(ComparisonCalculation):
    """Learning curve of one (strategy, seed); the output ``report`` is the curve.

    ``settings`` are those of :class:`aiida_aceal.selection.compare.CurveSettings`: ``strategy``, ``options``,
    ``sizes``, ``unit``, ``fit``, ...
    """

    _SUBCOMMAND = "learning-curve"
    _PARSER = "aceal.learning_curve"
    _SETTINGS_HELP = "`strategy`, `sizes`, `fit`, ..."
    _SETTINGS_REQUIRED = True

    @classmethod
    def settings_class(cls) -> Any:
        """Settings of a curve."""
        from aiida_aceal.selection.compare import CurveSettings

        return CurveSettings


def set_ports(spec: Any, name: str = "pool", text: str = "Labelled configurations to choose from.") -> None:
    """Ports ``pool`` (or another name) and ``test``."""
    spec.input(name, valid_type=ConfigurationsData, help=text)
    spec.input("test", valid_type=ConfigurationsData, help="Labelled configurations that are never chosen.")


def check_sets(inputs: Mapping[str, Any], first: str = "pool") -> str | None:
    """Elements the potential does not know, missing labels, configurations that are in both sets."""
    potential, pool, test = (inputs.get(name) for name in ("potential", first, "test"))
    for name, node in ((first, pool), ("test", test)):
        if not isinstance(node, ConfigurationsData):
            continue
        message = unknown_elements(node.elements, potential.elements) if potential is not None else None
        if message:
            return f"{name}: {message}"
        if not node.has_labels("energy", "forces"):
            return f"{name}: not all configurations have energy and forces; label them first"
    if isinstance(pool, ConfigurationsData) and isinstance(test, ConfigurationsData):
        both = set(pool.hashes) & set(test.hashes)
        if both:
            return f"{len(both)} configurations are in both {first} and test; remove them from one"
    return None


def curve_of(process: orm.ProcessNode | None) -> orm.Dict | None:
    """The curve of a finished job."""
    if process is None or not process.is_finished_ok or "report" not in process.outputs:
        return None
    return process.outputs.report
