"""Nonlinear ACE: coefficients of all densities, and radial coefficients, trained on energies, forces and virials."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.ace.potential import BasisFunction

from .checks import screen
from .job import FitResult, Prepared, finish, fixed_part, n_free, prepare
from .labels import collect_labels
from .optimize import Objective, StopRule, Trace, minimise
from .penalty import LinearPart, centre, penalty
from .problem import Problem
from .report import common_report
from .settings import FitSettings, NonlinearSettings
from .split import stopping_split
from .upfit import LINEAR, Rival, judge, the_start
from .weights import select_and_weigh


def fit_nonlinear(
    potential: AcePotential,
    train: Sequence[Atoms],
    settings: FitSettings | Mapping | None = None,
    validation: Sequence[Atoms] | None = None,
    names: Sequence[str] | None = None,
    validation_names: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    deadline: float | None = None,
) -> FitResult:
    """Fit all coefficients (and, by default, radial coefficients) of an ACE with any embedding.

    A fitted ``potential`` is where the fit starts ("upfit"), unless ``nonlinear.start`` is ``linear``; else the linear
    fit of the first density is, with small random coefficients of the others. Parameters as in
    `aiida_aceal.fitting.fit_linear`; ``validation`` is only evaluated. Early stopping holds out a part of ``train``
    (``nonlinear.validation_fraction``) and keeps the parameters of lowest loss there. ``result.report["rounds"]`` holds
    the course, ``result.report["early_stopping"]`` how many structures were held out.

    ``deadline`` is a moment of `time.perf_counter` at which the optimisation must be over. If it ends for this,
    ``result.report["stopped"]`` is ``deadline``, and a fit of the result goes on from where it was.

    Raises
    ------
    AceError
        Bad settings or labels; a loss that is not finite at the start.
    """
    started, cpu = time.perf_counter(), time.process_time()
    settings = FitSettings.read(settings)
    job = _prepare(potential, train, settings, validation, names, validation_names)
    theta, problem, traces = None, None, []
    upfit, whole = job.upfit, job
    steps = _ladder(job.potential, settings.nonlinear)
    previous: AcePotential | None = None
    for count in steps:
        part = job if count is None else _with_potential(job, _first_functions(job.potential, count, settings))
        start = part.potential if upfit else None
        if previous is not None:
            start = _carry_over(previous, part.potential)
            part = _with_potential(part, start)
        problem, theta, trace, linear = _fit_once(part, start, settings, progress, count is None, deadline)
        previous, reference = problem.unpack(theta)
        job = replace(job, reference=reference)  # a copy: the problem keeps the reference of its own start
        traces.append(trace)
    fitted = previous
    result = FitResult(fitted, {})
    seconds = {"fit": time.perf_counter() - started}
    finish(result, job, reference)
    rivals = [the_start(whole), Rival.of(LINEAR, *linear.potential(part), job)]
    judge(result, job, [r for r in rivals if r is not None])
    seconds |= {"total": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    result.report = common_report(result, job, seconds) | {
        "n_parameters": problem.n_parameters,
        "start": "potential" if upfit else "linear",
        "ladder": [c for c in steps if c is not None],
        "stopped": traces[-1].stopped,
        "early_stopping": {"n_structures": 0 if job.stopping is None else len(job.stopping)},
        "rounds": [entry for trace in traces for entry in trace.rounds],
    }
    return result


def _prepare(potential, train, settings: FitSettings, validation, names, validation_names) -> Prepared:
    """As `prepare`, with the part of ``train`` that early stopping looks at held out of it."""
    options, train = settings.nonlinear, list(train)
    names = [f"training set, structure {k}" for k in range(len(train))] if names is None else list(names)
    kept, held = range(len(train)), []
    if options.early_stopping:
        kept, held = stopping_split(train, options.validation_fraction, options.validation_seed)
    job = prepare(potential, [train[k] for k in kept], settings, validation, [names[k] for k in kept], validation_names)
    if not held:
        return job
    frames, labels = [train[k] for k in held], [names[k] for k in held]
    stopping = collect_labels(frames, potential.elements, True, True, "skip", labels)
    stopping, lines = screen(stopping, settings.outliers, job.train)
    return replace(job, stopping=stopping, notes=(*job.notes, *lines), outliers=(*job.outliers, *lines))


def _fit_once(
    job: Prepared, start: AcePotential | None, settings: FitSettings, progress, last: bool, deadline: float | None
) -> tuple[Problem, np.ndarray, Trace, LinearPart]:
    options = settings.nonlinear
    problem = Problem(job, options.radial, settings.reference_energies == "joint")
    part = LinearPart.of(job)
    theta = _linear_start(job, problem, options, part) if start is None else problem.pack(start)
    objective = Objective(
        problem, penalty(job, problem, options, part, theta, start is not None), centre(problem, theta), part.loss
    )
    first = objective(theta, gradient=False)
    if not np.isfinite(first.loss):
        raise AceError(
            "the loss of the start potential is not finite; start from a linear fit (nonlinear.start: linear)"
        )
    validate = None
    if job.stopping is not None:
        held = _validation_problem(job, options)
        if held is not None:
            validate = lambda x: held.evaluate(x, gradient=False).loss  # noqa: E731
    rule = StopRule(
        options.evaluations if last else max(20, options.evaluations // 4),
        options.tolerance if last else max(options.tolerance, 2e-2),
        options.max_seconds,
        options.patience if validate is not None else None,
        deadline,
    )
    objective.evaluations = 0
    theta, trace = minimise(
        objective, theta, rule, options.optimizer, options.refresh, options.damping, validate, progress
    )
    return problem, theta, trace, part


def _validation_problem(job: Prepared, options: NonlinearSettings) -> Problem | None:
    """The loss on the structures held out for early stopping, with uniform weights and the same kappa."""
    weights = job.settings.weights.replace(type="uniform", kappa=job.weights.kappa)
    data, w = select_and_weigh(job.stopping, weights, job.reference)
    part = Prepared(job.potential, job.model, data, w, job.reference, None, job.settings)
    # structures whose atoms are closer than any of the training set, so that the core takes over, cannot steer the fit
    fixed, outside = fixed_part(part), []
    for k in range(len(data)):
        try:
            fixed(k)
        except AceError:
            continue
        outside.append(k)
    if not outside:
        return None
    if len(outside) < len(data):
        data, w = select_and_weigh(data.subset(np.array(outside)), weights, job.reference)
        part = replace(part, train=data, weights=w)
    return Problem(part, options.radial, job.settings.reference_energies == "joint")


# --- where to start ---------------------------------------------------------------------------------------------------
def _linear_start(job: Prepared, problem: Problem, options: NonlinearSettings, part: LinearPart) -> np.ndarray:
    """Linear fit of one density, small random coefficients of the others (at zero their gradient would vanish)."""
    pot, rng = job.potential, np.random.default_rng(job.settings.seed)
    solution, norms = part.solution.coefficients, part.norms
    shift = solution[len(norms) :] if n_free(job) else np.zeros(len(pot.elements))
    coefficients, at = {}, 0
    for el, (P, K) in zip(pot.elements, problem.shapes):
        coefficients[el] = np.zeros((P, K))
        coefficients[el][0] = solution[at : at + K]
        at += K
    theta = problem.pack(pot.with_coefficients(coefficients), shift)
    size = options.second_density * max(np.sqrt(problem.evaluate(theta, gradient=False).loss), 1e-6)
    # no larger than the prior of the linear fit allows
    allowed = part.solution.noise * part.slope / np.sqrt(np.maximum(part.solution.penalty[: len(norms)], 1e-300))
    spread = np.minimum(size / np.maximum(norms, 1e-12 * norms.max(initial=1e-300)), np.abs(allowed))
    at = 0
    for el, (P, K) in zip(pot.elements, problem.shapes):
        coefficients[el][1:] = spread[at : at + K] * rng.normal(size=(P - 1, K))
        at += K
    return problem.pack(pot.with_coefficients(coefficients), shift)


# --- ladder -----------------------------------------------------------------------------------------------------------
def _ladder(potential: AcePotential, options: NonlinearSettings) -> list[int | None]:
    largest = max(potential.n_functions.values())
    return [*(c for c in options.ladder if c < largest), None]


def _key(f: BasisFunction, order: str):
    power = f.rank + sum(f.ns) + sum(f.ls)
    return (f.rank, power) if order == "body_order" else (power, f.rank)


def _first_functions(potential: AcePotential, count: int, settings: FitSettings) -> AcePotential:
    """The potential with the first ``count`` functions of each element, in the order of the ladder."""
    kept: set[int] = set()
    for el in potential.elements:
        ordered = sorted(potential.functions(el), key=lambda f: _key(f, settings.nonlinear.ladder_order))
        kept.update(id(f) for f in ordered[:count])
    return replace(
        potential,
        blocks={name: tuple(f for f in functions if id(f) in kept) for name, functions in potential.blocks.items()},
    )


def _carry_over(small: AcePotential, large: AcePotential) -> AcePotential:
    """Coefficients and radial coefficients of ``small`` in ``large``; functions it does not have get zero."""
    coefficients = {}
    for el in large.elements:
        known = {_identity(f): f.coefficients for f in small.functions(el)}
        P = large.n_densities[el]
        coefficients[el] = np.array([known.get(_identity(f), (0.0,) * P) for f in large.functions(el)]).T
    radial = {pair: bond.radcoefficients for pair, bond in small.bonds.items()}
    return large.with_coefficients(coefficients).with_radial_coefficients(radial)


def _identity(f: BasisFunction) -> tuple:
    return (f.mus, f.ns, f.ls, f.lint)


def _with_potential(job: Prepared, potential: AcePotential) -> Prepared:
    return replace(job, potential=potential, model=AceModel(potential, threads=job.settings.threads))
