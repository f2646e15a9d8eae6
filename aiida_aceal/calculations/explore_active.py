"""``aceal.explore.active``: move atoms until the largest gamma reaches a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec

from aiida_aceal.calculations.explore_base import STRUCTURES_FILE, AceExploreCalculation
from aiida_aceal.calculations.worker_base import configurations_port, n_threads, seed_port, write_set
from aiida_aceal.exploration.active import ActiveSettings


class AceExploreActiveCalculation(AceExploreCalculation):
    """Active exploration (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Sec. V.C).

    All cores of the job search at once; the result does not depend on how many there are. Without ``target_gamma`` in
    ``settings`` the target follows from the window (:func:`aiida_aceal.exploration.search.target_in_window`).
    """

    _MODE = "active"
    _MODEL = ActiveSettings

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:
        """Ports."""
        super().define(spec)
        configurations_port(spec, "Configurations that searches start from.")
        seed_port(spec)

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse what the resources of the job decide."""
        if inputs.get("settings") is not None and "workers" in inputs["settings"].get_dict():
            return "settings: leave 'workers' out; it is the number of cores in metadata.options.resources"
        return super().check_settings(inputs)

    def structures(self, folder: Folder) -> dict[str, Any]:
        """The start configurations."""
        write_set(folder, STRUCTURES_FILE, self.inputs.configurations)
        return {
            **self.settings(),
            "structures": [STRUCTURES_FILE],
            "seed": self.inputs.seed.value,
            "workers": n_threads(self.inputs.metadata.options),
        }
