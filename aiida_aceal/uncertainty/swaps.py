"""The search of MaxVol in a matrix of coefficients: single swaps, pairs of swaps, shakes.

All functions work on ``C = rows A^-1`` and change it in place. Places are columns of C (rows of A); a swap puts row i
in place j and multiplies ``|det A|`` by ``|c_ij|``.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import blas

from . import kernels
from .threads import Team, largest_coefficients

#: Sizes of the working sets, each the rows with the largest coefficients of the one before.
WORKING_ROWS = 3072
_INNER_ROWS = 256
#: A swap that gains less than this is rounding noise and could be undone for ever.
LEAST_GAIN = 1.0 + 1.0e-9
#: A pair exchange must gain this factor, and at least one of its elements is larger than 1/sqrt(2).
_PAIR_GAIN = 1.05
_PAIR_ELEMENT = 0.71
_PAIR_LIMIT = 1500
#: A shake replaces this many places (or a quarter of all) by rows with coefficients above the bound.
_SHAKEN_PLACES = 20
_SHAKEN_ELEMENT = 0.3


def improve(
    c: np.ndarray,
    tolerance: float,
    limit: int | None = None,
    *,
    pairs: bool = False,
    shakes: int = 0,
    rng: np.random.Generator | None = None,
    team: Team | None = None,
) -> tuple[np.ndarray, int]:
    """Swaps within the rows of ``c`` [n, K] (overwritten) until all coefficients are within the tolerance.

    A locally maximal volume depends on the order of the swaps. ``pairs`` and ``shakes`` look for a better one in the
    working set, where a look costs little; the set found is within the tolerance all the same.

    :param pairs: also exchange two rows at once where that gains and no single swap does.
    :param shakes: so many times replace some rows at random, swap again, and keep what has a larger volume.
    :param rng: for the shakes.
    :return: owner [K] (row of ``c`` now in each place, -1 where nothing changed), number of swaps.
    """
    limit = np.iinfo(np.int64).max if limit is None else int(limit)
    tolerance = max(tolerance, LEAST_GAIN)
    n, k = c.shape
    owner = np.full(k, -1, dtype=np.int64)
    total = 0
    if n == 0:
        return owner, 0
    polish = pairs or shakes > 0
    while total < limit:
        largest = _row_maxima(c, team)
        violators = int((largest > tolerance).sum())
        if not violators and not polish:
            break
        chosen = np.arange(n)
        if n > WORKING_ROWS:
            chosen = np.sort(np.argpartition(-largest, WORKING_ROWS)[:WORKING_ROWS])
        small = c[chosen]
        local = np.full(k, -1, dtype=np.int64)
        total += _working_set(small, local, tolerance, limit - total, pairs, np.zeros(1), team)
        if polish and violators <= WORKING_ROWS:
            total += _shake_often(small, local, tolerance, limit - total, shakes, rng, team)
            polish = False
        places = np.flatnonzero(local >= 0)
        if places.size == 0:
            break
        owner[places] = chosen[local[places]]
        replace_places(c, places, owner[places], team)
    return owner, total


def _row_maxima(c: np.ndarray, team: Team | None) -> np.ndarray:
    if team is not None:
        return largest_coefficients(c, team)
    largest = np.empty(len(c))
    kernels.row_maxima(c, largest)
    return largest


def _working_set(
    c: np.ndarray,
    owner: np.ndarray,
    tolerance: float,
    limit: int,
    pairs: bool,
    gain: np.ndarray,
    team: Team | None = None,
) -> int:
    """Swaps, and pairs of swaps, in a few thousand rows; number made. Their gain of log volume is added to ``gain``."""
    n, k = c.shape
    if n <= _INNER_ROWS and not pairs:
        return int(kernels.swap_rows(c, owner, tolerance, limit, gain))
    total = 0
    while total < limit:
        largest = _row_maxima(c, team)
        if largest.max() > tolerance:
            chosen = np.arange(n)
            if n > _INNER_ROWS:
                chosen = np.sort(np.argpartition(-largest, _INNER_ROWS)[:_INNER_ROWS])
            local = np.full(k, -1, dtype=np.int64)
            total += int(kernels.swap_rows(c[chosen], local, tolerance, limit - total, gain))
            places = np.flatnonzero(local >= 0)
            rows = chosen[local[places]]
        else:
            pair = _find_pair(c) if pairs else None
            if pair is None:
                break
            rows, places, won = pair
            gain[0] += np.log(won)
            total += 2
        owner[places] = rows
        replace_places(c, places, rows, team)
    return total


def _shake_often(
    c: np.ndarray,
    owner: np.ndarray,
    tolerance: float,
    limit: int,
    shakes: int,
    rng: np.random.Generator,
    team: Team | None,
) -> int:
    """Shakes, two at a time from the same state whatever the number of threads; the better one is kept."""
    total = 0
    for _ in range(0, shakes, 2):
        starts = [_draw(c, rng) for _ in range(2)]
        run = map if team is None else team.map
        left = limit - total
        results = list(run(lambda start, left=left: _shake(c, start, tolerance, left), starts))
        gain, made, local, trial = max(results, key=lambda result: result[0])
        if gain > 1e-6:
            moved = np.flatnonzero(local >= 0)
            owner[moved] = local[moved]
            c[:] = trial
            total += made
    return total


def _draw(c: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to put into places, at random among the large coefficients."""
    k = c.shape[1]
    chosen: dict[int, int] = {}
    for j in rng.choice(k, max(1, min(_SHAKEN_PLACES, k // 4)), replace=False):
        size = np.abs(c[:, j])
        rows = np.flatnonzero((size > _SHAKEN_ELEMENT) & (size < 1.0 - 1e-9))
        if rows.size:
            chosen[int(rng.choice(rows))] = int(j)
    return np.array(list(chosen), dtype=np.int64), np.array(list(chosen.values()), dtype=np.int64)


def _shake(
    c: np.ndarray, start: tuple[np.ndarray, np.ndarray], tolerance: float, limit: int
) -> tuple[float, int, np.ndarray, np.ndarray]:
    """Put the rows into their places, swap again; (gain of log volume, swaps, owner, coefficients)."""
    rows, places = start
    local = np.full(c.shape[1], -1, dtype=np.int64)
    gain = np.array([np.linalg.slogdet(c[np.ix_(rows, places)])[1] if rows.size else -np.inf])
    if gain[0] < -len(rows):
        return -np.inf, 0, local, c
    trial = c.copy()
    local[places] = rows
    replace_places(trial, places, rows)
    made = _working_set(trial, local, tolerance, limit, False, gain)
    return float(gain[0]), made + len(rows), local, trial


def _find_pair(c: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """(rows, places, factor) of the best exchange of two rows, None if none gains enough."""
    rows, columns = np.nonzero(np.abs(c) > _PAIR_ELEMENT)
    size = np.abs(c[rows, columns])
    order = np.argsort(-size, kind="stable")[:_PAIR_LIMIT]
    gain, i1, j1, i2, j2 = kernels.best_pair(c, rows[order], columns[order], _PAIR_GAIN)
    return (np.array([i1, i2]), np.array([j1, j2]), gain) if gain > 0 else None


def replace_places(c: np.ndarray, places: np.ndarray, chosen: np.ndarray, team: Team | None = None) -> None:
    """Update ``c`` [n, K] in place for rows ``chosen`` [s] of it put into ``places`` [s] (Woodbury identity).

    ``C' = C - C[:, J] (C[I, J])^-1 (C[I, :] - E_J)`` with I the chosen rows and J their places.
    """
    block = c[chosen]
    core = np.ascontiguousarray(block[:, places])
    block[np.arange(len(places)), places] -= 1.0
    step = np.linalg.solve(core, block)
    places = places.astype(np.int64)

    def update(begin: int, end: int) -> None:
        part = c[begin:end]
        columns = np.empty((len(part), len(places)))
        kernels.take_columns(part, places, columns)
        # part.T is Fortran-ordered: updated in place, no copy of the tall matrix
        blas.dgemm(-1.0, step.T, columns.T, beta=1.0, c=part.T, overwrite_c=1)

    if team is None:
        update(0, len(c))
    else:
        team.each(update, len(c))
