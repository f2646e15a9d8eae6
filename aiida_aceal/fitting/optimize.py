"""Minimisers of a nonlinear fit: L-BFGS preconditioned by Gauss-Newton matrices, and Levenberg-Marquardt.

The Gauss-Newton matrix of an ACE spans 15 orders of magnitude and more, which is what makes plain quasi-Newton methods
crawl. Here parameters are changed to those in which it is (nearly) the identity, and changed again every few dozen
evaluations (preconditioned L-BFGS: J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed., Ch. 7; LM: Ch. 10.3).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.optimize import minimize

from .problem import Evaluation, Problem


@dataclass
class Objective:
    """Loss of a problem plus the penalty factor sum_k penalty_k (theta_k - centre_k)^2; counts its evaluations.

    ``noise_loss``: the loss at which ``penalty`` is the noise variance over the prior variance of each parameter. The
    prior stays, the noise is what the fit leaves: as the loss falls, so does ``factor`` (None: it stays 1).
    """

    problem: Problem
    penalty: np.ndarray
    centre: np.ndarray
    noise_loss: float | None = None
    factor: float = 1.0
    evaluations: int = 0

    def __call__(self, theta: np.ndarray, gradient: bool = True) -> Evaluation:
        self.evaluations += 1
        ev = self.problem.evaluate(theta, gradient)
        d = theta - self.centre
        ev.penalty = self.factor * float(self.penalty @ d**2)
        ev.loss += ev.penalty
        if gradient:
            ev.gradient = ev.gradient + 2.0 * self.factor * self.penalty * d
        return ev

    def follow_noise(self, theta: np.ndarray, ev: Evaluation) -> Evaluation:
        """Lower the factor to the errors of ``ev``, the evaluation at ``theta``; returns it with the new penalty."""
        if self.noise_loss is None or ev.loss - ev.penalty >= self.factor * self.noise_loss:
            return ev
        data, old = ev.loss - ev.penalty, self.factor
        self.factor = data / self.noise_loss
        gradient, d = ev.gradient, theta - self.centre
        if gradient is not None:
            gradient = gradient + 2.0 * (self.factor - old) * self.penalty * d
        penalty = self.factor * float(self.penalty @ d**2)
        return replace(ev, loss=data + penalty, gradient=gradient, penalty=penalty)

    def gauss_newton(self, theta: np.ndarray) -> np.ndarray:
        """Half the Gauss-Newton Hessian, penalty included."""
        H = self.problem.gauss_newton(theta)
        H[np.diag_indices(len(H))] += self.factor * self.penalty
        return H


@dataclass
class Trace:
    """Course of a minimisation: one entry for each round."""

    rounds: list[dict] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    stopped: str = "evaluations"

    def add(self, evaluations: int, ev: Evaluation, validation: float | None) -> dict:
        entry = {
            "evaluations": evaluations,
            "loss": ev.loss,
            "penalty": ev.penalty,
            "energy_rmse": ev.energy_rmse,
            "force_rmse": ev.force_rmse,
            "seconds": time.perf_counter() - self.started,
        }
        if validation is not None:
            entry["validation_loss"] = validation
        self.rounds.append(entry)
        return entry


@dataclass(frozen=True)
class StopRule:
    """When to end: ``evaluations`` in all, ``tolerance`` relative decrease of a round, ``seconds`` of wall time,

    ``patience`` rounds without a better validation loss (None: no early stopping). ``deadline``: the moment of
    `time.perf_counter` at which the run must be over; rounds are shortened so that it is kept.
    """

    evaluations: int
    tolerance: float
    seconds: float | None = None
    patience: int | None = None
    deadline: float | None = None


def minimise(
    objective: Objective,
    theta: np.ndarray,
    rule: StopRule,
    method: str = "lbfgs",
    refresh: int = 30,
    damping: float = 1e-6,
    validate: Callable[[np.ndarray], float] | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[np.ndarray, Trace]:
    """Minimise from ``theta``; returns the best parameters (by validation loss where there is one) and the course.

    Parameters
    ----------
    method
        ``lbfgs``: rounds of ``refresh`` evaluations, each with a new preconditioner; ``gauss_newton``:
        Levenberg-Marquardt steps.
    damping
        Share of the diagonal added to the Gauss-Newton matrix (start value of Levenberg-Marquardt).
    validate
        Loss on a validation set.
    """
    trace = Trace()
    step = _lbfgs_round if method == "lbfgs" else _marquardt_round
    state = {"damping": damping}
    ev = objective.follow_noise(theta, objective(theta))
    best, best_theta, since = np.inf, theta, 0
    while True:
        old = ev.loss
        held = validate(theta) if validate is not None else None
        entry = trace.add(objective.evaluations, ev, held)
        if progress is not None:
            progress(_line(entry))
        merit = ev.loss if held is None else held
        since = 0 if merit < best else since + 1
        if merit < best:
            best, best_theta = merit, theta
        if rule.patience is not None and held is not None and since >= rule.patience:
            trace.stopped = "validation"
            break
        left = rule.evaluations - objective.evaluations
        if left <= 0:
            break
        if rule.seconds is not None and entry["seconds"] > rule.seconds:
            trace.stopped = "seconds"
            break
        left = min(refresh, left, evaluations_until(rule.deadline, trace, objective.evaluations))
        if left <= 0:
            trace.stopped = "deadline"
            break
        theta, ev = step(objective, theta, ev, left, state)
        falls = old - ev.loss > rule.tolerance * old
        ev = objective.follow_noise(theta, ev)
        if not falls:
            trace.stopped = "converged"
            held = validate(theta) if validate is not None else None
            trace.add(objective.evaluations, ev, held)
            if (ev.loss if held is None else held) < best:
                best_theta = theta
            break
    return best_theta, trace


def evaluations_until(deadline: float | None, trace: Trace, done: int) -> int:
    """How many more evaluations end before the deadline, by what those so far have taken."""
    if deadline is None:
        return sys.maxsize
    now = time.perf_counter()
    return int((deadline - now) / max((now - trace.started) / max(done, 1), 1e-9))


def _line(entry: dict) -> str:
    text = (
        f"{entry['evaluations']:5d} evaluations, loss {entry['loss']:.4e}, "
        f"E {entry['energy_rmse'] * 1e3:.2f} meV/atom, F {entry['force_rmse'] * 1e3:.2f} meV/A"
    )
    if "validation_loss" in entry:
        text += f", validation {entry['validation_loss']:.4e}"
    return text + f", {entry['seconds']:.0f} s"


def _scaled(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix with unit diagonal, and the roots of the diagonal (parameters without influence: 1)."""
    root = np.sqrt(np.diag(H))
    root = np.where(root > 1e-14 * root.max(initial=1e-300), root, root.max(initial=1e-300) or 1.0)
    return H / np.outer(root, root), root


