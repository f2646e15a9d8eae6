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
from scipy.linalg import lapack, qr, solve_triangular

from aiida_aceal.ace.errors import AceError

from . import kernels
from .swaps import LEAST_GAIN, improve
from .threads import Team, largest_coefficients, row_blocks

#: Label of an active row that is no environment but stands for an unseen direction.
FLOOR_ROW = -1
#: Labels of rows that were active before and stayed: ``PREVIOUS_ROW - place``.
PREVIOUS_ROW = -2
#: Size of floor rows relative to the largest value of each function.
FLOOR = 1.0e-4
#: A direction is unseen if all rows have less than this part of the function's scale left along it.
RANK_TOLERANCE = 1.0e-12
TOLERANCE = 1.001

#: Rows to start from, in multiples of K, and random projections that estimate their leverage.
_START_ROWS = 4
_PROJECTIONS = 32
#: Attempts to find a larger volume by shaking the set found.
_SHAKES = 16
_CHECKED_ROWS = 2048
_ROUNDS = 20
#: Largest coefficient that rounding may cause on the place of a floor row.
_FLOOR_NOISE = 0.02
#: Largest error of coefficients that is accepted, and the rank tolerance at which that is given up.
_NOISE = 2.0e-5
_COARSEST = 1.0e-6
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
                state = ActiveRows.from_active(active, active_floor, scale, rank_tolerance)
            reached, swaps = search(state, rows, labels, tolerance, limit, team, rng if active is None else None)
            final = state.finish(floor)
            if final.rank < rows.shape[1]:
                reached = float(final.grade(rows, team).max(initial=0.0))
        coarser = coarser_rank_tolerance(reached, tolerance, rank_tolerance, floor)
        if coarser is None or swaps >= limit:
            break
        rank_tolerance = coarser
    return MaxVolResult(
        indices=final.labels,
        active=final.rows * scale,
        inverse=final.inverse / scale[:, None],
        log_volume=final.log_volume,
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
) -> tuple[float, int]:
    """Swap rows of ``rows`` [N, K] into ``state`` until none exceeds the tolerance; (largest coefficient, swaps).

    :param polish: also look for a better local maximum (pairs and shakes).
    """
    c = np.empty_like(rows)
    swaps = 0
    polishing = polish is not None
    for _ in range(_ROUNDS):  # more than a few only if rounding errors are as large as the tolerance
        team.matmul(rows, state.inverse / state.scale[:, None], out=c)
        owner, made = improve(
            c, tolerance, limit - swaps, pairs=polishing, shakes=_SHAKES * polishing, rng=polish, team=team
        )
        polishing = False
        if not state.place(owner, rows, labels):
            break
        swaps += made
        gamma = largest_coefficients(c, team)
        # the updated coefficients are trusted only as far as a fresh product agrees with them
        sample = np.sort(np.argsort(-gamma, kind="stable")[:_CHECKED_ROWS])
        fresh = largest_coefficients(state.coefficients(rows[sample]), team)
        drift = float(np.abs(fresh - gamma[sample]).max(initial=0.0))
        gamma[sample] = fresh
        reached = float(gamma.max(initial=0.0))
        if (drift < _DRIFT and reached <= tolerance) or swaps >= limit:
            return reached, swaps
        if made == 0:
            break
    return float(state.grade(rows, team).max(initial=0.0)), swaps


def check_rows(rows: np.ndarray) -> np.ndarray:
    """The rows as C-contiguous float64 [N, K]; AceError if they are not finite or K = 0."""
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise AceError(f"rows must have shape [environments, functions] with functions > 0, not {rows.shape}")
    bad = ~np.isfinite(rows.sum(axis=1))
    if bad.any():
        bad &= ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise AceError(
                f"row {int(np.flatnonzero(bad)[0])} holds NaN or infinity: check that environment's positions"
            )
    return rows


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


