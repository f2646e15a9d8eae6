"""Grade of a structure, and a smooth maximum of the grades with its exact gradient.

With the inverse active set X [K, K] of the atom's element, gamma_i = max_j |c_ij|, c_ij = sum_k b_ik X_kj (PRM 7,
043801,
Sec. III.B), where the row b_i is the projections B_i (linear kind) or dE_i/dc (full kind). Its maximum over atoms has
kinks, so searches with gradients use the p-norm over atoms and columns,

    S = (sum_ij |c_ij|^p)^(1/p),      max gamma <= S <= max gamma * (number of entries)^(1/p),

whose derivative is a weighted sum of projection gradients: dS/dr = sum_ik w_ik dB_ik/dr with
w_ik = sum_j (|c_ij| / S)^(p-1) sign(c_ij) X_kj for the linear kind. The engine contracts it exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.configurations import unknown_elements
from aiida_aceal.common.errors import AceError

from .embedding import embedding_derivatives

_TINY = 1e-300
_FEW = 500


@dataclass(frozen=True)
class SmoothMaximum:
    """``value`` S; ``gradient`` [n, 3] in 1/A; ``strain`` [3, 3] = dS/d(strain); ``gamma`` [n] (not smoothed)."""

    value: float
    gradient: np.ndarray
    strain: np.ndarray
    gamma: np.ndarray


class StructureGrader:
    """Grades structures with a model and an active set.

    :param model: :class:`aiida_aceal.ace.AceModel`
    :param active_set: any object with ``kind`` and ``grade(element, rows [N, K]) -> gamma [N]``; gradients need
        ``inverses`` (dict element -> [K, K]) too

    Searches move atoms by these grades, so they are without the floor for environments that are emptier than any
    learnt: taking atoms apart is no find. :meth:`floored` adds it.
    """

    def __init__(self, model: Any, active_set: Any) -> None:
        self.model, self.active_set = model, active_set
        potential = model.potential
        self.elements = potential.elements
        self.n_functions = potential.n_functions
        inverses = getattr(active_set, "inverses", None)
        #: element -> [M, M], or None for sets that are not one matrix for each element
        self.inverses: dict[str, np.ndarray] | None = inverses if isinstance(inverses, dict) else None
        self._coefficients = {el: potential.coefficients(el) for el in self.elements}

    def check_elements(self, atoms: Atoms) -> None:
        """Raise :class:`AceError` if the potential does not know an element of ``atoms``."""
        message = unknown_elements(atoms.symbols, self.elements)
        if message:
            raise AceError(f"{atoms.get_chemical_formula()}: {message}")

    def check_gradient(self) -> None:
        """Raise :class:`AceError` if the active set is not one inverse for each element."""
        if self.inverses is None:
            raise AceError(
                f"the gradient of gamma needs an active set with one inverse for each element, not "
                f"{type(self.active_set).__name__}: use method nelder-mead"
            )

    def projections(self, atoms: Atoms) -> np.ndarray:
        """Projections B [n, K_max], NaN padded."""
        return self.model.evaluate(atoms, forces=False, stress=False, projections=True).projections

    def gamma(self, atoms: Atoms) -> np.ndarray:
        """Grade of each atom, [n]."""
        gamma = np.zeros(len(atoms))
        if self.active_set.kind == "full":
            for element, found in self.model.projections([atoms], kind="full").items():
                if len(found.rows):
                    gamma[found.atom] = self._grade(element, found.rows)
            return gamma
        projections = self.projections(atoms)
        symbols = np.array(atoms.get_chemical_symbols())
        for element in set(symbols):
            mine = symbols == element
            gamma[mine] = self._grade(element, projections[mine, : self.n_functions[element]])
        return gamma

    def floored(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray | None]:
        """Grade of each atom, at least its emptiness where that is above 1; and the emptiness, None if unknown."""
        model = self.model.single_threaded()
        model.active_set = self.active_set
        result = model.evaluate(atoms, forces=False, stress=False, gamma=True)
        return result.gamma, result.emptiness

    def _grade(self, element: str, rows: np.ndarray) -> np.ndarray:
        # a search grades a few atoms thousands of times: no set-up of threads for each
        if self.inverses is not None and len(rows) <= _FEW:
            return np.abs(rows @ self.inverses[element]).max(axis=1)
        return self.active_set.grade(element, np.ascontiguousarray(rows))

    def maximum(self, atoms: Atoms) -> float:
        """Largest grade of the structure; not a number is an error of the structure, reported as infinity."""
        gamma = self.gamma(atoms)
        return float(gamma.max(initial=0.0)) if np.isfinite(gamma).all() else float("inf")

    def smooth_maximum(self, atoms: Atoms, mask: np.ndarray | None = None, power: float = 32.0) -> SmoothMaximum:
        """p-norm of the grades of the atoms in ``mask`` ([n] bool, default all) and its exact gradient.

        :raises AceError: active sets without one inverse per element
        """
        self.check_gradient()
        inverses = self.inverses
        mask = np.ones(len(atoms), dtype=bool) if mask is None else mask
        projections = self.projections(atoms)
        symbols = np.array(atoms.get_chemical_symbols())
        rows = {el: self._rows(el, projections[symbols == el, : self.n_functions[el]]) for el in set(symbols)}
        c = {el: rows[el][0] @ inverses[el] for el in rows}
        gamma = np.zeros(len(atoms))
        for el, values in c.items():
            gamma[symbols == el] = np.abs(values).max(axis=1)
        top = float(gamma[mask].max(initial=0.0))
        weights = np.zeros_like(projections)
        if top <= _TINY or not np.isfinite(gamma).all():
            value = top if np.isfinite(gamma).all() else float("inf")
            return SmoothMaximum(value, np.zeros((len(atoms), 3)), np.zeros((3, 3)), gamma)
        scaled = {el: np.abs(c[el][mask[symbols == el]]) / top for el in c}
        S = top * sum(float((part**power).sum()) for part in scaled.values()) ** (1 / power)
        for el, values in c.items():
            slope = np.sign(values) * (np.abs(values) / S) ** (power - 1)
            slope[~mask[symbols == el]] = 0.0
            weights[symbols == el, : self.n_functions[el]] = rows[el][1](slope @ inverses[el].T)
        gradient, strain = self._contract(atoms, weights)
        return SmoothMaximum(S, gradient, strain, gamma)

    def _rows(self, element: str, B: np.ndarray) -> tuple[np.ndarray, Any]:
        """Rows b [N, M] from projections [N, K], and the map of dS/db [N, M] to dS/dB [N, K]."""
        if self.active_set.kind == "linear":
            return B, lambda v: v
        c = self._coefficients[element]
        first, second = embedding_derivatives(self.model.potential, element, B @ c.T)
        P, K = c.shape

        def pull(v: np.ndarray) -> np.ndarray:
            v = v.reshape(len(B), P, K)
            # d(F'_p B_k) = F'_p dB_k + B_k F''_p sum_k' c_pk' dB_k'
            return np.einsum("np,npk->nk", first, v) + (second * np.einsum("npk,nk->np", v, B)) @ c

        return (first[:, :, None] * B[:, None, :]).reshape(len(B), P * K), pull

    def _contract(self, atoms: Atoms, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gradient, virial = self.model.projection_gradient(atoms, np.nan_to_num(weights))
        xx, yy, zz, xy, xz, yz = virial
        return gradient, np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
