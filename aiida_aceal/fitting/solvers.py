"""Regularised least squares on a triangular factor: ridge, Bayesian evidence, automatic relevance determination.

All work on R (and Q^T y) of the weighted design matrix X = Q R, so their cost does not depend on the number of rows.
With penalties d_k (the prior) the problem is min |R c - b|^2 + alpha sum_k (d_k c_k)^2; columns with d_k = 0 are free.
Rows that hold no information (forces that vanish by symmetry) must not be counted: the noise would come out too small,
and with it the strength of greatest evidence.
Evidence: D. J. C. MacKay, Neural Comput. 4, 415 (1992); ARD: M. E. Tipping, J. Mach. Learn. Res. 1, 211 (2001).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_solve, cholesky, qr, solve_triangular
from scipy.optimize import minimize_scalar

from aiida_aceal.common.errors import NotFiniteError


class QrAccumulator:
    """R of a tall matrix [X | y] that arrives in blocks of rows; memory: a few times columns^2.

    ``columns`` counts the y column. Blocks are stacked under the present R and factored again (TSQR).
    """

    def __init__(self, columns: int, buffer_rows: int | None = None) -> None:
        self.columns = columns
        self.rows = 0
        capacity = columns + max(buffer_rows or 0, 2 * columns, 512)
        self._buffer = np.zeros((capacity, columns), order="F")
        self._fill = 0

    def add(self, block: np.ndarray, counted: int | None = None) -> None:
        """Add rows [m, columns], already multiplied by the roots of their weights; ``counted``: how many of them
        hold information and enter ``rows`` (default: all)."""
        self.rows += len(block) if counted is None else counted
        start = 0
        while start < len(block):
            take = min(len(block) - start, len(self._buffer) - self._fill)
            self._buffer[self._fill : self._fill + take] = block[start : start + take]
            self._fill += take
            start += take
            if self._fill == len(self._buffer):
                self._reduce()

    def _reduce(self) -> None:
        (R,) = qr(self._buffer[: self._fill], mode="r", check_finite=False)
        m = min(self._fill, self.columns)
        self._buffer[:m] = R[:m]
        self._fill = m

    def factor(self) -> np.ndarray:
        """R [columns, columns], upper triangular (zero rows where there were fewer rows than columns)."""
        self._reduce()
        R = np.zeros((self.columns, self.columns))
        R[: self._fill] = self._buffer[: self._fill]
        return R


class NormalAccumulator:
    """As `QrAccumulator`, from X^T X: faster, but half of the digits are lost."""

    def __init__(self, columns: int, buffer_rows: int | None = None) -> None:
        self.columns, self.rows = columns, 0
        self._gram = np.zeros((columns, columns))

    def add(self, block: np.ndarray, counted: int | None = None) -> None:
        self.rows += len(block) if counted is None else counted
        self._gram += block.T @ block

    def factor(self) -> np.ndarray:
        scale = np.sqrt(np.diag(self._gram))
        scale[scale == 0.0] = 1.0
        values, vectors = np.linalg.eigh(self._gram / np.outer(scale, scale))
        root = np.sqrt(np.clip(values, 0.0, None))[:, None] * vectors.T * scale
        (R,) = qr(root, mode="r")
        return R


@dataclass
class Solution:
    """Coefficients [K] and how they were found.

    ``effective`` is the effective number of parameters, ``noise`` the estimated standard deviation of a row of unit
    weight, ``covariance_root`` [K, K] with posterior covariance = root root^T (noise included); ``penalty`` [K] are the
    strengths p_k of the terms p_k c_k^2 in force, in the units of the squared residuals.
    """

    coefficients: np.ndarray
    method: str
    alpha: float
    effective: float
    noise: float
    log_evidence: float | None = None
    active: np.ndarray | None = None
    covariance_root: np.ndarray | None = None
    penalty: np.ndarray | None = None


def _split(R: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    return R[:-1, :-1], R[:-1, -1], float(R[-1, -1] ** 2)


def solve(
    R: np.ndarray,
    rows: int,
    penalty: np.ndarray,
    method: str = "evidence",
    alpha: float | str = "auto",
    bound: np.ndarray | None = None,
) -> Solution:
    """Solve from the factor R [K + 1, K + 1] of [X | y].

    Parameters
    ----------
    rows
        Number of rows of X that hold information (for the noise estimate).
    penalty
        d [K] >= 0: prior scale of each column is 1 / d; 0 marks free columns.
    method
        ``none``, ``ridge``, ``evidence`` or ``ard``.
    alpha
        Strength relative to the mean square of the scaled columns; ``auto``: by evidence.
    bound
        P [m, K]: a further prior by which P c is normal about zero with standard deviation 1. The strength and the
        noise are found without it, so that it adds information where the data have none and changes little elsewhere.
        Not used by ``none`` and ``alpha: 0``.

    Raises
    ------
    AceError
        If R is not finite.
    """
    if not np.isfinite(R).all():
        raise NotFiniteError("the design matrix is not finite; look for atoms on top of each other or infinite labels")
    A, b, rest = _split(R)
    penalty = np.asarray(penalty, dtype=float)
    held = penalty > 0.0
    d, free = penalty[held], A[:, ~held]
    # free columns are projected out exactly, and found again from what the others leave
    scale = np.maximum(np.linalg.norm(free, axis=0), 1e-300)
    U, s, Vt = np.linalg.svd(free / scale, full_matrices=False)
    keep = s > 1e-10 * s.max(initial=0.0)
    U, s, Vt = U[:, keep], s[keep], Vt[keep]
    rows, n_free = max(rows - len(s), 1), len(s)
    Ap = A[:, held] / d
    Ap, bp = Ap - U @ (U.T @ Ap), b - U @ (U.T @ b)
    if rows < Ap.shape[1]:
        # few rows are interpolated: those that follow from others (equivalent atoms, the sum of forces) are no second
        # observation, else they pass for a proof that there is no noise
        values = np.linalg.svd(Ap, compute_uv=False)
        rows = min(rows, max(int(np.count_nonzero(values > 1e-10 * values.max())), 1))
    bound = None if bound is None else bound[:, held] / d
    if method == "none":
        y, rank = _least_norm(Ap, bp)
        chi2 = rest + float(((Ap @ y - bp) ** 2).sum())
        solution = Solution(y, "none", 0.0, float(rank), np.sqrt(chi2 / max(rows - rank, 1)))
    elif method == "ard":
        solution = _ard(Ap, bp, rest, rows, bound)
    else:
        solution = _ridge(Ap, bp, rest, rows, alpha, bound, method)
    y = solution.coefficients
    y[~A[:, held].any(axis=0)] = 0.0  # columns without data: rounding must not leave traces
    pinv = (Vt.T / s) @ U.T / scale[:, None]
    c = np.empty(len(penalty))
    c[held] = y / d
    c[~held] = pinv @ (b - A[:, held] @ c[held])
    if solution.covariance_root is not None:
        root = np.zeros((len(penalty), len(y)))
        root[held] = solution.covariance_root / d[:, None]
        root[~held] = -pinv @ (A[:, held] @ root[held])
        solution.covariance_root = root
    if solution.active is not None:
        active = np.ones(len(penalty), dtype=bool)
        active[held] = solution.active
        solution.active = active
    full = np.zeros(len(penalty))
    if solution.penalty is not None:
        full[held] = solution.penalty * d**2
    solution.penalty = full
    solution.coefficients = c
    solution.effective += n_free
    return solution


def _least_norm(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    keep = s > s[0] * 1e-12 if len(s) else np.zeros(0, dtype=bool)
    return Vt[keep].T @ ((U.T @ b)[keep] / s[keep]), int(keep.sum())


def _unit(A: np.ndarray) -> float:
    """Mean square of the scaled columns: the unit of alpha."""
    return (float(np.mean((A**2).sum(0))) if A.size else 1.0) or 1.0


def _ridge(A, b, rest, rows, alpha, bound=None, method="evidence") -> Solution:
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    beta = U.T @ b
    rest = rest + max(float(b @ b - beta @ beta), 0.0)
    unit = _unit(A)

    def chi2(lam: float) -> float:
        # |r|^2 + lam |c|^2, the quantity profiled over the noise
        return rest + float((beta**2 * lam / (s**2 + lam)).sum())

    def minus_log_evidence(t: float) -> float:
        lam = unit * 10.0**t
        return 0.5 * rows * np.log(max(chi2(lam), 1e-300)) - 0.5 * float(np.log(lam / (s**2 + lam)).sum())

    best = None
    if alpha == "auto":
        grid = np.arange(-22.0, 4.01, 0.5)
        values = [minus_log_evidence(t) for t in grid]
        k = int(np.argmin(values))
        low, high = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        found = minimize_scalar(minus_log_evidence, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
        t = float(found.x) if found.fun < values[k] else float(grid[k])
        alpha, best = 10.0**t, -minus_log_evidence(t)
    lam = unit * float(alpha)
    filt = s / (s**2 + lam) if lam > 0.0 else np.where(s > s.max(initial=0.0) * 1e-14, 1.0 / np.where(s > 0, s, 1), 0.0)
    y = Vt.T @ (filt * beta)
    effective = float((filt * s).sum())
    residual = rest + float((((1.0 - filt * s) * beta) ** 2).sum())
    noise = np.sqrt(residual / max(rows - effective, 1.0))
    root = Vt.T * (noise / np.sqrt(s**2 + max(lam, 1e-300)))
    on = np.ones(len(y), dtype=bool)
    solution = Solution(y, method, float(alpha), effective, float(noise), best, on, root, np.full(len(y), lam))
    return solution if bound is None or lam == 0.0 else _bounded(solution, lam, A, b, rest, rows, bound)


def _bounded(start: Solution, lam: float, A, b, rest, rows, bound) -> Solution:
    """``start`` with the prior P c ~ N(0, 1) added; strength and noise are those found without it."""
    K = len(start.coefficients)
    below = np.vstack([bound * start.noise, np.sqrt(lam) * np.eye(K)])
    (R,) = qr(np.vstack([np.column_stack([A, b]), np.pad(below, ((0, 0), (0, 1)))]), mode="r")
    y, inverse = np.split(solve_triangular(R[:K, :K], np.column_stack([R[:K, K], np.eye(K)])), [1], axis=1)
    y = y[:, 0]
    effective = float(((A @ inverse) ** 2).sum())
    residual = rest + float(((A @ y - b) ** 2).sum())
    noise = float(np.sqrt(residual / max(rows - effective, 1.0)))
    return replace(start, coefficients=y, effective=effective, noise=noise, covariance_root=inverse * noise)


def _lower(A: np.ndarray, gram: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of A^T A + diag(lam); by QR where rounding has spoilt the product."""
    try:
        return np.tril(cholesky(gram + np.diag(lam), lower=True, check_finite=False))
    except np.linalg.LinAlgError:
        (R,) = qr(np.vstack([A, np.diag(np.sqrt(lam))]), mode="r")
        R = R[: len(lam)]
        sign = np.where(np.diag(R) < 0.0, -1.0, 1.0)
        R = sign[:, None] * R
        R[np.diag_indices(len(R))] = np.maximum(np.diag(R), 1e-150)
        return R.T


