"""What the training set looks like to the current model: the scale on which `viability` judges candidates.

Energies per atom are means over the atoms of a cell: those of N atoms spread by ``s(N)^2 = s_0^2 + s_1^2 / N``, where
``s_1`` is the spread of one atom (thermal, independent from atom to atom: 1 / sqrt(N)) and ``s_0`` that of the
structures as wholes (volumes, phases, defects), which no number of atoms averages out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.words import counted

#: fewer reference structures have no spread worth the name
MINIMUM = 2
#: sizes that differ by less than this factor do not tell s_0 from s_1
DISTINCT_SIZES = 2.0
_KEYS = ("U", "sU", "E", "sE")


@dataclass(frozen=True)
class ReferenceStatistics:
    """Uncertainty and energy of a reference set under the current model.

    ``U``, ``sU``: mean and standard deviation of the uncertainty of a structure. ``E``: energy per atom (eV) without
    the ``offsets`` of the elements; the mean energy of a structure of fractions x is ``E + sum_el x_el offsets_el``.
    ``s0``, ``s1``: see the module (eV/atom, eV). ``composition``: [E] mean fractions of the set, elements in the order
    of ``elements``; ``directions`` [d, E]: orthonormal directions in which the fractions of the set differ.
    """

    U: float
    sU: float
    E: float
    s0: float
    s1: float
    elements: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()
    composition: tuple[float, ...] = ()
    directions: tuple[tuple[float, ...], ...] = ()
    n_structures: int = 0

    @classmethod
    def from_numbers(cls, given: Mapping[str, float], where: str = "viability: reference") -> ReferenceStatistics:
        """From ``U``, ``sU``, ``E``, ``sE`` (eV/atom); with ``atoms`` (of the cells that sE was found in) the spread
        of cells of N atoms is ``sE sqrt(atoms / N)``, without it ``sE`` for all sizes.

        :raises AceError: keys missing or unknown, no numbers, a spread that is not positive.
        """
        if not isinstance(given, Mapping):
            raise AceError(f"{where}: expected a mapping with {', '.join(_KEYS)}, found {given!r}")
        missing, unknown = sorted(set(_KEYS) - set(given)), sorted(set(given) - {*_KEYS, "atoms"})
        if missing or unknown:
            what = f"lacks {', '.join(missing)}" if missing else f"does not know {', '.join(unknown)}"
            raise AceError(f"{where}: {what}; it needs {', '.join(_KEYS)}, and may have atoms")
        try:
            U, sU, E, sE, n = (float(given.get(key, 0.0)) for key in (*_KEYS, "atoms"))
        except (TypeError, ValueError) as error:
            raise AceError(f"{where}: every entry must be a number, found {dict(given)!r}") from error
        if not (sU > 0 and sE > 0 and n >= 0 and np.isfinite([U, sU, E, sE, n]).all()):
            raise AceError(
                f"{where}: the reference spread must be positive, found sU = {sU}, sE = {sE} (atoms = {n:g}): "
                "take a longer reference run, or the training set"
            )
        return cls(U, sU, E, sE if n == 0 else 0.0, sE * np.sqrt(n))

    @classmethod
    def of(
        cls, structures: Sequence[Atoms], u: np.ndarray, e: np.ndarray, elements: Sequence[str],
        free: Mapping[str, float],
    ) -> ReferenceStatistics:  # fmt: skip
        """Statistics of a set.

        The mean energy is linear in the composition as far as the compositions of the set tell (least squares on top
        of the reference energies of the potential); in directions of composition that the set does not hold, only the
        reference energies change.

        :param u, e: [N] uncertainty and energy per atom (eV, with reference energies) of the structures.
        :param free: reference energies of the potential, eV.
        :raises AceError: fewer than two structures, or values that are not finite.
        """
        if len(structures) < MINIMUM:
            raise AceError(
                f"viability: the reference set has {counted(len(structures), 'structure')}, but at least "
                f"{MINIMUM} are needed for a "
                "spread: give the training set of the potential"
            )
        if not (np.isfinite(u).all() and np.isfinite(e).all()):
            raise AceError("viability: uncertainty or energy of the reference set is not finite; check the potential")
        x, n = fractions(structures, elements), np.array([len(atoms) for atoms in structures], dtype=float)
        offsets = np.array([float(free.get(el, 0.0)) for el in elements])
        y = e - x @ offsets
        mean = x.mean(axis=0)
        _, size, right = np.linalg.svd(x - mean, full_matrices=False)
        directions = right[size > 1e-8 * np.sqrt(len(x))]
        # as many directions as structures would leave no spread at all
        directions = directions[: (len(x) - 1) // 2]
        along = (x - mean) @ directions.T
        slope = np.linalg.lstsq(along, y - y.mean(), rcond=None)[0] if len(directions) else np.zeros(0)
        residual = y - y.mean() - along @ slope
        residual *= np.sqrt(len(x) / (len(x) - len(directions)))  # the slopes took their part of the spread
        s0, s1 = spread_by_size(residual, n)
        # a spread of nothing (all rows are in the active set: gamma is 1 throughout) would make the rule undefined
        sU = max(float(u.std()), 1e-3 * max(abs(float(u.mean())), 1e-12))
        full = directions.T @ slope if len(directions) else np.zeros(len(elements))
        return cls(
            float(u.mean()), sU, float(y.mean() - mean @ full), max(s0, 1e-6), s1, tuple(elements),
            tuple((offsets + full).tolist()), tuple(mean.tolist()), tuple(map(tuple, directions.tolist())), len(x),
        )  # fmt: skip

    def mean_energy(self, structures: Sequence[Atoms]) -> np.ndarray:
        """[N] eV/atom: mean energy of the reference set at the composition of each structure."""
        if not self.elements:
            return np.full(len(structures), self.E)
        return self.E + fractions(structures, self.elements) @ np.array(self.offsets)

    def energy_spread(self, n_atoms: np.ndarray) -> np.ndarray:
        """[N] eV/atom: standard deviation of the energy per atom of cells of that many atoms."""
        return np.sqrt(self.s0**2 + self.s1**2 / np.asarray(n_atoms, dtype=float))

    def foreign_compositions(self, structures: Sequence[Atoms]) -> int:
        """How many structures have a composition that no mixture of those of the reference set gives."""
        if not self.elements:
            return 0
        away = fractions(structures, self.elements) - np.array(self.composition)
        D = np.array(self.directions).reshape(-1, len(self.elements))
        return int((np.linalg.norm(away - away @ D.T @ D, axis=1) > 1e-6).sum())

    def to_dict(self) -> dict:
        """JSON types, for reports."""
        found = {"U": self.U, "sU": self.sU, "E": self.E, "s0": self.s0, "s1": self.s1}
        if self.elements:
            found |= {"offsets": dict(zip(self.elements, self.offsets)), "n_structures": self.n_structures}
        return found


def spread_by_size(residual: np.ndarray, n_atoms: np.ndarray) -> tuple[float, float]:
    """s_0 and s_1 of ``s(N)^2 = s_0^2 + s_1^2 / N`` by non-negative least squares on the squared residuals.

    Cells of (nearly) one size cannot tell the two apart: then all of it goes as 1 / sqrt(N), as for a mean over N
    independent atoms.

    :param residual: [N] energies per atom less their mean, eV.
    """
    from scipy.optimize import nnls

    r2, n = np.asarray(residual) ** 2, np.asarray(n_atoms, dtype=float)
    if n.max() < DISTINCT_SIZES * n.min():
        return 0.0, float(np.sqrt((r2 * n).mean()))
    # squares scatter in proportion to what they estimate: equations are weighted by that, found by repetition
    weight = np.ones(len(n))
    for _ in range(20):
        (a, b), _ = nnls(np.column_stack([np.ones(len(n)), 1.0 / n]) * weight[:, None], r2 * weight)
        variance = a + b / n
        weight = 1.0 / np.maximum(variance, 1e-12 * max(r2.max(), 1e-300))
        weight /= weight.max()
    return float(np.sqrt(a)), float(np.sqrt(b))


def fractions(structures: Sequence[Atoms], elements: Sequence[str]) -> np.ndarray:
    """[N, E] part of each element among the atoms of each structure."""
    index = {el: k for k, el in enumerate(elements)}
    found = np.zeros((len(structures), len(index)))
    for i, atoms in enumerate(structures):
        for symbol, count in zip(*np.unique(atoms.get_chemical_symbols(), return_counts=True)):
            found[i, index[str(symbol)]] = count / len(atoms)
    return found
