"""MaxVol: the K rows of a tall matrix whose square submatrix has the largest |determinant|.

Method: Goreinov, Oseledets, Savostyanov, Tyrtyshnikov, Zamarashkin, "How to find a good submatrix" (2010): start
from the pivots of an LU factorisation, then put the row with the largest coefficient ``|c_ij|`` of
``C = rows A^-1`` in place of row j of ``A`` until no coefficient is larger than the tolerance. Each swap multiplies
``|det A|`` by ``|c_ij|``. What is ours: swaps are found within a small working set of rows with large coefficients,
and all other rows follow by one low-rank matrix product per round instead of one rank-1 update per swap.

Columns are equilibrated first (coefficients do not depend on the scale of a column, rounding errors do), and
directions that no row spans are filled with *floor rows*: row ``floor * scale[v]`` along function v. A new row with
a component ``d`` along an unseen direction has a coefficient of about ``d / (floor * scale[v])``: large, not zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aiida_aceal.common.errors import AceError

from . import kernels
from .active_rows import FLOOR, RANK_TOLERANCE, ActiveRows, check_rows, start_rows
from .swaps import LEAST_GAIN, improve
from .threads import Team, largest_coefficients

TOLERANCE = 1.001

#: Attempts to find a larger volume by shaking the set found.
_SHAKES = 4
_CHECKED_ROWS = 2048
_ROUNDS = 20
_DRIFT = 1.0e-6


@dataclass(frozen=True)
class MaxVolResult:
    """Outcome of :func:`maxvol`.

    :ivar indices: [K] int64, the chosen rows; ``FLOOR_ROW`` (-1) for a floor row; ``-2 - p`` for place p of the
        ``active`` rows handed in.
    :ivar active: [K, K] the chosen rows themselves (rows environments, columns functions).
    :ivar inverse: [K, K] their inverse: ``coefficients = rows @ inverse``; ``gamma = max_j |coefficients|``.
    :ivar log_volume: ``log |det active|``.
    :ivar rank: number of chosen rows that are no floor rows.
    :ivar tolerance: the tolerance asked for.
    :ivar tolerance_reached: the largest ``|coefficient|`` of any row handed in, measured with ``inverse``.
    :ivar swaps: number of swaps after the start.
    :ivar scale: [K] column scales used, the unit of the floor rows.
    """

    indices: np.ndarray
    active: np.ndarray = field(repr=False)
    inverse: np.ndarray = field(repr=False)
    log_volume: float
    rank: int
    tolerance: float
    tolerance_reached: float
    swaps: int
    scale: np.ndarray = field(repr=False)

    @property
    def converged(self) -> bool:
        """Whether no row handed in has a coefficient above the tolerance asked for."""
        return bool(self.tolerance_reached <= self.tolerance * LEAST_GAIN)


def maxvol(
    rows: np.ndarray,
    tolerance: float = TOLERANCE,
    *,
    active: np.ndarray | None = None,
    active_floor: np.ndarray | None = None,
    active_inverse: np.ndarray | None = None,
    scale: np.ndarray | None = None,
    floor: float = FLOOR,
    rank_tolerance: float = RANK_TOLERANCE,
    max_swaps: int | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> MaxVolResult:
    """Choose K of N rows (plus ``active`` rows) with locally maximal volume.

    :param rows: [N, K] float64, any N >= 0 and rank; not changed.
    :param tolerance: largest ``|coefficient|`` left, >= 1 (1.001 to 1.01 in the field).
    :param active: [K, K] rows of an earlier active set to start from; swaps happen only where a row of ``rows``
        exceeds the tolerance.
    :param active_floor: [K] bool, which of ``active`` are floor rows.
    :param active_inverse: [K, K] the inverse of ``active``, if it is known: saves time.
    :param scale: [K] natural size of each function; columns are scaled by the larger of it and their own maximum.
    :param floor: size of floor rows relative to the scale.
    :param rank_tolerance: smallest part of a column's scale that counts as seen.
    :param max_swaps: stop after this many swaps (default: no limit); the result says what was reached.
    :param seed: of the random projections that find rows to start from, and of the shakes.
    :param threads: default: OMP_NUM_THREADS, else the cores available.
    :raises AceError: wrong shape, non-finite values, tolerance below 1.
    """
    rows = check_rows(rows)
    check_numbers(tolerance, floor, rank_tolerance)
    scale = column_scale(rows if active is None else np.vstack([rows, _real_rows(active, active_floor)]), scale)
    limit = np.iinfo(np.int64).max if max_swaps is None else int(max_swaps)
    labels = np.arange(len(rows), dtype=np.int64)
    while True:
        rng = np.random.default_rng(seed)
        with Team(threads) as team:
            if active is None:
                state = start_rows(rows, scale, rank_tolerance, team, rng)
            else:
                state = ActiveRows.from_active(active, active_floor, scale, rank_tolerance, active_inverse)
            reached, swaps = search(state, rows, labels, tolerance, limit, team, rng if active is None else None)
            final = state.finish(floor)
            if final.rank < rows.shape[1]:
                reached = float(final.grade(rows, team).max(initial=0.0))
            log_volume = final.log_volume  # within the team: threads of BLAS would wait by spinning
        coarser = coarser_rank_tolerance(reached, tolerance, rank_tolerance, floor)
        if coarser is None or swaps >= limit:
            break
        rank_tolerance = coarser
    return MaxVolResult(
        indices=final.labels,
        active=final.rows * scale,
        inverse=final.inverse / scale[:, None],
        log_volume=log_volume,
        rank=final.rank,
        tolerance=float(tolerance),
        tolerance_reached=reached,
        swaps=swaps,
        scale=scale,
    )


def coarser_rank_tolerance(reached: float, tolerance: float, rank_tolerance: float, floor: float) -> float | None:
    """The next rank tolerance to try if rounding errors along nearly unseen directions keep gamma above the tolerance.

    Directions that small are better stood for by floor rows. None if the search did what was asked, or if nothing is
    left to try (a hundredth of the floor).
    """
    if reached <= tolerance * LEAST_GAIN or 10.0 * rank_tolerance > 0.01 * floor * LEAST_GAIN:
        return None
    return 10.0 * rank_tolerance


def search(
    state: ActiveRows,
    rows: np.ndarray,
    labels: np.ndarray,
    tolerance: float,
    limit: int,
    team: Team,
    polish: np.random.Generator | None = None,
    shakes: int | None = None,
) -> tuple[float, int]:
    """Swap rows of ``rows`` [N, K] into ``state`` until none exceeds the tolerance; (largest coefficient, swaps).

    :param polish: also look for a better local maximum (pairs and shakes).
    :param shakes: number of attempts (default: so many that they take a small part of the time).
    """
    c = np.empty_like(rows)
    swaps = 0
    polishing = polish is not None
    if shakes is None:
        shakes = _SHAKES if rows.shape[1] > 400 else 2 * _SHAKES
    for _ in range(_ROUNDS):  # more than a few only if rounding errors are as large as the tolerance
        team.matmul(rows, state.inverse / state.scale[:, None], out=c)
        owner, made = improve(
            c, tolerance, limit - swaps, pairs=polishing, shakes=shakes * polishing, rng=polish, team=team
        )
        polishing = False
        if not state.place(owner, rows, labels):
            break
        swaps += made
        gamma = largest_coefficients(c, team)
        # the updated coefficients are trusted only as far as a fresh product agrees with them
        count = min(_CHECKED_ROWS, max(256, len(rows) // 8))
        sample = np.sort(np.argsort(-gamma, kind="stable")[:count])
        fresh = state.grade(rows[sample], team)
        drift = float(np.abs(fresh - gamma[sample]).max(initial=0.0))
        gamma[sample] = fresh
        reached = float(gamma.max(initial=0.0))
        if (drift < _DRIFT and reached <= tolerance) or swaps >= limit:
            return reached, swaps
        if made == 0:
            break
    return float(state.grade(rows, team).max(initial=0.0)), swaps


def check_numbers(tolerance: float, floor: float, rank_tolerance: float) -> None:
    if not tolerance >= 1.0:
        raise AceError(f"tolerance = {tolerance} is below 1: coefficients of the active rows themselves are 1")
    if not 0.0 < floor <= 1.0:
        raise AceError(f"floor = {floor} must lie in (0, 1]: it is relative to the size of each function")
    if not 0.0 < rank_tolerance <= floor:
        raise AceError(f"rank_tolerance = {rank_tolerance} must lie in (0, floor = {floor}]")


def _real_rows(active: np.ndarray, is_floor: np.ndarray | None) -> np.ndarray:
    return active if is_floor is None else active[~np.asarray(is_floor, bool)]


def column_scale(rows: np.ndarray, natural: np.ndarray | None = None) -> np.ndarray:
    """[K] size of each function: the larger of its largest value and ``natural``.

    Functions that are zero everywhere get the geometric mean of the others, for want of anything better.
    """
    largest = np.zeros(rows.shape[1])
    kernels.column_maxima(np.ascontiguousarray(rows), largest)
    if natural is not None:
        natural = np.asarray(natural, dtype=np.float64)
        if natural.shape != largest.shape or not np.isfinite(natural).all() or (natural < 0).any():
            raise AceError(f"scale must hold {largest.size} finite numbers >= 0, one for each function")
        largest = np.maximum(largest, natural)
    seen = largest > np.finfo(float).tiny
    if not seen.all():
        largest[~seen] = np.exp(np.log(largest[seen]).mean()) if seen.any() else 1.0
    return largest
