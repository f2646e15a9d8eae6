"""Errors of a potential on labelled structures: RMSE, MAE, max of E per atom, force components, virial per atom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aiida_aceal.ace import AceModel

from .labels import LabelledSet, reference_sum

UNITS = {"energy": "eV/atom", "forces": "eV/A", "virial": "eV/atom"}


def summarise(errors: np.ndarray) -> dict[str, float]:
    """``rmse``, ``mae``, ``max`` (absolute) and the number ``n`` of errors; empty for none."""
    errors = np.abs(np.asarray(errors, dtype=float)).ravel()
    if errors.size == 0:
        return {}
    return {
        "rmse": float(np.sqrt(np.mean(errors**2))),
        "mae": float(np.mean(errors)),
        "max": float(errors.max()),
        "n": int(errors.size),
    }


@dataclass
class Predictions:
    """What a potential says to a labelled set.

    ``energies`` [M] eV with reference energies; ``forces`` list of [n, 3]; ``virials`` list of [6] (dE/dstrain, eV).
    """

    data: LabelledSet
    energies: np.ndarray
    forces: list[np.ndarray]
    virials: list[np.ndarray]

    def energy_errors(self) -> np.ndarray:
        """Predicted minus labelled energy per atom [M], eV/atom."""
        return (self.energies - self.data.energies) / self.data.n_atoms

    def force_errors(self) -> list[np.ndarray]:
        """Predicted minus labelled forces of each structure that has them (else [0, 3])."""
        return [np.zeros((0, 3)) if b is None else a - b for a, b in zip(self.forces, self.data.forces)]

    def virial_errors(self) -> list[np.ndarray]:
        """Predicted minus labelled virial per atom of each structure that has one (else empty)."""
        n = self.data.n_atoms
        return [np.zeros(0) if b is None else (a - b) / m for a, b, m in zip(self.virials, self.data.virials, n)]

    def metrics(self) -> dict:
        """``n_structures``, ``n_atoms`` and, for each kind of label there is, `summarise` of its errors."""
        result = {"n_structures": len(self.data), "n_atoms": int(self.data.n_atoms.sum())}
        result["energy"] = summarise(self.energy_errors())
        for name, errors in (("forces", self.force_errors()), ("virial", self.virial_errors())):
            flat = np.concatenate([e.ravel() for e in errors]) if errors else np.zeros(0)
            if flat.size:
                result[name] = summarise(flat)
        return result

    def worst(self, count: int) -> list[dict]:
        """The structures with the largest errors, half by energy per atom, half by force component."""
        e = np.abs(self.energy_errors())
        f = np.array([np.abs(x).max(initial=0.0) for x in self.force_errors()])
        # ties are broken by position, so that a report is reproducible
        by_energy, by_forces = (np.lexsort((np.arange(len(x)), -x)) for x in (e, f))
        chosen: dict[int, str] = {}
        for k_e, k_f in zip(by_energy, by_forces):
            for k, why in ((int(k_e), "energy"), (int(k_f), "forces")):
                if len(chosen) < count:
                    chosen.setdefault(k, why)
        return [
            {
                "index": int(self.data.kept[k]),
                "name": self.data.names[k],
                "formula": self.data.structures[k].get_chemical_formula(),
                "n_atoms": int(self.data.n_atoms[k]),
                "largest": why,
                "energy_error": float(e[k]),
                "max_force_error": float(f[k]),
            }
            for k, why in chosen.items()
        ]

    def parity(self, limit: int = 20_000, seed: int = 0) -> dict[str, np.ndarray]:
        """Reference and predicted values for parity plots; more than ``limit`` force components are thinned.

        ``energy`` [M, 2] eV/atom, ``forces`` [N, 2] eV/Angstrom, ``virial`` [N, 2] eV/atom.
        """
        n = self.data.n_atoms
        out = {"energy": np.stack([self.data.energies / n, self.energies / n], axis=1)}
        pairs = [(b.ravel(), a.ravel()) for a, b in zip(self.forces, self.data.forces) if b is not None]
        if pairs:
            values = np.stack([np.concatenate(x) for x in zip(*pairs)], axis=1)
            if len(values) > limit:
                keep = np.random.default_rng(seed).choice(len(values), limit, replace=False)
                values = values[np.sort(keep)]
            out["forces"] = values
        pairs = [(b / m, a / m) for a, b, m in zip(self.virials, self.data.virials, n) if b is not None]
        if pairs:
            out["virial"] = np.stack([np.concatenate(x) for x in zip(*pairs)], axis=1)
        return out


def predict(model: AceModel, data: LabelledSet, reference: Mapping[str, float]) -> Predictions:
    """Evaluate ``model`` on every structure of ``data``."""
    results = model.evaluate_batch(data.structures, forces=True, stress=False)
    energies = np.array([r.energy for r in results]) + reference_sum(data, reference)
    return Predictions(data, energies, [r.forces for r in results], [r.virial for r in results])
