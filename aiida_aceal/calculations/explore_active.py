"""``aceal.explore.active``: move atoms until the largest gamma reaches a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.explore_base import STRUCTURES_FILE, AceExploreCalculation
from aiida_aceal.calculations.worker_base import configurations_port, n_threads, seed_port, write_set


class AceExploreActiveCalculation(AceExploreCalculation):
    """Active exploration (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Sec. V.C).

    All cores of the job search at once; the result does not depend on how many there are. If ``settings`` name
    ``gamma_hi`` but no ``target_gamma`` that fits below it, the target is the middle of the window.
    """

    _MODE = "active"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        configurations_port(spec, "Where searches start.")
        seed_port(spec)

    @classmethod
    def read_settings(cls, values: Mapping[str, Any]) -> Any:
        """Checked settings of active exploration."""
        from aiida_aceal.exploration.settings import active_settings

        return active_settings(with_target(values))

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse what the resources of the job decide."""
        if inputs.get("settings") is not None and "workers" in inputs["settings"].get_dict():
            return "settings: 'workers' is the number of cores in metadata.options.resources"
        return super().check_settings(inputs)

    def structures(self, folder: Folder) -> dict[str, Any]:
        """The start configurations."""
        write_set(folder, STRUCTURES_FILE, self.inputs.configurations)
        return {
            **with_target(self.settings()),
            "structures": [STRUCTURES_FILE],
            "seed": self.inputs.seed.value,
            "workers": n_threads(self.inputs.metadata.options),
        }


def with_target(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings whose target lies inside the window, if the window was given and the target was not."""
    from aiida_aceal.exploration.active import ActiveSettings
    from aiida_aceal.exploration.search import SearchSettings

    result = dict(values)
    high, default = values.get("gamma_hi"), SearchSettings()
    if "target_gamma" in values or not isinstance(high, (int, float)) or high > default.window[1]:
        return result
    low = values.get("gamma_lo", ActiveSettings.gamma_lo)
    if isinstance(low, (int, float)) and low < high:
        result["target_gamma"] = 0.5 * (low + high)
        result.setdefault("target_tolerance", min(1.0, 0.25 * (high - low)))
    return result
