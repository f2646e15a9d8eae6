"""Scalar functions of the energy of an atom: embedding of densities and the switch of cores, with their derivatives."""

from __future__ import annotations

import numpy as np

from aiida_aceal.common.kernels import njit


@njit(cache=True)
def embed(kind, m, rho):
    """F(rho; m) and dF/drho: FinnisSinclair (kind 0) or FinnisSinclairShiftedScaled (kind 1)."""
    if kind == 1:
        if m == 1.0:
            return rho, 1.0
        a = abs(rho)
        sign = 1.0 if rho >= 0.0 else -1.0
        n = 1.0 / m
        q = np.exp(-a)
        x = n ** (n / (1.0 - n)) * q
        y = n ** (1.0 / (1.0 - n)) * q
        base = x + a
        return sign * (base**m - y), y + m * (1.0 - x) * base ** (m - 1.0)
    if m == 1.0:
        return rho, 1.0
    w = 1.0e6
    if abs(rho) <= 1e-10:
        return w ** (1.0 - m) * rho, w ** (1.0 - m)
    a = abs(rho)
    sign = 1.0 if rho > 0.0 else -1.0
    t = (w * a) ** 3
    g, dg = 0.0, 0.0
    if t <= 30.0:
        g = np.exp(-t)
        dg = -3.0 * w * (w * a) ** 2 * g
    scale = w ** (1.0 - m)
    power = a**m
    value = (1.0 - g) * power + scale * g * a
    slope = (1.0 - g) * m * a ** (m - 1.0) - dg * power + scale * (dg * a + g)
    return sign * value, slope


@njit(cache=True)
def embed2(kind, m, rho):
    """F, dF/drho and d2F/drho2: FinnisSinclair (kind 0) or FinnisSinclairShiftedScaled (kind 1)."""
    if m == 1.0:
        return rho, 1.0, 0.0
    a = abs(rho)
    sign = 1.0 if rho >= 0.0 else -1.0
    if kind == 1:
        n = 1.0 / m
        q = np.exp(-a)
        x = n ** (n / (1.0 - n)) * q
        y = n ** (1.0 / (1.0 - n)) * q
        base = x + a
        power = base ** (m - 1.0)
        first = y + m * (1.0 - x) * power
        second = m * x * power + m * (m - 1.0) * (1.0 - x) ** 2 * power / base - y
        return sign * (base * power - y), first, sign * second
    w = 1.0e6
    scale = w ** (1.0 - m)
    if a <= 1e-10:
        return scale * rho, scale, 0.0
    t = (w * a) ** 3
    g, dg, ddg = 0.0, 0.0, 0.0
    if t <= 30.0:
        g = np.exp(-t)
        dg = -3.0 * w * (w * a) ** 2 * g
        ddg = (9.0 * (w * a) ** 4 - 6.0 * w * a) * w * w * g
    power = a**m
    value = (1.0 - g) * power + scale * g * a
    first = (1.0 - g) * m * power / a - dg * power + scale * (dg * a + g)
    second = -ddg * power - 2.0 * dg * m * power / a + (1.0 - g) * m * (m - 1.0) * power / (a * a)
    second += scale * (ddg * a + 2.0 * dg)
    return sign * value, first, sign * second


@njit(cache=True)
def switch_value(t, t0, delta):
    """Polynomial switch S(t; t0, delta) and its derivative."""
    if t >= t0:
        return 0.0, 0.0
    if t <= t0 - delta or delta <= 0.0:
        return 1.0, 0.0
    x = 1.0 - 2.0 * (1.0 + (t - t0) / delta)
    value = 0.5 + 3.75 * (x / 4.0 - x**3 / 6.0 + x**5 / 20.0)
    return value, 3.75 * (0.25 - 0.5 * x * x + 0.25 * x**4) * (-2.0 / delta)
