"""First and second derivatives of the embedding functions, for the gradient of the full (nonlinear) grade."""

from __future__ import annotations

import numpy as np

from aiida_aceal.ace import AcePotential

_SCALE = 1.0e6  # of the FinnisSinclair embedding, where it turns from linear to a power


def embedding_derivatives(potential: AcePotential, element: str, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """w_p F'(rho_p; m_p) and w_p F''(rho_p; m_p) for densities ``rho`` [N, P] of an element, both [N, P]."""
    species = potential.species[element]
    first, second = np.empty_like(rho), np.empty_like(rho)
    for p in range(rho.shape[1]):
        weight, m = species.parameters[2 * p : 2 * p + 2]
        rule = _shifted_scaled if species.embedding == "FinnisSinclairShiftedScaled" else _finnis_sinclair
        d1, d2 = (np.ones(len(rho)), np.zeros(len(rho))) if m == 1.0 else rule(m, np.abs(rho[:, p]))
        first[:, p] = weight * d1
        second[:, p] = weight * np.where(rho[:, p] < 0, -d2, d2)  # F is odd
    return first, second


def _shifted_scaled(m: float, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F = (x + a)^m - y with x, y proportional to exp(-a)."""
    n = 1.0 / m
    x = n ** (n / (1.0 - n)) * np.exp(-a)
    y = n ** (1.0 / (1.0 - n)) * np.exp(-a)
    base = x + a
    first = y + m * (1.0 - x) * base ** (m - 1.0)
    second = -y + m * x * base ** (m - 1.0) + m * (m - 1.0) * (1.0 - x) ** 2 * base ** (m - 2.0)
    return first, second


def _finnis_sinclair(m: float, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F = (1 - g) a^m + w^(1 - m) g a with g = exp(-(w a)^3)."""
    a = np.maximum(a, 1e-10)
    t = _SCALE * a
    g = np.where(t**3 <= 30.0, np.exp(-np.minimum(t**3, 30.0)), 0.0)
    dg = -3.0 * _SCALE * t**2 * g
    ddg = -6.0 * _SCALE**2 * t * g - 3.0 * _SCALE * t**2 * dg
    s = _SCALE ** (1.0 - m)
    first = (1.0 - g) * m * a ** (m - 1.0) - dg * a**m + s * (dg * a + g)
    second = (1.0 - g) * m * (m - 1.0) * a ** (m - 2.0) - 2.0 * dg * m * a ** (m - 1.0) - ddg * a**m
    return first, second + s * (ddg * a + 2.0 * dg)
