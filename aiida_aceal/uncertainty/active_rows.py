"""The K active rows of a search: their inverse, kept accurate; where to start; directions that nothing spans."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack, qr, solve_triangular

from aiida_aceal.common.errors import AceError, NotFiniteError

from .swaps import improve, largest_rows
from .threads import Team, largest_coefficients, row_blocks

#: Label of an active row that is no environment but stands for an unseen direction.
FLOOR_ROW = -1
#: Labels of rows that were active before and stayed: ``PREVIOUS_ROW - place``.
PREVIOUS_ROW = -2
#: Size of floor rows relative to the largest value of each function.
FLOOR = 1.0e-4
#: A direction is unseen if all rows have less than this part of the function's scale left along it.
RANK_TOLERANCE = 1.0e-12
#: Rows to start from, in multiples of K, and random projections that estimate their leverage.
_START_ROWS = 4
_PROJECTIONS = 32
#: Largest coefficient that rounding may cause on the place of a floor row.
_FLOOR_NOISE = 0.02
#: Largest error of coefficients that is accepted, and the rank tolerance at which that is given up.
_NOISE = 2.0e-5
_COARSEST = 1.0e-6


def check_rows(rows: np.ndarray) -> np.ndarray:
    """The rows as C-contiguous float64 [N, K]; AceError if they are not finite or K = 0."""
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise AceError(f"rows must have shape [environments, functions] with functions > 0, not {rows.shape}")
    bad = ~np.isfinite(rows.sum(axis=1))
    if bad.any():
        bad &= ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise NotFiniteError(
                f"row {int(np.flatnonzero(bad)[0])} holds NaN or infinity: check that environment's positions"
            )
    return rows


class ActiveRows:
    """K active rows in scaled units, their labels and inverse; the mutable state of a search."""

    def __init__(
        self,
        rows: np.ndarray | None,
        labels: np.ndarray,
        scale: np.ndarray,
        rank_tolerance: float = RANK_TOLERANCE,
        inverse: np.ndarray | None = None,
    ) -> None:
        """Scaled rows or their inverse; whichever is missing is computed (the rows only when someone asks)."""
        self._rows = rows
        self.labels = labels
        self.scale = scale
        self.rank_tolerance = rank_tolerance
        if inverse is None:
            self._factorise()
        else:
            self.inverse = inverse

    @property
    def rows(self) -> np.ndarray:
        """[K, K] active rows in scaled units."""
        if self._rows is None:
            self._rows = np.linalg.inv(self.inverse)
        return self._rows

    @rows.setter
    def rows(self, rows: np.ndarray) -> None:
        self._rows = rows

    @classmethod
    def from_inverse(cls, inverse: np.ndarray) -> ActiveRows:
        """Rows known by their inverse only, without floor rows; the scale of functions is taken from it."""
        largest = np.abs(inverse).max(axis=1)
        if not np.isfinite(largest).all() or not (largest > 0).all():
            raise AceError("the active rows are singular: rebuild the active set from its environments")
        labels = PREVIOUS_ROW - np.arange(len(inverse), dtype=np.int64)
        return cls(None, labels, 1.0 / largest, inverse=inverse / largest[:, None])

    @classmethod
    def from_active(
        cls,
        active: np.ndarray,
        is_floor: np.ndarray | None,
        scale: np.ndarray,
        rank_tolerance: float,
        inverse: np.ndarray | None = None,
    ) -> ActiveRows:
        """Rows [K, K] of an earlier set in the functions' own units, and their inverse if it is known."""
        active = check_rows(active)
        k = active.shape[1]
        if active.shape != (k, k):
            raise AceError(f"active rows must be square, not {active.shape}")
        labels = PREVIOUS_ROW - np.arange(k, dtype=np.int64)
        rows = active / scale
        if is_floor is not None and np.any(is_floor):
            inverse = None
            places = np.flatnonzero(is_floor)
            labels[places] = FLOOR_ROW
            function = np.abs(rows[places]).argmax(axis=1)
            rows[places] = 0.0
            rows[places, function] = rank_tolerance
        if inverse is not None:
            inverse = inverse * scale[:, None]
        return cls(rows, labels, scale, rank_tolerance, inverse)

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
        chosen = rows[owner[places]] / self.scale
        if self._place_few(places, chosen):
            self.labels[places] = labels[owner[places]]
            return True
        before = self.rows.copy(), self.labels.copy(), self.inverse
        self.rows[places] = chosen
        self.labels[places] = labels[owner[places]]
        try:
            self.invert()
        except AceError:  # coefficients that were rounding errors, at condition numbers about 1e16
            self.rows, self.labels, self.inverse = before
            return False
        return True

    def _place_few(self, places: np.ndarray, chosen: np.ndarray) -> bool:
        """Update the inverse for a few new rows instead of computing it anew, where that is accurate."""
        if len(places) > len(self.inverse) // 3 or (self.labels == FLOOR_ROW).any():
            return False
        c = chosen @ self.inverse
        core = c[:, places]
        c[np.arange(len(places)), places] -= 1.0
        try:
            inverse = self.inverse - self.inverse[:, places] @ np.linalg.solve(core, c)
        except np.linalg.LinAlgError:
            return False
        error = chosen @ inverse
        error[np.arange(len(places)), places] -= 1.0
        if not np.abs(error).max() < 0.01 * _NOISE:
            return False
        self.inverse = inverse
        if self._rows is not None:
            self._rows[places] = chosen
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
        known = np.linalg.slogdet(self._rows)[1] if self._rows is not None else -np.linalg.slogdet(self.inverse)[1]
        return float(known + np.log(self.scale).sum())

    def finish(self, floor: float) -> ActiveRows:
        """The same set with its floor rows at their stated size."""
        places = np.flatnonzero(self.labels == FLOOR_ROW)
        if not places.size:
            return self
        rows = self.rows.copy()
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
        chosen = largest_rows(leverage, count)
    return lu_rows(rows[chosen], chosen, scale, rank_tolerance)


def lu_rows(rows: np.ndarray, labels: np.ndarray, scale: np.ndarray, rank_tolerance: float) -> ActiveRows:
    """Active rows from the pivots of an LU factorisation of ``rows`` [n, K] and floor rows."""
    start, chosen = _lu_choice(rows / scale, labels, rank_tolerance)
    state = ActiveRows(start, chosen, scale, rank_tolerance, inverse=np.zeros(0))
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
