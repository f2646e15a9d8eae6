"""Fits of the members of an ensemble, in parallel, with everything shared that members have in common."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
from ase import Atoms
from threadpoolctl import threadpool_limits

from aiida_aceal.ace import AceError, AceModel, AcePotential

from .ensemble import Ensemble
from .ensemble_settings import EnsembleSettings
from .job import Prepared, n_free, prepare
from .linear import (
    design_windows,
    first_density_weights,
    linear_factor,
    penalties,
    solve_factor,
    unpack,
    window_rows,
)
from .nonlinear import centre, penalty, slopes
from .optimize import Objective, StopRule, minimise
from .problem import Problem
from .schema import build
from .settings import FitSettings
from .solvers import NormalAccumulator, QrAccumulator
from .thresholds import NOTES


def fit_ensemble(
    potential: AcePotential,
    train: Sequence[Atoms],
    settings: FitSettings | Mapping | None = None,
    ensemble: EnsembleSettings | Mapping | None = None,
    names: Sequence[str] | None = None,
    progress=None,
) -> Ensemble:
    """Fit an `Ensemble` on labelled structures, with thresholds by the IQR rule as far as the data have them.

    Raises
    ------
    AceError
        Bad settings or labels; a method that does not fit ``settings.method``.
    """
    started, cpu = time.perf_counter(), time.process_time()
    settings = FitSettings.read(settings)
    how = build(EnsembleSettings, ensemble, "ensemble")
    method = how.method_for(settings.method)
    job = prepare(potential, train, settings, None, names)
    # one independent stream of random numbers for each member: the result does not depend on their order
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(settings.seed).spawn(how.members)]
    make = {"weak": _nonlinear, "strong": _nonlinear, "posterior": _posterior}.get(method, _resampled)
    potentials = make(job, replace(how, method=method), streams, progress)
    result = Ensemble(tuple(potentials), method, how.use, threads=settings.threads)
    try:
        result.set_thresholds(job.train)
    except AceError:  # members are good without; the notes say why, and who needs the threshold refuses by them
        if NOTES not in result.report:
            raise
    if progress is not None:
        for line in result.report[NOTES]:
            progress(f"ensemble: {line}")
    result.report |= {
        "settings": asdict(how),
        "seed": settings.seed,
        "n_structures": len(job.train),
        "shared_projections": result.shared,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
    return result


def _resampled(job: Prepared, how: EnsembleSettings, streams, progress) -> list[AcePotential]:
    """Linear members with structures left out or weighted: one pass over the design matrix for all of them."""
    count = len(job.train)
    factors = np.empty((len(streams), count))
    for m, rng in enumerate(streams):
        if how.method == "subsample":
            take = min(max(1, round(how.fraction * count)), max(count - 1, 1))
            factors[m] = 0.0
            factors[m, rng.permutation(count)[:take]] = count / take
        else:
            factors[m] = rng.exponential(size=count)
    roots = np.sqrt(factors)
    scale = first_density_weights(job.potential)
    columns = len(scale) + n_free(job) + 1
    kind = QrAccumulator if job.settings.solver == "qr" else NormalAccumulator
    accumulators = [kind(columns, buffer_rows=window_rows(job, columns) // (2 * len(streams))) for _ in streams]
    done = 0
    for rows, structure in design_windows(job, scale):

        def add(m: int, rows=rows, structure=structure) -> None:
            seen = roots[m, structure] > 0.0
            accumulators[m].add(rows[seen] * roots[m, structure[seen]][:, None])

        _parallel(job, add, range(len(streams)))
        done += len(rows)
        if progress is not None:
            progress(f"{done} rows of the design matrix, {len(streams)} members")
    penalty_ = penalties(job)

    def finish(m: int) -> AcePotential:
        solution = solve_factor(job, accumulators[m].factor(), accumulators[m].rows, penalty_)
        return unpack(job, solution.coefficients)[0]

    return _parallel(job, finish, range(len(streams)))


def _posterior(job: Prepared, how: EnsembleSettings, streams, progress) -> list[AcePotential]:
    """Draws from the Gaussian posterior of the coefficients."""
    R, rows = linear_factor(job, first_density_weights(job.potential), progress)
    solution = solve_factor(job, R, rows, penalties(job))
    if solution.covariance_root is None:
        raise AceError(
            "ensemble.method: posterior needs a Bayesian fit; set regularization.method to evidence, ridge or ard"
        )
    draws = [
        solution.coefficients + solution.covariance_root @ rng.normal(size=solution.covariance_root.shape[1])
        for rng in streams
    ]
    return [unpack(job, draw)[0] for draw in draws]


def _nonlinear(job: Prepared, how: EnsembleSettings, streams, progress) -> list[AcePotential]:
    """Nonlinear members from random starts; neighbourhoods and raw base functions are made once for all."""
    strong, options = how.method == "strong", job.settings.nonlinear
    # threads go over members, so that one evaluation runs in one thread
    serial = replace(job.settings, threads=1)
    job = replace(job, settings=serial, model=AceModel(job.potential, threads=1))
    threads = AceModel(job.potential, threads=None).threads
    problem = Problem(job, strong, serial.reference_energies == "joint")
    slope = slopes(job.potential)
    R, _ = linear_factor(job, slope)
    norms = np.linalg.norm(R[:, : len(slope)], axis=0) / np.abs(slope)
    strength = penalty(job, problem, options, R, slope)
    zero = problem.pack(_zero(job.potential))
    size = how.amplitude * np.sqrt(problem.evaluate(zero, gradient=False).loss)
    spread = size / np.maximum(norms, 1e-12 * norms.max(initial=1e-300))
    rule = StopRule(options.evaluations, options.tolerance, options.max_seconds, None)

    def member(m: int) -> AcePotential:
        rng, theta, at = streams[m], zero.copy(), 0
        columns = 0
        for P, K in problem.shapes:
            theta[at : at + P * K] = (spread[columns : columns + K] * rng.normal(size=(P, K))).ravel()
            at += P * K
            columns += K
        if strong:
            theta[at : at + problem.n_radial] += how.radial_amplitude * rng.normal(size=problem.n_radial)
        objective = Objective(problem, strength, centre(problem, theta))
        best, trace = minimise(objective, theta, rule, options.optimizer, options.refresh, options.damping)
        if progress is not None:
            progress(f"member {m}: loss {trace.rounds[-1]['loss']:.4e} after {objective.evaluations} evaluations")
        return problem.unpack(best)[0]

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(member, range(len(streams))))


def _zero(potential: AcePotential) -> AcePotential:
    return potential.with_coefficients(
        {el: np.zeros((potential.n_densities[el], K)) for el, K in potential.n_functions.items()}
    )


def _parallel(job: Prepared, function, items) -> list:
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(job.model.threads) as pool:
        return list(pool.map(function, items))
