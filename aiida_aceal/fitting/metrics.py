"""Errors of a potential on labelled structures: RMSE, MAE, max of E per atom, force components, virial per atom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aiida_aceal.ace import AceModel

from .checks import stand_out
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


def label_spread(counts: np.ndarray, energies: np.ndarray, forces: Sequence[np.ndarray | None]) -> dict[str, float]:
    """What errors are to be compared with: how far the labels themselves spread.

    Parameters
    ----------
    counts
        Atoms of each element, [M, elements].
    energies
        Of the structures, eV [M].
    forces
        [n, 3] of each structure, eV/Angstrom, or None.

    Returns
    -------
    ``energy``: standard deviation of the energy per atom, eV/atom, without what a sum of energies of the elements
    explains; ``forces``: of the force components, eV/Angstrom, where there are any.
    """
    n = counts.sum(1)
    shares, y = counts / n[:, None], np.asarray(energies, dtype=float) / n
    left = y - shares @ np.linalg.lstsq(shares, y, rcond=1e-8)[0]
    found = {"energy": float(np.sqrt(np.mean(left**2)))}
    flat = [np.asarray(f).ravel() for f in forces if f is not None]
    if flat:
        found["forces"] = float(np.std(np.concatenate(flat)))
    return found


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
        """``n_structures``, ``n_atoms``, ``spread`` (`label_spread`) and, for each kind of label, `summarise`."""
        result: dict = {"n_structures": len(self.data), "n_atoms": int(self.data.n_atoms.sum())}
        result["energy"] = summarise(self.energy_errors())
        for name, errors in (("forces", self.force_errors()), ("virial", self.virial_errors())):
            flat = np.concatenate([e.ravel() for e in errors]) if errors else np.zeros(0)
            if flat.size:
                result[name] = summarise(flat)
        result["spread"] = label_spread(self.data.counts, self.data.energies, self.data.forces)
        return result

    def far_off(self, count: int = 10) -> list[dict]:
        """The structures whose errors stand out from those of the others (`aiida_aceal.fitting.checks.stand_out`)."""
        forces = [float(np.sqrt(np.mean(x**2))) if x.size else 0.0 for x in self.force_errors()]
        return stand_out(np.abs(self.energy_errors()), np.array(forces), self.data.names)[:count]

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
