"""Settings of the jobs that label and sample."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from aiida_aceal.common.plausible import HOTTEST, LONGEST_STEP
from aiida_aceal.common.settings import Settings, setting


class LabelSettings(Settings):
    """What all labels have in common."""

    energy: Literal["extrapolated", "free"] = setting(
        "extrapolated", "Energy at zero smearing, or the free energy whose derivative the forces are."
    )
    stress: bool = setting(True, "Whether the stress is computed.")
    max_force: float | None = setting(None, "Labels with a larger force are refused.", unit="eV/A", gt=0)


class AseLabelSettings(LabelSettings):
    """Labels by an ASE calculator."""

    heading = "Labels: `settings` of `aceal.label.ase`"

    calculator: str = setting(help="ASE calculator: a short name (emt, tblite, gpaw, ...) or package.module:Class.")
    kwargs: dict[str, Any] | None = setting(None, "Arguments of the calculator.")
    workers: int | None = setting(None, "Number of parallel processes; by default as many as there are cores.", ge=1)
    timeout: float | None = setting(
        None, "Time limit for one configuration; default: from its size and the times of the others.", unit="s", gt=0
    )

    @model_validator(mode="after")
    def _named(self) -> AseLabelSettings:
        if not self.calculator:
            raise ValueError("calculator: name an ASE calculator, such as 'emt' or 'tblite'")
        return self


class LabelJobSettings(AseLabelSettings):
    """Labels by an ASE calculator, in a limited time."""

    heading = "Labels: `aceal-worker label`"

    budget: float | None = setting(
        None, "Time limit for all configurations; what is done by then is kept.", unit="s", gt=0
    )


class SampleSettings(Settings):
    """Snapshots of dynamics with an ASE calculator at constant volume."""

    heading = "Hold-out sets by dynamics: `settings` of `aceal.sample`"

    calculator: str = setting(help="ASE calculator: a short name (emt, tblite, gpaw, ...) or package.module:Class.")
    kwargs: dict[str, Any] | None = setting(None, "Arguments of the calculator.")
    temperature: tuple[float, float] = setting(
        (300.0, 300.0), "Temperature at the first and at the last step.", unit="K", ge=0, le=HOTTEST
    )
    steps: int = setting(500, "Steps of each run.", ge=1)
    interval: int = setting(25, "Steps between snapshots.", ge=1)
    timestep: float = setting(0.002, "Time step; usual: 0.0005 to 0.005.", unit="ps", gt=0, le=LONGEST_STEP)

    @model_validator(mode="after")
    def _reached(self) -> SampleSettings:
        if self.interval > self.steps:
            raise ValueError(f"interval ({self.interval}) must not be larger than steps ({self.steps})")
        return self
