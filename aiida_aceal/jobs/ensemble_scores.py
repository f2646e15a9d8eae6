"""dE and dF of configurations that pass through a worker command, and their distribution for its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms


class EnsembleScores:
    """Writes ``dE`` (eV/atom) and ``dF`` (eV/Angstrom) into the info of configurations that arrive in pieces."""

    def __init__(self, path: str | Path) -> None:
        """Read the ensemble.

        :raises AceError: no such file, or no ensemble.
        """
        from aiida_aceal.fitting.ensemble import Ensemble

        self.path = str(path)
        self.ensemble = Ensemble.load(path)
        self.values: list[tuple[float, float]] = []

    def add(self, frames: Sequence[Atoms]) -> None:
        """Score configurations in place.

        :raises AceError: an element the members do not know, or deviations that are not finite.
        """
        from aiida_aceal.common.configurations import check_elements
        from aiida_aceal.common.errors import NotFiniteError

        check_elements(frames, self.ensemble.elements, f"ensemble {self.path}")
        for atoms, dE, dF in zip(frames, *self.ensemble.indicators(frames)):
            if not np.isfinite([dE, dF]).all():
                raise NotFiniteError(
                    f"structure {len(self.values)}: energies or forces of the members of {self.path} are not finite; "
                    "look for atoms on top of each other or a broken member"
                )
            atoms.info["dE"], atoms.info["dF"] = float(dE), float(dF)
            self.values.append((float(dE), float(dF)))

    def report(self) -> dict[str, Any]:
        """Members, thresholds, and for ``dE`` and ``dF``: max, median, q90 and the number above the threshold."""
        facts: dict[str, Any] = {
            "members": len(self.ensemble),
            "method": self.ensemble.method,
            "use": self.ensemble.use,
            "thresholds": dict(self.ensemble.thresholds),
        }
        for name, key, column in zip(("dE", "dF"), ("energy", "forces"), np.array(self.values).reshape(-1, 2).T):
            if not column.size:
                continue
            median, q90 = (float(x) for x in np.quantile(column, [0.5, 0.9]))
            facts[name] = {"max": float(column.max()), "median": median, "q90": q90}
            if key in self.ensemble.thresholds:
                facts[name]["n_above"] = int((column > self.ensemble.thresholds[key]).sum())
        return facts
