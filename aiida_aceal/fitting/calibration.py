"""Calibration: a monotone map from an indicator (gamma, or an ensemble's dF) to the expected error, and thresholds.

The map is an isotonic regression of the errors of labelled configurations on their indicator: no shape is assumed but
that more extrapolation does not mean less error. It is not a bound: half the errors may lie above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aiida_aceal.ace import AceError


@dataclass(frozen=True)
class Proposal:
    """Proposed thresholds and why.

    ``lo_reached``, ``hi_reached``: whether the data hold indicators where the expected error reaches ``error_lo`` and
    ``error_hi``; otherwise the threshold is the upper bound and nothing more than a guess.
    """

    gamma_lo: float
    gamma_hi: float
    error_lo: float
    error_hi: float
    base_error: float
    lo_reached: bool
    hi_reached: bool

    def to_dict(self) -> dict:
        return {k: (bool(v) if isinstance(v, (bool, np.bool_)) else float(v)) for k, v in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Piecewise linear monotone map: expected error ``error`` [M] (eV/Angstrom) at indicators ``gamma`` [M], ascending.

    ``quantile`` [M]: the error that nine in ten stay below; ``count`` environments or structures it was made from;
    ``spearman`` their rank correlation.
    """

    gamma: np.ndarray
    error: np.ndarray
    quantile: np.ndarray
    count: int
    spearman: float

    def expected(self, gamma: np.ndarray | float) -> np.ndarray:
        """Expected error at ``gamma``; constant beyond the data."""
        return np.interp(gamma, self.gamma, self.error)

    def upper(self, gamma: np.ndarray | float) -> np.ndarray:
        """Error that nine in ten stay below, at ``gamma``."""
        return np.interp(gamma, self.gamma, self.quantile)

    def gamma_at(self, error: float) -> float:
        """Smallest indicator whose expected error reaches ``error``; infinity if none does."""
        above = np.flatnonzero(self.error >= error)
        if len(above) == 0:
            return np.inf
        k = int(above[0])
        if k == 0:
            return float(self.gamma[0])
        x0, x1, y0, y1 = self.gamma[k - 1], self.gamma[k], self.error[k - 1], self.error[k]
        return float(x0 + (x1 - x0) * (error - y0) / (y1 - y0)) if y1 > y0 else float(x1)

    def propose(
        self,
        error_lo: float | None = None,
        error_hi: float | None = None,
        factor_lo: float = 2.0,
        factor_hi: float = 10.0,
        lo_bounds: tuple[float, float] = (1.5, 5.0),
        hi_bounds: tuple[float, float] = (5.0, 25.0),
    ) -> Proposal:
        """Thresholds from the expected error.

        Parameters
        ----------
        error_lo, error_hi
            Errors (eV/Angstrom) at which to select and to stop; default: ``factor_lo`` and ``factor_hi`` times the
            expected error of interpolation (gamma <= 1).
        lo_bounds, hi_bounds
            Limits of the proposals; the usual values for the linear grade. gamma_hi is at least twice gamma_lo.
        """
        base = float(self.expected(1.0))
        error_lo = factor_lo * base if error_lo is None else error_lo
        error_hi = factor_hi * base if error_hi is None else error_hi
        if not 0.0 <= error_lo <= error_hi:
            raise AceError(f"error_lo = {error_lo} must not exceed error_hi = {error_hi}")
        lo, hi = self.gamma_at(error_lo), self.gamma_at(error_hi)
        gamma_lo = float(np.clip(lo, *lo_bounds))
        gamma_hi = float(max(np.clip(hi, *hi_bounds), 2.0 * gamma_lo))
        return Proposal(gamma_lo, gamma_hi, error_lo, error_hi, base, bool(np.isfinite(lo)), bool(np.isfinite(hi)))

    def to_dict(self) -> dict:
        """JSON types, for storage with a generation."""
        return {
            "gamma": self.gamma.tolist(), "error": self.error.tolist(), "quantile": self.quantile.tolist(),
            "count": self.count, "spearman": self.spearman,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping) -> Calibration:
        """Inverse of `to_dict`."""
        arrays = (np.asarray(data[k], dtype=float) for k in ("gamma", "error", "quantile"))
        return cls(*arrays, int(data["count"]), float(data["spearman"]))


def calibrate(gamma: np.ndarray, error: np.ndarray, points: int = 200) -> Calibration:
    """Fit the monotone map.

    Parameters
    ----------
    gamma, error
        Indicators and absolute errors [N] of labelled environments (or structures).
    points
        Largest number of points the map is kept at (quantiles of gamma, denser where gamma is large).

    Raises
    ------
    AceError
        Fewer than two pairs, different lengths, negative or not finite numbers.
    """
    from sklearn.isotonic import IsotonicRegression

    gamma, error = np.asarray(gamma, dtype=float).ravel(), np.asarray(error, dtype=float).ravel()
    if gamma.shape != error.shape:
        raise AceError(f"calibration: {len(gamma)} indicators but {len(error)} errors")
    if len(gamma) < 2:
        raise AceError(f"calibration: at least two labelled environments are needed, found {len(gamma)}")
    if not (np.isfinite(gamma).all() and np.isfinite(error).all()) or gamma.min() < 0.0 or error.min() < 0.0:
        raise AceError("calibration: indicators and errors must be finite and not negative")
    mean = IsotonicRegression(y_min=0.0, out_of_bounds="clip").fit(gamma, error)
    order = np.argsort(gamma, kind="stable")
    share = np.concatenate([np.linspace(0.0, 1.0, points // 2), 1.0 - np.geomspace(1e-4, 0.5, points // 2)])
    grid = np.unique(np.quantile(gamma[order], np.unique(share)))
    return Calibration(
        grid, mean.predict(grid), _upper(gamma[order], error[order], grid), len(gamma), spearman(gamma, error)
    )


def _upper(gamma: np.ndarray, error: np.ndarray, grid: np.ndarray, level: float = 0.9) -> np.ndarray:
    """Monotone map of a quantile: that of the neighbours in rank, made monotone."""
    width = max(20, len(gamma) // 20)
    at = np.searchsorted(gamma, grid)
    local = [np.quantile(error[max(0, k - width) : k + width + 1], level) for k in at]
    return np.maximum.accumulate(local)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; 0 where one side is constant."""
    from scipy.stats import spearmanr

    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return 0.0
    return float(spearmanr(a, b).statistic)
