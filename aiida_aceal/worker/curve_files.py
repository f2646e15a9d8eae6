"""What stands in the settings files of ``aceal-worker learning-curve`` and ``compare-uncertainty``."""

from __future__ import annotations

from typing import Any

from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.selection.compare import CurveSettings
from aiida_aceal.selection.indicators import IndicatorSettings


class SetFiles(Settings):
    """Files of a comparison; relative paths start from the working directory."""

    potential: str | dict[str, Any] = setting(help="Basis that is fitted, or its description (elements, cutoff, ...).")
    test: str | tuple[str, ...] = setting(help="Labelled configurations that are never learnt.", items=(1, None))
    output: str = setting(help="JSON file with the numbers.")
    seed: int = setting(0, "Random seed, the only source of randomness.", ge=0)
    energy_key: str | None = setting(None, "Info entry with the energies; by default ASE's usual place.")
    forces_key: str | None = setting(None, "Array with the forces; by default ASE's usual place.")


class CurveFile(CurveSettings, SetFiles):
    """Settings file of a learning curve."""

    heading = "File of `aceal-worker learning-curve`"

    pool: str | tuple[str, ...] = setting(help="Labelled configurations to choose from.", items=(1, None))


class ComparisonFile(IndicatorSettings, SetFiles):
    """Settings file of a comparison of indicators."""

    heading = "File of `aceal-worker compare-uncertainty`"

    train: str | tuple[str, ...] = setting(
        help="Labelled configurations from which the fit, the active sets and the ensemble are made.", items=(1, None)
    )
