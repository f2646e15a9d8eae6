"""Compiled inner loops of MaxVol. All release the GIL and count in 64 bits, so that N K may exceed 2**31."""

from __future__ import annotations

import numpy as np

from aiida_aceal.common.kernels import njit

_JIT = {"cache": True, "nogil": True, "fastmath": False, "boundscheck": False}

#: All bits of a float64 but the sign. Magnitudes sort like their bits read as integers, NaN above infinity; a largest
#: integer is found by SIMD instructions, a largest float is not (its NaN forbids another order of comparisons).
_MAGNITUDE = np.int64(0x7FFFFFFFFFFFFFFF)

#: Sizes that differ by less than this part are equal, and the first one counts: rounding must not decide between rows.
_TIE = 1.0e-5


@njit("void(f8[:,::1], f8[::1])", **_JIT)
def row_maxima(c: np.ndarray, out: np.ndarray) -> None:
    """``out[i] = max_j |c[i, j]|``; a NaN in the row gives NaN, so that it cannot pass a threshold unseen."""
    n, k = np.int64(c.shape[0]), np.int64(c.shape[1])
    bits = c.view(np.int64)
    found = out.view(np.int64)
    for i in range(n):
        big = np.int64(0)
        for j in range(k):
            v = bits[i, j] & _MAGNITUDE
            big = v if v > big else big
        found[i] = big


@njit("void(f8[:,::1], f8[::1])", **_JIT)
def column_maxima(a: np.ndarray, out: np.ndarray) -> None:
    """``out[j] = max(out[j], max_i |a[i, j]|)``."""
    n, k = np.int64(a.shape[0]), np.int64(a.shape[1])
    for i in range(n):
        for j in range(k):
            v = abs(a[i, j])
            out[j] = v if v > out[j] else out[j]


@njit("void(f8[:,::1], i8[::1], f8[:,::1])", **_JIT)
def take_columns(c: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """``out = c[:, columns]`` read row by row."""
    n, k = np.int64(c.shape[0]), np.int64(columns.shape[0])
    for i in range(n):
        for j in range(k):
            out[i, j] = c[i, columns[j]]


@njit("Tuple((i8, i8))(f8[:,::1], f8[::1])", **_JIT)
def _first_largest(c: np.ndarray, big: np.ndarray) -> tuple[int, int]:
    """(row, column) of the largest ``|c|``; the first of those that are equal up to rounding. ``big``: row maxima."""
    w, k = np.int64(c.shape[0]), np.int64(c.shape[1])
    best = 0.0
    for i in range(w):
        best = big[i] if big[i] > best else best
    least = best * (1.0 - _TIE)
    for i in range(w):
        if big[i] >= least:
            for j in range(k):
                if abs(c[i, j]) >= least:
                    return i, j
    return np.int64(0), np.int64(0)


@njit("i8(f8[:,::1], i8[::1], f8, i8, f8[::1])", **_JIT)
def swap_rows(c: np.ndarray, owner: np.ndarray, tolerance: float, limit: int, gain: np.ndarray) -> int:
    """Greedy swaps inside a small coefficient matrix until ``max |c| <= tolerance``.

    Each swap puts the row of the largest ``|c[i, j]|`` in place j, which multiplies the volume by ``|c[i, j]|``
    (Goreinov et al., "How to find a good submatrix", 2010). The rank-1 update of all rows and the search for the
    next largest element are one sweep.

    :param c: [w, K] coefficients, overwritten.
    :param owner: [K], set to the row now in each place that was swapped.
    :param gain: [1], the gain of log volume is added to it.
    :return: number of swaps, at most ``limit``.
    """
    w, k = np.int64(c.shape[0]), np.int64(c.shape[1])
    row = np.empty(k)
    big = np.empty(w)
    bits = c.view(np.int64)
    big_bits = big.view(np.int64)
    row_maxima(c, big)
    best_i, best_j = _first_largest(c, big)
    best = abs(c[best_i, best_j])
    swaps = np.int64(0)
    while best > tolerance and swaps < limit:
        p = best_i
        q = best_j
        pivot = c[p, q]
        gain[0] += np.log(abs(pivot))
        for j in range(k):
            row[j] = c[p, j] / pivot
        row[q] = (pivot - 1.0) / pivot
        owner[q] = p
        swaps += 1
        for i in range(w):
            f = c[i, q]
            top = np.int64(0)
            if f != 0.0:
                for j in range(k):
                    c[i, j] -= f * row[j]
            for j in range(k):
                v = bits[i, j] & _MAGNITUDE
                top = v if v > top else top
            big_bits[i] = top
        # an exact unit vector: rounding must not make the row just chosen look extrapolating
        for j in range(k):
            c[p, j] = 0.0
        c[p, q] = 1.0
        big[p] = 1.0
        best_i, best_j = _first_largest(c, big)
        best = abs(c[best_i, best_j])
    return swaps


@njit("Tuple((f8, i8, i8, i8, i8))(f8[:,::1], i8[::1], i8[::1], f8)", **_JIT)
def best_pair(c: np.ndarray, rows: np.ndarray, columns: np.ndarray, least: float) -> tuple[float, int, int, int, int]:
    """The exchange of two rows at once that gains most: the largest 2x2 minor of ``c``.

    :param c: [w, K] coefficients, all ``|c| <= 1`` up to the tolerance.
    :param rows, columns: positions of the large elements to combine.
    :return: (gain, row 1, column 1, row 2, column 2); gain 0 if none exceeds ``least``.
    """
    n = np.int64(rows.shape[0])
    best = least
    i1 = j1 = i2 = j2 = np.int64(-1)
    for a in range(n):
        i, j = rows[a], columns[a]
        x = c[i, j]
        for b in range(a + 1, n):
            k, l = rows[b], columns[b]
            if k != i and l != j:
                v = abs(x * c[k, l] - c[i, l] * c[k, j])
                if v > best * (1.0 - _TIE):
                    p, q = (i, j, k, l) if i < k else (k, l, i, j), (i1, j1, i2, j2)
                    if v > best * (1.0 + _TIE) or (i1 >= 0 and p < q):
                        best = max(v, best)
                        i1, j1, i2, j2 = p
    if i1 < 0:
        return 0.0, i1, j1, i2, j2
    return best, i1, j1, i2, j2
