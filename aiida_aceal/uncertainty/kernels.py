"""Compiled inner loops of MaxVol. All release the GIL and count in 64 bits, so that N K may exceed 2**31."""

from __future__ import annotations

import numba as nb
import numpy as np

_JIT = {"cache": True, "nogil": True, "fastmath": False, "boundscheck": False}


@nb.njit("void(f8[:,::1], f8[::1])", **_JIT)
def row_maxima(c: np.ndarray, out: np.ndarray) -> None:
    """``out[i] = max_j |c[i, j]|``; a NaN in the row gives NaN, so that it cannot pass a threshold unseen."""
    n, k = np.int64(c.shape[0]), np.int64(c.shape[1])
    for i in range(n):
        big = 0.0
        total = 0.0
        for j in range(k):
            v = abs(c[i, j])
            big = v if v > big else big
            total += v
        out[i] = big if np.isfinite(total) else np.nan


@nb.njit("void(f8[:,::1], f8[::1])", **_JIT)
def column_maxima(a: np.ndarray, out: np.ndarray) -> None:
    """``out[j] = max(out[j], max_i |a[i, j]|)``."""
    n, k = np.int64(a.shape[0]), np.int64(a.shape[1])
    for i in range(n):
        for j in range(k):
            v = abs(a[i, j])
            out[j] = v if v > out[j] else out[j]


@nb.njit("void(f8[:,::1], i8[::1], f8[:,::1])", **_JIT)
def take_columns(c: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """``out = c[:, columns]`` read row by row."""
    n, k = np.int64(c.shape[0]), np.int64(columns.shape[0])
    for i in range(n):
        for j in range(k):
            out[i, j] = c[i, columns[j]]


@nb.njit("UniTuple(i8, 2)(f8[:,::1], i8[::1], f8, f8, i8)", **_JIT)
def swap_rows(c: np.ndarray, owner: np.ndarray, tolerance: float, target: float, limit: int) -> tuple[int, int]:
    """Greedy swaps inside a small coefficient matrix until ``max |c| <= tolerance``.

    Each swap puts the row of the largest ``|c[i, j]|`` in place j, which multiplies the volume by ``|c[i, j]|``
    (Goreinov et al., "How to find a good submatrix", 2010). The rank-1 update of all rows and the search for the
    next largest element are one sweep.

    :param c: [w, K] coefficients, overwritten.
    :param owner: [K], set to the row now in each place that was swapped.
    :param target: return early when a swap would gain no more than this factor (``>= tolerance``).
    :return: number of swaps, 1 if finished or 0 if ``limit`` swaps were made first.
    """
    w, k = np.int64(c.shape[0]), np.int64(c.shape[1])
    best_i = np.int64(0)
    best_j = np.int64(0)
    best = -1.0
    for i in range(w):
        for j in range(k):
            v = abs(c[i, j])
            if v > best:
                best = v
                best_i = i
                best_j = j
    row = np.empty(k)
    big = np.empty(w)
    swaps = np.int64(0)
    bar = max(tolerance, target)
    while best > bar:
        if swaps >= limit:
            return swaps, np.int64(0)
        p = best_i
        q = best_j
        pivot = c[p, q]
        for j in range(k):
            row[j] = c[p, j] / pivot
        row[q] = (pivot - 1.0) / pivot
        owner[q] = p
        swaps += 1
        for i in range(w):
            f = c[i, q]
            top = 0.0
            if f != 0.0:
                for j in range(k):
                    c[i, j] -= f * row[j]
            for j in range(k):
                v = abs(c[i, j])
                top = v if v > top else top
            big[i] = top
        # an exact unit vector: rounding must not make the row just chosen look extrapolating
        for j in range(k):
            c[p, j] = 0.0
        c[p, q] = 1.0
        big[p] = 1.0
        best = -1.0
        for i in range(w):
            if big[i] > best:
                best = big[i]
                best_i = i
        for j in range(k):
            if abs(c[best_i, j]) == best:
                best_j = j
                break
    return swaps, np.int64(1)
