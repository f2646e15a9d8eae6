"""Linear ACE: regularised weighted least squares on energies, forces and virials, streamed with bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ase import Atoms
from threadpoolctl import threadpool_limits

from aiida_aceal.ace import AceError, AcePotential
from aiida_aceal.common.errors import NotFiniteError
from aiida_aceal.common.threads import thread_count

from .job import FitResult, Prepared, finish, fixed_part, n_free, prepare
from .labels import reference_sum
from .prior import composition_bound, smoothness
from .report import linear_report
from .settings import FitSettings
from .solvers import NormalAccumulator, QrAccumulator, Solution, solve
from .upfit import judge, the_start

#: below this fraction of what is usual derivatives and labels vanish: positions are often rounded, so that symmetry
#: makes forces small, not zero
NEGLIGIBLE = 1e-3


def fit_linear(
    potential: AcePotential,
    train: Sequence[Atoms],
    settings: FitSettings | Mapping | None = None,
    validation: Sequence[Atoms] | None = None,
    names: Sequence[str] | None = None,
    validation_names: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> FitResult:
    """Fit the coefficients of a linear ACE.

    Parameters
    ----------
    potential
        The basis. Its coefficients do not enter, but a fitted potential of lower training loss than the fit is what
        is returned (`aiida_aceal.fitting.upfit`). With several densities only the first one is fitted, whose embedding
        must be linear; the others get zero coefficients.
    train, validation
        Structures with labels in ASE's usual place (``atoms.calc.results``).
    settings
        `FitSettings` or a mapping of the same keys.
    names, validation_names
        What messages and the report call each structure.
    progress
        Called with a line of text now and then.

    Raises
    ------
    AceError
        Bad settings or labels, or a first density whose embedding is not linear.
    """
    started, cpu = time.perf_counter(), time.process_time()
    settings = FitSettings.read(settings)
    job = prepare(potential, train, settings, validation, names, validation_names)
    solution = solve_linear(job, progress)
    built = time.perf_counter() - started
    fitted, reference = unpack(job, solution.coefficients)
    result = FitResult(fitted, {}, solution=solution)
    finish(result, job, reference)
    start = the_start(job)
    judge(result, job, [] if start is None else [start])
    result.report = linear_report(
        result, job, {"solve": built, "total": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    )
    return result


def solve_linear(job: Prepared, progress: Callable[[str], None] | None = None) -> Solution:
    """Stream the design matrix into a triangular factor and solve."""
    R, rows = linear_factor(job, first_density_weights(job.potential), progress)
    return solve_factor(job, R, rows, penalties(job))


def linear_factor(
    job: Prepared, scale: np.ndarray, progress: Callable[[str], None] | None = None
) -> tuple[np.ndarray, int]:
    """R of the weighted [design matrix | labels] and the number of rows that hold information (see `design_windows`).

    ``scale`` [Ktot]: dE/drho of each column.
    """
    columns = len(scale) + n_free(job) + 1
    kind = QrAccumulator if job.settings.solver == "qr" else NormalAccumulator
    accumulator = kind(columns, buffer_rows=window_rows(job, columns - 1) // 2)
    done = 0
    for rows, _, informs in design_windows(job, scale):
        accumulator.add(rows, int(informs.sum()))
        done += len(rows)
        if progress is not None:
            progress(f"{done} rows of the design matrix")
    return accumulator.factor(), accumulator.rows


def penalties(job: Prepared) -> np.ndarray:
    """Relative penalty of each column: the smoothness prior, zero for reference energies."""
    return np.concatenate([smoothness(job.potential, job.settings.regularization), np.zeros(n_free(job))])


def solve_factor(
    job: Prepared, R: np.ndarray, rows: int, penalty: np.ndarray, scale: np.ndarray | None = None
) -> Solution:
    """Solve with the prior scaled by the columns' size on the data, and bounded at compositions outside of the data.

    ``scale`` [Ktot] as in `linear_factor`; default: `first_density_weights`.
    """
    norms = np.linalg.norm(R[:, :-1], axis=0)
    # a column much smaller than the rest is noise of a function that hardly occurs: it must not get a huge coefficient
    norms = np.maximum(norms, 1e-12 * norms.max(initial=1e-300))
    reg = job.settings.regularization
    bound = composition_bound(job)
    if bound is not None:
        bound = np.pad(
            bound * (first_density_weights(job.potential) if scale is None else scale), ((0, 0), (0, n_free(job)))
        )
    return solve(R, rows, penalty * norms, reg.method, reg.alpha, bound)


def first_density_weights(potential: AcePotential) -> np.ndarray:
    """Factor dE/drho_1 [Ktot] of each column: the embedding weight of the first density.

    Raises
    ------
    AceError
        If the first density of an element is not linear.
    """
    columns = []
    for el in potential.elements:
        w, m = potential.species[el].parameters[:2]
        if m != 1.0 or w == 0.0:
            raise AceError(
                f"element {el}: the first density has embedding parameters ({w}, {m}), a linear fit needs (w, 1) with "
                "w not zero; change the embedding to [1, 1, ...] or use method: nonlinear"
            )
        columns.append(np.full(potential.n_functions[el], w))
    return np.concatenate(columns)


def window_rows(job: Prepared, columns: int) -> int:
    """Rows of the design matrix held at a time, by the memory bound."""
    return max(64, int(job.settings.memory_bytes / (4 * 8 * (columns + 1))))


def design_windows(job: Prepared, scale: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weighted rows [m, Ktot + n_free + 1] of design matrix and labels, a window of structures at a time.

    With the structure [m] that each row belongs to, and whether it holds information [m] (bool): a row of forces or
    virials does not if derivative and label both vanish, as by symmetry. "Vanish" means below `NEGLIGIBLE` times the
    structure's row of energies per atom (per Angstrom; 1 for virials), and the same fraction of the RMS of the labels.
    """
    data, weights = job.train, job.weights
    columns = len(scale) + n_free(job)
    limit = window_rows(job, columns)
    base_energy = reference_sum(data, job.reference)
    fixed = fixed_part(job)
    rows_of = 1 + 6 * (weights.virial > 0) + np.array([0 if f is None else 3 * len(f) for f in data.forces])
    threads = thread_count(job.settings.threads)

    small_f = NEGLIGIBLE * _rms(data.forces)
    small_v = NEGLIGIBLE * _rms([None if v is None else v / m for v, m in zip(data.virials, data.n_atoms)])

    def one(k: int) -> tuple[np.ndarray, np.ndarray]:
        w_f = weights.forces[k]
        with_f, with_v = w_f is not None and bool(w_f.any()), weights.virial[k] > 0.0
        system = job.model.linear_system(data.structures[k], forces=with_f, virial=with_v)
        n = data.n_atoms[k]
        out = np.zeros((1 + 3 * n * with_f + 6 * with_v, columns + 1))
        e0, f0, v0 = fixed(k)
        K = len(scale)
        informs = np.zeros(len(out), dtype=bool)
        out[0, :K] = system.energy * scale
        size = NEGLIGIBLE * float(np.linalg.norm(out[0, :K])) / n
        if columns > K:
            out[0, K:columns] = data.counts[k]
        out[0, -1] = data.energies[k] - base_energy[k] - e0
        out[0] *= np.sqrt(weights.energy[k]) / n
        informs[0] = out[0].any()
        if with_f:
            root = np.repeat(np.sqrt(w_f), 3)
            X, y = system.forces * scale, (data.forces[k] - f0).ravel()
            informs[1 : 1 + 3 * n] = ((np.linalg.norm(X, axis=1) > size) | (np.abs(y) > small_f)) & (root > 0.0)
            out[1 : 1 + 3 * n, :K] = X * root[:, None]
            out[1 : 1 + 3 * n, -1] = y * root
        if with_v:
            X, y = system.virial * scale / n, (data.virials[k] - v0) / n
            informs[-6:] = (np.linalg.norm(X, axis=1) > size) | (np.abs(y) > small_v)
            out[-6:, :K] = X * np.sqrt(weights.virial[k])
            out[-6:, -1] = y * np.sqrt(weights.virial[k])
        return out, informs

    windows: list[list[int]] = [[]]
    filled = 0
    for k in range(len(data)):
        if windows[-1] and filled + rows_of[k] > limit:
            windows.append([])
            filled = 0
        windows[-1].append(k)
        filled += int(rows_of[k])
    with ThreadPoolExecutor(threads) as pool:
        for window in windows:
            with threadpool_limits(1, user_api="blas"):
                parts = list(pool.map(one, window))
            rows, informs = zip(*parts)
            yield np.concatenate(rows), np.repeat(window, [len(p) for p in rows]), np.concatenate(informs)


def _rms(labels: Sequence[np.ndarray | None]) -> float:
    """Root mean square of all components of the labels there are."""
    values = [np.asarray(v).ravel() for v in labels if v is not None]
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2))) if values else 0.0


def unpack(job: Prepared, solution: np.ndarray) -> tuple[AcePotential, dict[str, float]]:
    """The potential with coefficients from a solution vector [Ktot + n_free], and the reference energies."""
    pot = job.potential
    if not np.isfinite(solution).all():
        raise NotFiniteError("the fit gives coefficients that are not finite; raise regularization.alpha")
    coefficients, start = {}, 0
    for el in pot.elements:
        K = pot.n_functions[el]
        c = np.zeros((pot.n_densities[el], K))
        c[0] = solution[start : start + K]
        coefficients[el] = c
        start += K
    reference = dict(job.reference)
    if n_free(job):
        for k, el in enumerate(pot.elements):
            if el in reference:
                reference[el] += float(solution[start + k])
    return pot.with_coefficients(coefficients).with_reference_energies(reference), reference
