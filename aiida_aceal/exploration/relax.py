"""Relaxation of the outer atoms of a cut: they move to become unremarkable, the inner sphere stays as it is.

Minimises the smooth maximum of the grades of all atoms but the centre (PRM 7, 043801, Sec. V.D) by L-BFGS with the
exact
gradient. The atoms of the inner sphere do not move, and an outer atom that would enter the sphere is put on its
surface (where every basis function vanishes), so that the projections of the centre are kept exactly.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from .cuts import Cut
from .geometry import Constraints, Coordinates
from .objective import StructureGrader

#: per A of violation, beside a logarithm of the grade
_PENALTY = 30.0
#: room (A) between the inner sphere and the nearest outer atom
_SKIN = 1e-6


@dataclass
class Relaxation:
    """Relaxed structure, grades [n] of its atoms, evaluations, and whether the goal was reached."""

    atoms: Atoms
    gamma: np.ndarray
    evaluations: int
    reached: bool


class _Done(Exception):
    """Goal reached, or evaluations used up."""


class _Relaxing:
    def __init__(
        self, grader: StructureGrader, cut: Cut, mask: np.ndarray, goal: float, limit: int, constraints: Constraints
    ):
        self.grader, self.cut, self.mask, self.goal, self.limit = grader, cut, mask, goal, limit
        self.outer = np.flatnonzero(~cut.inner)
        self.coordinates = Coordinates(cut.atoms, constraints)
        self.radius = cut.radius
        self.evaluations = 0
        self.power = 8.0
        self.best: tuple[float, np.ndarray, np.ndarray] | None = None  # largest grade, positions, gamma

    def place(self, x: np.ndarray) -> tuple[Atoms, np.ndarray, np.ndarray]:
        """Structure at x, unit vectors [m, 3] of the outer atoms about the centre and the scale [m] (1: not moved)."""
        atoms = self.coordinates.atoms(x)
        centre = atoms.positions[self.cut.centre]
        vectors, distance = find_mic(atoms.positions[self.outer] - centre, atoms.cell, atoms.pbc)
        inside = distance < self.radius + _SKIN
        scale = np.where(inside, (self.radius + _SKIN) / np.maximum(distance, 1e-9), 1.0)
        atoms.positions[self.outer] += (scale - 1.0)[:, None] * vectors
        return atoms, vectors / np.maximum(distance, 1e-9)[:, None], scale

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        atoms, units, scale = self.place(x)
        smooth = self.grader.smooth_maximum(atoms, self.mask, self.power)
        penalty, slope = self.coordinates.penalty(x, atoms)
        gradient = smooth.gradient / max(smooth.value, 1e-300)
        moved = self._through(gradient, units, scale) + self._through(self._spread(slope), units, scale)
        self._note(atoms, smooth.gamma, penalty)
        return float(np.log(max(smooth.value, 1e-300))) + penalty, moved[self.outer].ravel()

    def _spread(self, slope: np.ndarray) -> np.ndarray:
        full = np.zeros((len(self.cut.atoms), 3))
        full[self.outer] = slope.reshape(-1, 3)
        return full

    def _through(self, gradient: np.ndarray, units: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Chain rule of the projection onto the sphere: no radial part, the rest scaled."""
        result = gradient.copy()
        pushed = self.outer[scale > 1.0]
        u = units[scale > 1.0]
        along = np.einsum("ij,ij->i", result[pushed], u)
        result[pushed] = scale[scale > 1.0][:, None] * (result[pushed] - along[:, None] * u)
        return result

    def _note(self, atoms: Atoms, gamma: np.ndarray, penalty: float) -> None:
        self.evaluations += 1
        largest = float(gamma[self.mask].max(initial=0.0))
        if self.best is None or (penalty < 0.02 and largest < self.best[0]):
            self.best = (largest if penalty < 0.02 else np.inf, atoms.positions.copy(), gamma.copy())
        if self.best[0] < self.goal or self.evaluations >= self.limit:
            raise _Done


def relax_outer(
    grader: StructureGrader,
    cut: Cut,
    mask: np.ndarray,
    goal: float,
    max_evaluations: int = 300,
    constraints: Constraints | None = None,
) -> Relaxation:
    """Move the atoms outside the inner sphere of ``cut`` until all grades in ``mask`` [n] are below ``goal``.

    :param mask: the atoms that are to become unremarkable
    :param constraints: shortest distances; what is free is decided by the cut
    :raises AceError: active sets that have no gradient
    """
    rules = constraints or Constraints()
    outer = np.flatnonzero(~cut.inner).tolist()
    if not outer or not mask.any():
        gamma = grader.gamma(cut.atoms)
        return Relaxation(cut.atoms.copy(), gamma, 1, bool(gamma[mask].max(initial=0.0) < goal))
    rules = rules.replace(penalty=_PENALTY, free=outer, connected=None, cell="fixed")
    run = _Relaxing(grader, cut, mask, goal, max_evaluations, rules)
    x = np.zeros(run.coordinates.size)
    with suppress(_Done), threadpool_limits(limits=1, user_api="blas"):
        for power in (8.0, 24.0, 64.0):
            run.power = power
            x = minimize(run, x, jac=True, method="L-BFGS-B", options={"maxfun": max_evaluations, "maxcor": 20}).x
    atoms = cut.atoms.copy()
    atoms.positions[:] = run.best[1]
    return Relaxation(atoms, run.best[2], run.evaluations, run.best[0] < goal)