def _lbfgs_round(objective: Objective, theta, ev, count, state) -> tuple[np.ndarray, Evaluation]:
    unit, root = _scaled(objective.gauss_newton(theta))
    damping = state["damping"]
    while True:
        try:
            R = cholesky(unit + damping * np.eye(len(theta)), check_finite=True)
            break
        except np.linalg.LinAlgError:
            damping *= 10.0
    best = [ev.loss, theta, ev]

    def function(z: np.ndarray):
        x = theta + solve_triangular(R, z) / root
        new = objective(x)
        if not np.isfinite(new.loss) or not np.isfinite(new.gradient).all():
            return 1e6 * ev.loss, np.zeros_like(z)  # too far: the line search comes back
        if new.loss < best[0]:
            best[:] = [new.loss, x, new]
        return new.loss, solve_triangular(R, new.gradient / root, trans=1)

    minimize(
        function, np.zeros(len(theta)), jac=True, method="L-BFGS-B",
        options={"maxfun": count, "maxiter": count, "maxcor": count, "ftol": 0.0, "gtol": 0.0},
    )  # fmt: skip
    return best[1], best[2]


def _marquardt_round(objective: Objective, theta, ev, count, state) -> tuple[np.ndarray, Evaluation]:
    """One accepted step (or the present point, if none is found within ``count`` trials)."""
    unit, root = _scaled(objective.gauss_newton(theta))
    values, vectors = eigh(unit)
    values = np.clip(values, 0.0, None)
    g = vectors.T @ (ev.gradient / root)
    for trial in range(max(1, min(count, 12))):
        x = theta - vectors @ (g / (2.0 * (values + state["damping"]))) / root
        new = objective(x)
        if np.isfinite(new.loss) and new.loss < ev.loss:
            if trial == 0:
                state["damping"] = max(state["damping"] / 3.0, 1e-14)
            return x, new
        state["damping"] *= 4.0
    return theta, ev
