"""Fits of the members of an ensemble, in parallel, with everything shared that members have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from ase import Atoms
from threadpoolctl import threadpool_limits

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.common.settings import build

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
from .nonlinear import fit_nonlinear
from .optimize import Objective, StopRule, minimise
from .penalty import LinearPart, centre, penalty
from .problem import Problem
from .settings import FitSettings
from .solvers import NormalAccumulator, QrAccumulator
from .thresholds import NOTES

log = logging.getLogger(__name__)


def fit_ensemble(
    potential: AcePotential,
    train: Sequence[Atoms],
    settings: FitSettings | Mapping | None = None,
    ensemble: EnsembleSettings | Mapping | None = None,
    names: Sequence[str] | None = None,
    progress=None,
) -> Ensemble:
    """Fit an `Ensemble` on labelled structures, with thresholds by the IQR rule as far as the data have them.

    Members ``weak`` and ``strong`` start from the radial functions of ``potential``: give the fitted one. Those of a
    blank one are optimised first, once for all members.

    Raises
    ------
    AceError
        Bad settings or labels; a method that does not fit ``settings.method``.
    """
    started, cpu = time.perf_counter(), time.process_time()
    settings = FitSettings.read(settings)
    how = build(EnsembleSettings, ensemble, "ensemble")
    method = how.method_for(settings.method)
    report: dict = {}
    if method in ("weak", "strong"):
        report["radial_functions"] = "given" if potential.is_fitted else "optimised"
        if not potential.is_fitted:
            if progress is not None:
                progress("the potential has no coefficients yet: its radial functions are optimised first")
            potential = fit_nonlinear(potential, train, settings, None, names, progress=progress).potential
    job = prepare(potential, train, settings, None, names)
    # one independent stream of random numbers for each member: the result does not depend on their order
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(settings.seed).spawn(how.members)]
    if method in ("weak", "strong"):
        potentials = _nonlinear(job, how.replace(method=method), streams, progress, report)
    else:
        make = _posterior if method == "posterior" else _resampled
        potentials = make(job, how.replace(method=method), streams, progress)
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
        "settings": how.to_dict(),
        "seed": settings.seed,
        "n_structures": len(job.train),
        "shared_projections": result.shared,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        **report,
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
    for rows, structure, informs in design_windows(job, scale):

        def add(m: int, rows=rows, structure=structure, informs=informs) -> None:
            seen = roots[m, structure] > 0.0
            accumulators[m].add(rows[seen] * roots[m, structure[seen]][:, None], int(informs[seen].sum()))

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


def _nonlinear(job: Prepared, how: EnsembleSettings, streams, progress, report: dict) -> list[AcePotential]:
    """Nonlinear members from random starts; neighbourhoods and raw base functions are made once for all.

    A member is optimised until the root of its loss is within ``how.within`` of that of the potential, or has taken
    ``how.effort`` times the evaluations of a fit; ``report`` says how far each came.
    """
    strong, options = how.method == "strong", job.settings.nonlinear
    # threads go over members, so that one evaluation runs in one thread
    serial = job.settings.replace(threads=1)
    threads = job.model.threads
    job = replace(job, settings=serial, model=AceModel(job.potential, threads=1))
    problem = Problem(job, strong, serial.reference_energies == "joint")
    part = LinearPart.of(job)
    norms = part.norms / np.abs(part.slope)
    target = problem.evaluate(problem.pack(job.potential), gradient=False)
    good = (1.0 + how.within) ** 2 * target.loss
    zero = problem.pack(_zero(job.potential))
    strength = penalty(job, problem, options, part, problem.pack(job.potential), True)
    size = how.amplitude * np.sqrt(problem.evaluate(zero, gradient=False).loss)
    spread = size / np.maximum(norms, 1e-12 * norms.max(initial=1e-300))
    scales = _pair_scales(problem, zero)

    def member(m: int) -> tuple[AcePotential, dict]:
        rng, theta, at = streams[m], zero.copy(), 0
        columns = 0
        for P, K in problem.shapes:
            theta[at : at + P * K] = (spread[columns : columns + K] * rng.normal(size=(P, K))).ravel()
            at += P * K
            columns += K
        if strong:
            theta[at : at + problem.n_radial] += how.radial_amplitude * scales * rng.normal(size=problem.n_radial)
        objective = Objective(problem, strength, centre(problem, theta), part.loss)
        tolerance, total, stopped = options.tolerance, 0, ""
        while total < how.effort * options.evaluations:
            objective.evaluations = 0
            left = how.effort * options.evaluations - total
            rule = StopRule(min(options.evaluations, left), tolerance, options.max_seconds, None)
            theta, trace = minimise(objective, theta, rule, options.optimizer, options.refresh, options.damping)
            ev, stopped = problem.evaluate(theta, gradient=False), trace.stopped
            total += objective.evaluations
            if ev.loss <= good or stopped == "seconds" or (stopped == "converged" and tolerance < 1e-4):
                break
            tolerance = tolerance if stopped == "evaluations" else 0.1 * tolerance
        found = {
            "energy_rmse": ev.energy_rmse,
            "force_rmse": ev.force_rmse,
            "evaluations": total,
            "stopped": stopped,
            "as_good": bool(ev.loss <= good),
        }
        if progress is not None:
            progress(
                f"member {m}: E {ev.energy_rmse * 1e3:.2f} meV/atom, F {ev.force_rmse * 1e3:.2f} meV/A "
                f"after {total} evaluations"
            )
        return problem.unpack(theta)[0], found

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(member, range(len(streams))))
    report["potential"] = {"energy_rmse": target.energy_rmse, "force_rmse": target.force_rmse}
    report["fits"] = [found for _, found in made]
    report["warnings"] = _behind(report, how)
    for line in report["warnings"]:
        log.warning(line)
    return [potential for potential, _ in made]


def _behind(report: dict, how: EnsembleSettings) -> list[str]:
    """A line that says how many members are worse than the potential, if any are."""
    behind = [f for f in report["fits"] if not f["as_good"]]
    if not behind:
        return []
    worst = {k: 1e3 * max(f[k] for f in behind) for k in ("energy_rmse", "force_rmse")}
    return [
        f"{len(behind)} of {len(report['fits'])} members of the ensemble are not as good as the potential (up to "
        f"{worst['energy_rmse']:.4g} meV/atom and {worst['force_rmse']:.4g} meV/A on the training set against "
        f"{1e3 * report['potential']['energy_rmse']:.4g} and {1e3 * report['potential']['force_rmse']:.4g}): their "
        f"disagreement also shows unfinished fits; raise ensemble.effort ({how.effort}) or nonlinear.evaluations"
    ]


def _pair_scales(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """Root mean square of the radial coefficients of the pair each belongs to, [n_radial]; empty if they are fixed."""
    if not problem.radial:
        return np.zeros(0)
    _, radial, _ = problem.split(theta)
    scales, at = [], 0
    for pair in problem.pairs:
        count = int(np.prod(problem.pair_shapes[pair]))
        scales.append(np.full(count, np.sqrt(np.mean(radial[at : at + count] ** 2)) or 1.0))
        at += count
    return np.concatenate(scales)


def _zero(potential: AcePotential) -> AcePotential:
    return potential.with_coefficients(
        {el: np.zeros((potential.n_densities[el], K)) for el, K in potential.n_functions.items()}
    )


def _parallel(job: Prepared, function, items) -> list:
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(job.model.threads) as pool:
        return list(pool.map(function, items))
