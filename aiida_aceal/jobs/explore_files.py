"""What stands in the settings file of ``aceal-worker explore``."""

from __future__ import annotations

from typing import Literal

from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.exploration.active import ActiveSettings
from aiida_aceal.exploration.pool import PoolSettings
from aiida_aceal.properties.candidates import PropertyPoolSettings


class ExploreFiles(Settings):
    """Files of an exploration; relative paths start from the working directory."""

    potential: str = setting(help="The potential.")
    active_set: str = setting(help="The active set of the potential.")
    structures: str | tuple[str, ...] = setting(
        help="Configurations that searches start from (active), the pool itself, or crystals (properties).",
        items=(1, None),
    )
    output: str = setting(help="Extended XYZ with the candidates: array gamma, info gamma_max, source, kind.")
    report: str | None = setting(None, "JSON report.")
    energy_key: str | None = setting(None, "Info entry with the energies; by default ASE's usual place.")
    forces_key: str | None = setting(None, "Array with the forces; by default ASE's usual place.")
    stress_key: str | None = setting(None, "Info entry with the stresses; by default ASE's usual place.")

    def listed(self, name: str) -> list[str]:
        """The files under a key, given as one name or several."""
        value = getattr(self, name)
        return [value] if isinstance(value, str) else list(value or ())


class ActiveFile(ActiveSettings, ExploreFiles):
    """Settings file of mode active."""

    heading = "File of `aceal-worker explore`, mode active"

    mode: Literal["active"] = setting(help="The mode.")
    active_set_output: str | None = setting(None, "Active set with all finds.")
    seed: int = setting(0, "Random seed, the only source of randomness.", ge=0)


class PoolFile(PoolSettings, ExploreFiles):
    """Settings file of mode pool."""

    heading = "File of `aceal-worker explore`, mode pool"

    mode: Literal["pool"] = setting(help="The mode.")
    known: str | tuple[str, ...] = setting((), "Files whose structures are dropped from the pool.")


class PropertiesFile(PropertyPoolSettings, ExploreFiles):
    """Settings file of mode properties."""

    heading = "File of `aceal-worker explore`, mode properties"

    mode: Literal["properties"] = setting(help="The mode.")
    tests: str | tuple[str, ...] = setting((), "Files whose structures are no candidates.")
