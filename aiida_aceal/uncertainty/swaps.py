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
#: A row that is the same as the one in its place, up to rounding, is no other row.
_SAME_ROW = 1.0e-4
#: Working sets are cut at a gap of sizes within this part of their number.
_CUT = 8
#: Sizes that differ by less than this part are equal.
_EQUAL = 1.0e-5


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
            chosen = largest_rows(largest, WORKING_ROWS)
        small = c[chosen]
        local = np.full(k, -1, dtype=np.int64)
        total += _working_set(small, local, tolerance, limit - total, pairs, np.zeros(1), team)
        if polish and violators <= WORKING_ROWS:
            total += _shake_often(small, chosen, local, tolerance, limit - total, shakes, rng, team)
            polish = False
        places = np.flatnonzero(local >= 0)
        if places.size == 0:
            break
        owner[places] = chosen[local[places]]
        replace_places(c, places, owner[places], team)
    return owner, total


def largest_rows(size: np.ndarray, count: int) -> np.ndarray:
    """Indices, sorted, of about the ``count`` largest of ``size`` [n], cut where neighbours in size differ most.

    A cut between two sizes that are nearly equal would hang on rounding, and with it all swaps that follow.
    """
    if len(size) <= count:
        return np.arange(len(size))
    most = min(len(size), count + count // _CUT)
    first = np.argpartition(-size, most - 1)[:most]
    order = first[np.argsort(-size[first], kind="stable")]
    least = max(1, count - count // _CUT)
    gaps = size[order[least - 1 : -1]] - size[order[least:]]
    end = least + int(np.argmax(gaps)) if gaps.size else most
    level = size[order[end - 1]]
    if gaps.size and gaps.max() <= _EQUAL * abs(level):
        # all of the size at the cut are equal up to rounding (copies of an active row): the first of them count
        above = np.flatnonzero(size > level * (1.0 + _EQUAL))
        equal = np.flatnonzero(np.abs(size - level) <= level * _EQUAL)
        return np.sort(np.concatenate([above, equal[: max(0, count - len(above))]]))
    return np.sort(order[:end])


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
                chosen = largest_rows(largest, _INNER_ROWS)
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
    names: np.ndarray,
    owner: np.ndarray,
    tolerance: float,
    limit: int,
    shakes: int,
    rng: np.random.Generator,
    team: Team | None,
) -> int:
    """Shakes, two at a time from the same state whatever the number of threads; the better one is kept.

    :param names: [n] what the rows are called, whatever working set they are in.
    """
    total = 0
    for _ in range(0, shakes, 2):
        starts = [_draw(c, names, rng) for _ in range(2)]
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


def _draw(c: np.ndarray, names: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to put into places, at random among the large coefficients.

    The row of the largest random number is taken, which is a function of its name: a row more or less in the lists,
    by rounding at the bounds, does not shift all draws that follow.
    """
    k = c.shape[1]
    chosen: dict[int, int] = {}
    salt = rng.integers(2**63, size=k, dtype=np.uint64)
    for j in rng.choice(k, max(1, min(_SHAKEN_PLACES, k // 4)), replace=False):
        size = np.abs(c[:, j])
        rows = np.flatnonzero((size > _SHAKEN_ELEMENT) & (size < 1.0 - _SAME_ROW))
        if rows.size:
            chosen[int(rows[_scatter(names[rows], salt[j]).argmax()])] = int(j)
    return np.array(list(chosen), dtype=np.int64), np.array(list(chosen.values()), dtype=np.int64)


def _scatter(names: np.ndarray, salt: np.uint64) -> np.ndarray:
    """Random 64 bit numbers [n] of integers and a random salt (splitmix64)."""
    x = names.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + salt
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


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
