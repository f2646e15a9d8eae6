"""Penalty of a nonlinear fit: the prior of the linear fit of the same basis, in the units of the loss.

A penalty is the noise variance over the prior variance of a parameter. The evidence of the linear fit gives both for
the coefficients (D. J. C. MacKay, Neural Comput. 4, 448 (1992), uses the same for networks); radial coefficients are
expected to change by their own size. Neither depends on how the basis functions are scaled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aiida_aceal.ace import AcePotential
from aiida_aceal.ace.embedding import embed2

from .job import Prepared
from .linear import linear_factor, penalties, solve_factor
from .prior import radial_smoothness
from .problem import Problem
from .settings import NonlinearSettings
from .solvers import Solution


@dataclass
class LinearPart:
    """Linear fit of the first density with the radial functions of a job.

    ``slope`` [Ktot]: dE/drho of the first density; ``norms`` [Ktot]: of the weighted columns; ``loss``: what it leaves.
    """

    solution: Solution
    slope: np.ndarray
    norms: np.ndarray
    loss: float

    @classmethod
    def of(cls, job: Prepared) -> LinearPart:
        """Solve; where the settings say ``ard``, evidence, whose prior suits other densities too."""
        settings = job.settings
        if settings.regularization.method == "ard":
            regularization = settings.regularization.replace(method="evidence")
            settings = settings.replace(regularization=regularization)
        slope = first_slopes(job.potential)
        R, rows = linear_factor(job, slope)
        solution = solve_factor(replace(job, settings=settings), R, rows, penalties(job), slope)
        residual = R[:-1, :-1] @ solution.coefficients - R[:-1, -1]
        loss = float(residual @ residual + R[-1, -1] ** 2)
        return cls(solution, slope, np.linalg.norm(R[:, : len(slope)], axis=0), loss)

    def potential(self, job: Prepared) -> tuple[AcePotential, dict[str, float]]:
        """The linear fit as a potential of one density, and its reference energies."""
        pot, coefficients, at = job.potential, {}, 0
        values = self.solution.coefficients[: len(self.slope)] * self.slope
        for el in pot.elements:
            coefficients[el] = values[at : at + pot.n_functions[el]]
            at += pot.n_functions[el]
        one = {"n_density": 1, "embedding": "FinnisSinclairShiftedScaled", "parameters": (1.0, 1.0)}
        linear = replace(
            pot,
            species={el: replace(s, **one) for el, s in pot.species.items()},
            blocks={k: tuple(replace(f, coefficients=(0.0,)) for f in fs) for k, fs in pot.blocks.items()},
        ).with_coefficients(coefficients)
        reference = dict(job.reference)
        for el, shift in zip(pot.elements, self.solution.coefficients[len(self.slope) :]):
            if el in reference:
                reference[el] += float(shift)
        return linear, reference


def slope_at_zero(kind: str, w: float, m: float) -> float:
    """dE/drho of a density with embedding parameters (w, m) at rho = 0."""
    # the slope of FinnisSinclair at zero is an artefact of its regularisation
    slope = embed2(1, m, 0.0)[1] if kind == "FinnisSinclairShiftedScaled" else 1.0
    return (w * slope) or 1.0


def first_slopes(potential: AcePotential) -> np.ndarray:
    """dE/drho of the first density at rho = 0 [Ktot]: what a linear start needs where that density is not linear."""
    values = []
    for el in potential.elements:
        s = potential.species[el]
        values.append(np.full(potential.n_functions[el], slope_at_zero(s.embedding, *s.parameters[:2])))
    return np.concatenate(values)


def penalty(
    job: Prepared, problem: Problem, options: NonlinearSettings, part: LinearPart, theta: np.ndarray, fitted: bool
) -> np.ndarray:
    """Strength of the quadratic penalty of each parameter where the loss is that of the linear fit.

    ``theta`` is the start. Where it is ``fitted`` and has larger coefficients than the prior of the linear fit expects,
    the prior is widened until they are as likely as those of the linear fit: a start must not be mostly penalty.
    """
    of_unit_slope = part.solution.penalty[: len(part.slope)] / part.slope**2
    pot, parts, at = job.potential, [], 0
    for el, (P, K) in zip(pot.elements, problem.shapes):
        s = pot.species[el]
        for p in range(P):
            slope = slope_at_zero(s.embedding, *s.parameters[2 * p : 2 * p + 2])
            parts.append(options.l2 * slope**2 * of_unit_slope[at : at + K])
        at += K
    values = np.concatenate(parts)
    noise = part.solution.noise**2
    size = float(values @ theta[: len(values)] ** 2)
    usual = options.l2 * len(values) * noise
    if fitted and size > usual > 0.0:
        values *= usual / size
    if problem.radial:
        radial, at = theta[problem.n_coefficients : problem.n_coefficients + problem.n_radial], 0
        for pair in problem.pairs:
            count = int(np.prod(problem.pair_shapes[pair]))
            mean_square = float(np.mean(radial[at : at + count] ** 2)) or 1.0
            rough = radial_smoothness(problem.pair_shapes[pair], job.settings.regularization).ravel()
            values = np.append(values, options.l2_radial * noise / mean_square * rough**2)
            at += count
    if problem.free_reference:
        values = np.append(values, np.zeros(len(pot.elements)))
    return values


def centre(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """Coefficients are drawn to zero, radial coefficients and reference energies to where they start."""
    centre = theta.copy()
    centre[: problem.n_coefficients] = 0.0
    return centre