class ActiveRows:
    """K active rows in scaled units, their labels and inverse; the mutable state of a search."""

    def __init__(
        self, rows: np.ndarray, labels: np.ndarray, scale: np.ndarray, rank_tolerance: float = RANK_TOLERANCE
    ) -> None:
        self.rows = rows
        self.labels = labels
        self.scale = scale
        self.rank_tolerance = rank_tolerance
        self._factorise()

    @classmethod
    def from_active(
        cls, active: np.ndarray, is_floor: np.ndarray | None, scale: np.ndarray, rank_tolerance: float
    ) -> ActiveRows:
        active = check_rows(active)
        k = active.shape[1]
        if active.shape != (k, k):
            raise AceError(f"active rows must be square, not {active.shape}")
        labels = PREVIOUS_ROW - np.arange(k, dtype=np.int64)
        rows = active / scale
        if is_floor is not None:
            places = np.flatnonzero(is_floor)
            labels[places] = FLOOR_ROW
            function = np.abs(rows[places]).argmax(axis=1)
            rows[places] = 0.0
            rows[places, function] = rank_tolerance
        return cls(rows, labels, scale, rank_tolerance)

    @property
    def rank(self) -> int:
        return int((self.labels != FLOOR_ROW).sum())

    def invert(self) -> None:
        """New inverse after a change of rows; directions too small for double precision become unseen ones."""
        noise = self._factorise()
        while noise > _NOISE and self.rank_tolerance < _COARSEST:
            self.rank_tolerance *= 10.0
            real = self.labels != FLOOR_ROW
            columns = qr(self.rows[real], mode="r", pivoting=True, check_finite=False)[1]
            self.rows, self.labels = _lu_choice(self.rows[real], self.labels[real], self.rank_tolerance, columns)
            noise = self._factorise()

    def _factorise(self) -> float:
        """Set the inverse; the largest error of ``rows inverse = 1``, which is that of coefficients as well.

        Real rows R and floor rows ``f e_q`` of functions q make ``A = [[R_p, R_q], [0, f]]`` and
        ``A^-1 = [[R_p^-1, -R_p^-1 R_q / f], [0, 1 / f]]``: the zero is exact, no floor row can spoil a real one.
        Along unseen directions, coefficients of the real rows are zero but for rounding; floor rows are kept larger
        than that, since what is found there is what any row may have without meaning anything.
        """
        k = len(self.rows)
        floor = np.flatnonzero(self.labels == FLOOR_ROW)
        real = np.flatnonzero(self.labels != FLOOR_ROW)
        q = np.abs(self.rows[floor]).argmax(axis=1) if floor.size else floor
        p = np.setdiff1d(np.arange(k), q)
        self.inverse = np.zeros((k, k))
        if real.size:
            rows = self.rows[real]
            lu, pivots, info = lapack.dgetrf(rows[:, p]) if len(p) == len(real) else (None, None, 1)
            # solving A X = 1 makes B X accurate; the usual inverse (getri) is accurate as X B, and 1e4 times worse here
            inner, info = lapack.dgetrs(lu, pivots, np.eye(len(real))) if info == 0 else (None, 1)
            if info != 0 or not np.isfinite(inner).all():
                raise AceError("the active rows are singular: rebuild the active set from its environments")
            self.inverse[np.ix_(p, real)] = inner
        if floor.size:
            size = self.rows[floor, q]
            if real.size:
                outer = inner @ rows[:, q]
                noise = np.abs(rows[:, p] @ outer - rows[:, q]).max(axis=0)
                size = np.maximum(size, noise / _FLOOR_NOISE)
                self.rows[floor, q] = size
                self.inverse[np.ix_(p, floor)] = -outer / size
            self.inverse[q, floor] = 1.0 / size
        if not real.size:
            return 0.0
        error = rows[:, p] @ inner
        error[np.diag_indices(len(real))] -= 1.0
        return float(np.abs(error, out=error).max())

    def coefficients(self, rows: np.ndarray) -> np.ndarray:
        """``rows A^-1`` for rows [n, K] in their own units."""
        return rows @ (self.inverse / self.scale[:, None])

    def grade(self, rows: np.ndarray, team: Team) -> np.ndarray:
        """[n] largest ``|coefficient|``, block by block."""
        gamma = np.empty(len(rows))
        x = self.inverse / self.scale[:, None]
        for block in row_blocks(*rows.shape):
            gamma[block] = largest_coefficients(team.matmul(rows[block], x), team)
        return gamma

    def place(self, owner: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> bool:
        """Put ``rows[owner[j]]`` in place j wherever ``owner[j] >= 0``; False if that is singular (nothing changes)."""
        places = np.flatnonzero(owner >= 0)
        if not places.size:
            return True
        before = self.rows.copy(), self.labels.copy(), self.inverse
        self.rows[places] = rows[owner[places]] / self.scale
        self.labels[places] = labels[owner[places]]
        try:
            self.invert()
        except AceError:  # coefficients that were rounding errors, at condition numbers about 1e16
            self.rows, self.labels, self.inverse = before
            return False
        return True

    def absorb(self, rows: np.ndarray, labels: np.ndarray, tolerance: float, pairs: bool = False) -> int:
        """Swap rows in until none of them exceeds the tolerance; number of swaps."""
        owner, swaps = improve(self.coefficients(rows), tolerance, pairs=pairs)
        return swaps if self.place(owner, rows, labels) else 0

    def rescale(self, scale: np.ndarray) -> None:
        """Change the unit of the columns."""
        if not np.array_equal(scale, self.scale):
            self.rows *= self.scale / scale
            self.scale = scale.copy()
            self.invert()

    @property
    def log_volume(self) -> float:
        """``log |det|`` in the functions' own units."""
        return float(np.linalg.slogdet(self.rows)[1] + np.log(self.scale).sum())

    def finish(self, floor: float) -> ActiveRows:
        """The same set with its floor rows at their stated size."""
        rows = self.rows.copy()
        places = np.flatnonzero(self.labels == FLOOR_ROW)
        if places.size:
            function = np.abs(rows[places]).argmax(axis=1)
            rows[places] = 0.0
            rows[places, function] = floor
        return ActiveRows(rows, self.labels.copy(), self.scale)


def start_rows(
    rows: np.ndarray, scale: np.ndarray, rank_tolerance: float, team: Team, rng: np.random.Generator
) -> ActiveRows:
    """Active rows to start from: LU pivots of the rows with the largest (estimated) leverage."""
    n, k = rows.shape
    chosen = np.arange(n)
    count = _START_ROWS * k
    if n > 2 * count and rows.any():
        sample = rows[np.sort(rng.choice(n, count, replace=False))] / scale
        gram = sample.T @ sample
        gram[np.diag_indices(k)] += max(1e-13 * gram.trace(), 1e-100)
        project = solve_triangular(np.linalg.cholesky(gram), rng.normal(size=(k, _PROJECTIONS)), lower=True, trans=1)
        leverage = np.square(team.matmul(rows, project / scale[:, None])).sum(axis=1)
        chosen = np.sort(np.argpartition(-leverage, count)[:count])
    return lu_rows(rows[chosen], chosen, scale, rank_tolerance)


def lu_rows(rows: np.ndarray, labels: np.ndarray, scale: np.ndarray, rank_tolerance: float) -> ActiveRows:
    """Active rows from the pivots of an LU factorisation of ``rows`` [n, K] and floor rows."""
    start, chosen = _lu_choice(rows / scale, labels, rank_tolerance)
    state = ActiveRows(start, chosen, scale, rank_tolerance)
    state.invert()
    return state


def _lu_choice(
    rows: np.ndarray, labels: np.ndarray, rank_tolerance: float, columns: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """K of the scaled rows and of K floor rows of size ``rank_tolerance``, and their labels.

    :param columns: the order of elimination; the last ones are those that floor rows stand for.
    """
    n, k = rows.shape
    columns = np.arange(k) if columns is None else columns
    work = np.zeros((n + k, k), order="F")
    work[:n] = rows[:, columns]
    np.fill_diagonal(work[n:], rank_tolerance)
    _, pivots, _ = lapack.dgetrf(work, overwrite_a=1)
    order = np.arange(n + k, dtype=np.int64)
    for i, p in enumerate(pivots):
        order[i], order[p] = order[p], order[i]
    order = order[:k]
    is_row = order < n
    start = np.zeros((k, k))
    start[is_row] = rows[order[is_row]]
    start[~is_row, columns[order[~is_row] - n]] = rank_tolerance
    chosen = np.full(k, FLOOR_ROW, dtype=np.int64)
    chosen[is_row] = labels[order[is_row]]
    return start, chosen
