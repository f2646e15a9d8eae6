"""One search: move the free atoms of a structure until its largest grade reaches the target.

The objective is ``s |ln(gamma / T)| + penalties`` (T: target, s: T, at most 20): near T it equals ``|gamma - T|``, far
from it the grade, which spans many decades in a young active set, cannot outweigh the penalties. Both methods stop at
the first structure inside the target's window that obeys the constraints; a step across the window is finished by
bisection, since gamma is continuous along the step.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import model_validator
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, setting

from .geometry import Constraints, Coordinates
from .objective import StructureGrader

#: penalty (units of gamma at 1000 per A) taken as "constraints obeyed": 0.001 A of violation
_FEASIBLE = 0.05
_FLOOR = 1e-12
_LARGEST_SCALE = 20.0
_ABSURD = 1e9  # value of a structure that cannot be evaluated: two atoms at one place


class SearchSettings(Settings):
    """How one search runs."""

    method: Literal["nelder-mead", "gradient"] = setting(
        "nelder-mead", "nelder-mead (PRM 7, 043801, V.C) or gradient (L-BFGS on the smooth maximum)."
    )
    target_gamma: float = setting(15.0, "Grade to reach; 1 is where extrapolation begins.", gt=1)
    target_tolerance: float | None = setting(
        1.0, "Half width of the window about target_gamma; null: any grade of at least target_gamma.", gt=0
    )
    max_evaluations: int = setting(400, "Largest number of evaluations from one start.", ge=1)
    step: float = setting(0.3, "Size of the first simplex.", unit="A", gt=0)
    shake: float = setting(0.1, "Standard deviation of the random displacements of each start.", unit="A", ge=0)
    starts: int = setting(
        20, "Number of shaken starts in one attempt; the first that reaches the target ends it.", ge=1
    )
    power: float = setting(64.0, "Exponent p of the smooth maximum.", ge=2)

    @model_validator(mode="after")
    def _tolerance(self) -> SearchSettings:
        if self.target_tolerance is not None and self.target_tolerance >= self.target_gamma:
            raise ValueError(
                f"target_tolerance ({self.target_tolerance}) must be below target_gamma ({self.target_gamma})"
            )
        return self

    @property
    def window(self) -> tuple[float, float]:
        """Grades that end a search."""
        if self.target_tolerance is None:
            return self.target_gamma, float("inf")
        return self.target_gamma - self.target_tolerance, self.target_gamma + self.target_tolerance


@dataclass
class SearchResult:
    """Best structure that obeys the constraints (None if there was none), its largest grade, and the effort."""

    atoms: Atoms | None
    gamma: float
    reached: bool
    evaluations: int
    starts: int


class _Done(Exception):
    """Target reached, or evaluations used up."""


class _Run:
    def __init__(self, grader: StructureGrader, coordinates: Coordinates, settings: SearchSettings) -> None:
        self.grader, self.coordinates, self.settings = grader, coordinates, settings
        self.low, self.high = settings.window
        self.scale = min(settings.target_gamma, _LARGEST_SCALE)
        self.evaluations = 0
        self.reached = False
        self.best: tuple[float, np.ndarray, float] | None = None  # distance to the target, x, gamma
        self.sides: dict[bool, np.ndarray] = {}  # last point above (True) and below (False) the window
        self.bisections = 0

    def _distance(self, gamma: float) -> float:
        """|ln(gamma / T)|, zero for any larger grade if the window is open above."""
        ratio = np.log(max(gamma, _FLOOR) / self.settings.target_gamma)
        return max(0.0, -ratio) if np.isinf(self.high) else abs(ratio)

    def _note(self, x: np.ndarray, gamma: float, penalty: float) -> None:
        """Keep the best point; end the run inside the window or when its evaluations are used up."""
        self.evaluations += 1
        if penalty <= _FEASIBLE * self.coordinates.constraints.penalty / 1000 and np.isfinite(gamma):
            distance = self._distance(gamma)
            inside = self.low <= gamma <= self.high
            if inside or self.best is None or distance < self.best[0]:
                self.best = (distance, x.copy(), gamma)
            if inside:
                self.reached = True
                raise _Done
            self.sides[gamma > self.high] = x.copy()
        if self.evaluations >= self.settings.max_evaluations:
            raise _Done

    def _bisect(self) -> None:
        """Once a step has crossed the window: look for it between the last points below and above."""
        if len(self.sides) < 2 or self.bisections == 3:
            return
        self.bisections += 1
        below, above = self.sides[False], self.sides[True]
        while np.abs(above - below).max() > 1e-9:
            middle = 0.5 * (below + above)
            atoms = self.coordinates.atoms(middle)
            penalty, _ = self.coordinates.penalty(middle, atoms)
            gamma = self.grader.maximum(atoms)
            self._note(middle, gamma, penalty)
            if self.low <= gamma <= self.high:
                break  # the crossing violates a constraint: go on elsewhere
            below, above = (middle, above) if gamma < self.low else (below, middle)
        self.sides.clear()

    def value(self, x: np.ndarray) -> float:
        atoms = self.coordinates.atoms(x)
        penalty, _ = self.coordinates.penalty(x, atoms)
        try:
            gamma = self.grader.maximum(atoms)
        except AceError:
            self._note(x, np.inf, _ABSURD)
            return _ABSURD
        self._note(x, gamma, penalty)
        self._bisect()
        return self.scale * self._distance(gamma) + penalty

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        atoms = self.coordinates.atoms(x)
        penalty, slope = self.coordinates.penalty(x, atoms)
        try:
            smooth = self.grader.smooth_maximum(atoms, power=self.settings.power)
        except AceError:
            self._note(x, np.inf, _ABSURD)
            return _ABSURD, slope
        top = float(smooth.gamma.max(initial=0.0))
        self._note(x, top, penalty)
        self._bisect()
        if smooth.value <= _FLOOR or not np.isfinite(smooth.value):
            return self.scale * self._distance(smooth.value) + penalty, slope
        gradient = self.coordinates.gradient(x, smooth.gradient, smooth.strain)
        # below the target S (>= gamma) would stop growing too early: drive it up until gamma itself arrives
        sign = self.scale if top > self.high else -self.scale
        ratio = np.log(smooth.value / self.settings.target_gamma)
        return sign * ratio + penalty, sign / smooth.value * gradient + slope


def target_in_window(gamma_lo: float, gamma_hi: float) -> tuple[float, float]:
    """Target of a search and its tolerance for a window of grades: the one rule, whoever starts the search.

    The default target of :class:`SearchSettings`, but at most 0.9 ``gamma_hi``, so that a search does not end above the
    window; the middle of a window that lies above that. All grades within the tolerance lie inside the window.
    """
    default = SearchSettings()
    target = min(default.target_gamma, 0.9 * gamma_hi)
    if target <= gamma_lo:
        target = 0.5 * (gamma_lo + gamma_hi)
    return target, min(default.target_tolerance or 1.0, 0.9 * (gamma_hi - target), 0.9 * (target - gamma_lo))


def search(
    grader: StructureGrader, start: Atoms, constraints: Constraints, settings: SearchSettings, rng: np.random.Generator
) -> SearchResult:
    """Search from ``settings.starts`` shaken copies of ``start``, until one reaches the target.

    :raises AceError: elements that the potential does not know, constraints that leave nothing to move
    """
    grader.check_elements(start)
    if settings.method == "gradient":
        grader.check_gradient()
    coordinates = Coordinates(start, constraints)
    best: SearchResult = SearchResult(None, 0.0, False, 0, 0)
    closest = np.inf
    evaluations = starts = 0
    while starts < settings.starts and not best.reached:
        starts += 1
        run = _Run(grader, coordinates, settings)
        x0 = rng.normal(scale=settings.shake, size=coordinates.size) if settings.shake else np.zeros(coordinates.size)
        signs = rng.choice([-1.0, 1.0], size=coordinates.size)
        with suppress(_Done):
            _optimise(run, x0, signs)
        evaluations += run.evaluations
        if run.best is not None and run.best[0] < closest:
            closest = run.best[0]
            best = SearchResult(coordinates.atoms(run.best[1]), run.best[2], run.reached, 0, 0)
    best.evaluations, best.starts = evaluations, starts
    return best


def _optimise(run: _Run, x0: np.ndarray, signs: np.ndarray) -> None:
    # the optimiser's own matrices are tiny: threads for them cost far more than they give
    with threadpool_limits(limits=1, user_api="blas"):
        _minimise(run, x0, signs)


def _minimise(run: _Run, x0: np.ndarray, signs: np.ndarray) -> None:
    limit = run.settings.max_evaluations
    if run.settings.method == "gradient":
        x = x0
        for _ in range(3):  # a new run rebuilds the curvature after the sign of the objective has changed
            x = minimize(run.value_and_gradient, x, jac=True, method="L-BFGS-B", options={"maxfun": limit}).x
        return
    simplex = np.vstack([x0, x0 + np.diag(run.settings.step * signs)])
    minimize(
        run.value,
        x0,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": limit, "maxiter": limit, "adaptive": True},
    )
