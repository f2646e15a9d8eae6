"""Piecewise polynomial tables (degree 7, once continuously differentiable) of smooth functions of the distance.

Each bin interpolates value and slope at four equidistant points. The bin width is halved until values and slopes
between these points agree with the exact function to the stated tolerance, so tables stay small enough for the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

DEGREE = 7
_NODES = np.array([-1.0, -1.0 / 3.0, 1.0 / 3.0, 1.0])
_POWERS = np.arange(DEGREE + 1)
_VALUES = _NODES[:, None] ** _POWERS
_SLOPES = np.where(_POWERS > 0, _POWERS * _NODES[:, None] ** np.maximum(_POWERS - 1, 0), 0.0)
_TO_COEFFICIENTS = np.linalg.inv(np.vstack([_VALUES, _SLOPES]))
_CHECK = np.array([-0.85, -0.62, 0.0, 0.41, 0.73, 0.93])


class Table(NamedTuple):
    """Bins of all segments, one after the other.

    ``start`` [S] first distance of each segment, ``inverse_width`` [S] bins per Angstrom, ``offset`` [S] first bin,
    ``coefficients`` [bins, 8, channels] in powers of s = 2 t - 1 with t in [0, 1] the place in the bin.
    """

    start: np.ndarray
    inverse_width: np.ndarray
    offset: np.ndarray
    coefficients: np.ndarray


Function = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _segment(function: Function, low: float, high: float, bins: int) -> np.ndarray:
    width = (high - low) / bins
    centres = low + (np.arange(bins) + 0.5) * width
    r = np.clip(centres[:, None] + 0.5 * width * _NODES, low, high)
    # stay strictly inside: at a kink the functions take the value of the other side
    r[0, 0], r[-1, -1] = np.nextafter(low, high), np.nextafter(high, low)
    value, slope = function(r.ravel())
    C = value.shape[1]
    data = np.concatenate([value.reshape(bins, 4, C), 0.5 * width * slope.reshape(bins, 4, C)], axis=1)
    return np.einsum("kn,bnc->bkc", _TO_COEFFICIENTS, data)


def _error(function: Function, low: float, high: float, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bins = len(coefficients)
    width = (high - low) / bins
    r = low + (np.arange(bins)[:, None] + 0.5 * (_CHECK + 1.0)) * width
    value, slope = function(r.ravel())
    C = value.shape[1]
    powers = _CHECK[:, None] ** _POWERS
    slopes = np.where(_POWERS > 0, _POWERS * _CHECK[:, None] ** np.maximum(_POWERS - 1, 0), 0.0) * 2.0 / width
    e0 = np.abs(np.einsum("sk,bkc->bsc", powers, coefficients) - value.reshape(bins, -1, C)).max((0, 1))
    e1 = np.abs(np.einsum("sk,bkc->bsc", slopes, coefficients) - slope.reshape(bins, -1, C)).max((0, 1))
    return e0, e1


def build_table(
    function: Function, breakpoints: Sequence[float], low: float = 0.0, tolerance: float = 1e-13, width: float = 0.2
) -> Table:
    """Tabulate ``function(r [M]) -> (values [M, C], slopes [M, C])`` on [low, breakpoints[-1]].

    Parameters
    ----------
    breakpoints
        Ascending distances where higher derivatives jump; the last one is the end of the table.
    tolerance
        Allowed error of values, relative to the largest value of a channel; slopes are held to 20 times that,
        relative to the largest slope.
    width
        Widest bin, Angstrom.
    """
    edges = [low, *[b for b in breakpoints if b > low]]
    r = np.linspace(low, edges[-1], 2001)[1:-1]
    value, slope = function(r)
    scale = np.abs(value).max(0) + 1e-300
    dscale = np.abs(slope).max(0) + 1e-300
    start, inverse, offset, parts = [], [], [], []
    total = 0
    for a, b in itertools.pairwise(edges):
        bins = max(1, int(np.ceil((b - a) / width)))
        best = np.inf
        while True:
            c = _segment(function, a, b, bins)
            e0, e1 = _error(function, a, b, c)
            worst = max((e0 / scale).max() / tolerance, (e1 / dscale).max() / (20.0 * tolerance))
            # rounding sets a floor: stop when halving no longer helps
            if worst <= 1.0 or bins >= 8192 or worst > 0.7 * best:
                break
            best = worst
            bins *= 2
        start.append(a)
        inverse.append(bins / (b - a))
        offset.append(total)
        parts.append(c)
        total += bins
    return Table(np.array(start), np.array(inverse), np.array(offset, dtype=np.int64), np.concatenate(parts))


def hermite_table(function: Function, end: float, spacing: float) -> Table:
    """The cubic Hermite table of pacemaker and ML-PACE: floor(end / spacing) bins, exact value and slope at the knots.

    About 1e-10 from the exact functions (slopes 1e-7 where an inner cutoff sets in). For comparison with these engines
    to the last digits; far larger and slower than `build_table`.
    """
    bins = max(1, int(np.floor(end / spacing + 1e-9)))
    knots = np.linspace(0.0, end, bins + 1)
    knots[0], knots[-1] = np.nextafter(0.0, 1.0), np.nextafter(end, 0.0)
    value, slope = function(knots)
    slope = slope * (0.5 * end / bins)
    a, b, da, db = value[:-1], value[1:], slope[:-1], slope[1:]
    coefficients = np.zeros((bins, DEGREE + 1, value.shape[1]))
    coefficients[:, 0] = 0.5 * (a + b) + 0.25 * (da - db)
    coefficients[:, 1] = 0.75 * (b - a) - 0.25 * (da + db)
    coefficients[:, 2] = 0.25 * (db - da)
    coefficients[:, 3] = 0.25 * (a - b) + 0.25 * (da + db)
    return Table(np.zeros(1), np.array([bins / end]), np.zeros(1, dtype=np.int64), coefficients)


def times_distance(table: Table) -> Table:
    """The table of r f(r) from a table of f with one segment that starts at 0 (degree at most 6)."""
    half = 0.5 / table.inverse_width[0]
    centre = half * (2.0 * np.arange(len(table.coefficients)) + 1.0)
    coefficients = centre[:, None, None] * table.coefficients
    coefficients[:, 1:] += half * table.coefficients[:, :-1]
    return table._replace(coefficients=coefficients)