def _ard(A, b, rest, rows, bound=None, iterations: int = 300, tolerance: float = 1e-3) -> Solution:
    """Fixed-point updates of one precision for each column; columns whose precision diverges are switched off.

    A bound acts as rows with the label zero from the first update on: which columns are switched off depends on it.
    """
    start = _ridge(A, b, rest, rows, "auto")
    if bound is not None:
        A, b = np.vstack([A, bound * start.noise]), np.append(b, np.zeros(len(bound)))
    gram, proj = A.T @ A, A.T @ b
    count = A.shape[1]
    noise2 = start.noise**2
    lam = np.full(count, _unit(A) * start.alpha)  # precision times noise variance
    limit = 1e6 * np.maximum(np.diag(gram), 1e-300)
    active = np.diag(gram) > 0.0
    y = np.zeros(count)
    for _ in range(iterations):
        k = np.flatnonzero(active)
        L = _lower(A[:, k], gram[np.ix_(k, k)], lam[k])
        new = cho_solve((L, True), proj[k], check_finite=False)
        L1 = solve_triangular(L, np.eye(len(k)), lower=True, check_finite=False)
        well = 1.0 - lam[k] * (L1**2).sum(0)  # how well determined each coefficient is by the data
        residual = rest + float(((A[:, k] @ new - b) ** 2).sum())
        noise2 = residual / max(rows - float(well.sum()), 1.0)
        updated = np.clip(well, 1e-12, None) * noise2 / np.maximum(new**2, 1e-300)
        updated = np.minimum(updated, limit[k] * 2.0)
        change = np.abs(np.log(updated / lam[k])).max(initial=0.0)
        y[:] = 0.0
        y[k] = new
        lam[k] = updated
        off = k[updated > limit[k]]
        active[off] = False
        y[off] = 0.0
        if change < tolerance and len(off) == 0:
            break
    k = np.flatnonzero(active)
    L = _lower(A[:, k], gram[np.ix_(k, k)], lam[k])
    y[k] = cho_solve((L, True), proj[k])
    root = np.zeros((count, count))
    inverse = solve_triangular(L, np.eye(len(k)), lower=True)
    root[np.ix_(k, k)] = inverse.T * np.sqrt(noise2)
    effective = float((1.0 - lam[k] * (inverse**2).sum(0)).sum())
    return Solution(y, "ard", start.alpha, effective, float(np.sqrt(noise2)), start.log_evidence, active, root, lam)
