"""Radial functions g_k and R_nl, cutoffs and core repulsion of a bond, with first derivatives.

Formulas: Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021) and A. Bochkarev et al., Phys. Rev. Mater. 6, 013804
(2022). Everything here is exact; `aiida_aceal.ace.tables` turns it into tables for the kernels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.data import atomic_numbers

from aiida_aceal.common.errors import AceError

from .potential import Bond

_COULOMB = 14.399645351950543  # e^2 / (4 pi eps0), eV Angstrom
_ZBL_COEFFICIENTS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
_ZBL_EXPONENTS = np.array([3.19980, 0.94229, 0.40290, 0.20162])


def switch(t: np.ndarray, t0: float, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Polynomial switch S(t): 1 for t <= t0 - delta, 0 for t >= t0; returns (S, dS/dt). A step where delta = 0."""
    t = np.asarray(t, dtype=float)
    if delta <= 0.0:
        return (t < t0).astype(float), np.zeros_like(t)
    x = np.clip(1.0 - 2.0 * (1.0 + (t - t0) / delta), -1.0, 1.0)
    value = 0.5 + 3.75 * (x / 4.0 - x**3 / 6.0 + x**5 / 20.0)
    slope = 3.75 * (0.25 - 0.5 * x**2 + 0.25 * x**4) * (-2.0 / delta)
    return value, slope


def _sinc(a: float, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = a * r
    small = np.abs(x) < 1e-2
    y = np.where(small, 1.0, x)
    value = np.where(small, 1.0 - x**2 / 6.0 + x**4 / 120.0 - x**6 / 5040.0, np.sin(y) / y)
    slope = np.where(small, -x / 3.0 + x**3 / 30.0 - x**5 / 840.0, (np.cos(y) - np.sin(y) / y) / y)
    return value, a * slope


def _chebyshev(x: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """T_0 ... T_{count-1} and derivatives, [M, count]."""
    T = np.zeros((len(x), max(count, 2)))
    dT = np.zeros_like(T)
    T[:, 0], T[:, 1], dT[:, 1] = 1.0, x, 1.0
    for n in range(2, count):
        T[:, n] = 2.0 * x * T[:, n - 1] - T[:, n - 2]
        dT[:, n] = 2.0 * T[:, n - 1] + 2.0 * x * dT[:, n - 1] - dT[:, n - 2]
    return T[:, :count], dT[:, :count]


def _sbessel(r: np.ndarray, K: int, c: float) -> tuple[np.ndarray, np.ndarray]:
    f, df = np.zeros((len(r), K)), np.zeros((len(r), K))
    for n in range(K):
        a, da = _sinc((n + 1) * np.pi / c, r)
        b, db = _sinc((n + 2) * np.pi / c, r)
        scale = (-1) ** n * np.sqrt(2.0) * np.pi / c**1.5 * (n + 1) * (n + 2) / np.hypot(n + 1, n + 2)
        f[:, n], df[:, n] = scale * (a + b), scale * (da + db)
    g, dg = f.copy(), df.copy()
    d = 1.0
    for n in range(1, K):  # Gram-Schmidt in closed form
        e = n**2 * (n + 2) ** 2 / (4.0 * (n + 1) ** 4 + 1.0)
        previous, d = d, 1.0 - e / d
        g[:, n] = (f[:, n] + np.sqrt(e / previous) * g[:, n - 1]) / np.sqrt(d)
        dg[:, n] = (df[:, n] + np.sqrt(e / previous) * dg[:, n - 1]) / np.sqrt(d)
    inside = (r < c)[:, None]
    return g * inside, dg * inside


def _cheb_exp_cos(r: np.ndarray, K: int, c: float, d: float, lam: float) -> tuple[np.ndarray, np.ndarray]:
    decay = np.exp(-lam * r / c)
    norm = 1.0 - np.exp(-lam)
    x = 1.0 - 2.0 * (decay - np.exp(-lam)) / norm
    dx = 2.0 * lam / c * decay / norm
    T, dT = _chebyshev(x, K)
    h = 0.5 * (1.0 + np.cos(np.pi * r / c))
    dh = -0.5 * np.pi / c * np.sin(np.pi * r / c)
    g = 0.5 * (1.0 - T)
    dg = -0.5 * dT * dx[:, None]
    g[:, 0], dg[:, 0] = 1.0, 0.0
    if d > 0.0:
        outer = r > c - d
        phase = np.pi * (r - c + d) / d
        w = np.where(outer, 0.5 * (1.0 + np.cos(phase)), 1.0)
        dw = np.where(outer, -0.5 * np.pi / d * np.sin(phase), 0.0)
        h, dh = h * w, dh * w + h * dw
    inside = (r < c)[:, None]
    return g * h[:, None] * inside, (dg * h[:, None] + g * dh[:, None]) * inside


def _cheb(r: np.ndarray, K: int, c: float, lam: float | None) -> tuple[np.ndarray, np.ndarray]:
    y = np.clip(1.0 - r / c, 0.0, None)
    if lam is None:
        x, dx = y, np.full_like(r, -1.0 / c)
    else:
        x = 2.0 * (1.0 - y**lam) - 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            dx = np.where(y > 0, 2.0 * lam / c * np.where(y > 0, y, 1.0) ** (lam - 1.0), 0.0)
    T, dT = _chebyshev(x, K + 1)
    inside = (r < c)[:, None]
    return 0.5 * (1.0 - T[:, 1:]) * inside, -0.5 * dT[:, 1:] * dx[:, None] * inside


def radial_basis(bond: Bond, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """g_k(r) and dg_k/dr, [M, nradbase], including the inner cutoff of type ``distance``.

    Raises
    ------
    AceError
        If the radial type is not known.
    """
    r = np.asarray(r, dtype=float)
    K, c = bond.nradbase, bond.rcut
    lam = bond.radparameters[0] if bond.radparameters else 0.0
    if bond.radbase == "SBessel":
        g, dg = _sbessel(r, K, c)
    elif bond.radbase == "ChebExpCos":
        g, dg = _cheb_exp_cos(r, K, c, bond.dcut, lam)
    elif bond.radbase == "ChebPow":
        g, dg = _cheb(r, K, c, lam)
    elif bond.radbase == "ChebLinear":
        g, dg = _cheb(r, K, c, None)
    else:
        raise AceError(
            f"radial type {bond.radbase!r} cannot be evaluated; use SBessel, ChebExpCos, ChebPow, ChebLinear"
        )
    if bond.inner_cutoff_type == "distance" and (bond.r_in > 0.0 or bond.delta_in > 0.0):
        s, ds = switch(r, bond.r_in, bond.delta_in)
        g, dg = g * (1.0 - s)[:, None], dg * (1.0 - s)[:, None] - g * ds[:, None]
    return g, dg


def radial_functions(bond: Bond, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """g [M, K], dg, R [M, N, L + 1] and dR of a bond at distances ``r`` (Angstrom)."""
    g, dg = radial_basis(bond, r)
    return g, dg, np.einsum("nlk,mk->mnl", bond.radcoefficients, g), np.einsum("nlk,mk->mnl", bond.radcoefficients, dg)


def cutoff_warnings(bonds: Mapping[tuple[str, str], Bond]) -> list[str]:
    """A line about pairs whose radial functions do not vanish at the cutoff; empty if all do."""
    pairs = sorted({"-".join(sorted(pair)) for pair, bond in bonds.items() if bond.radbase == "ChebLinear"})
    if not pairs:
        return []
    return [
        f"radbase ChebLinear of {', '.join(pairs)} is not zero at the cutoff: energy and forces jump when an atom "
        "crosses it, so dynamics do not conserve energy; use SBessel, ChebPow or ChebExpCos"
    ]


def core_range(bond: Bond) -> float:
    """Distance beyond which the bond has no core energy, Angstrom; 0 if it has none at all."""
    prefactor, lam = bond.core_repulsion
    if prefactor == 0.0:
        return 0.0
    if bond.inner_cutoff_type == "zbl":
        return bond.rcut
    reach = bond.rcut if lam == 0.0 else min(bond.rcut, np.sqrt(50.0 / abs(lam)))
    return min(reach, bond.r_in) if bond.inner_cutoff_type == "distance" else float(reach)


def core_repulsion(bond: Bond, r: np.ndarray, z_i: int = 0, z_j: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """r V(r) and its derivative (eV Angstrom, eV), V the core energy of one bond as atom i counts it.

    The product with r is what stays smooth at small distances. ``z_i``, ``z_j``: atomic numbers (``zbl`` only).
    """
    r = np.asarray(r, dtype=float)
    prefactor, lam = bond.core_repulsion
    c = bond.rcut
    if bond.inner_cutoff_type == "zbl":
        return _zbl(prefactor, c, bond.dcut, r, z_i, z_j)
    inside = (abs(lam) * r**2 < 50.0) & (r < c)
    gauss = np.where(inside, abs(prefactor) * np.exp(-abs(lam) * np.where(inside, r, 0.0) ** 2), 0.0)
    w = 0.5 * (1.0 + np.cos(np.pi * r / c))
    dw = -0.5 * np.pi / c * np.sin(np.pi * r / c)
    value, slope = gauss * w, gauss * (dw - 2.0 * abs(lam) * r * w)
    if bond.inner_cutoff_type == "distance":
        s, ds = switch(r, bond.r_in, bond.delta_in)
        value, slope = value * s, slope * s + value * ds
    return value, slope


def _zbl(prefactor: float, c: float, dcut: float, r: np.ndarray, z_i: int, z_j: int) -> tuple[np.ndarray, np.ndarray]:
    a = 0.4685 / (z_i**0.23 + z_j**0.23)
    strength = prefactor * _COULOMB / 2.0 * z_i * z_j

    def screening(x: np.ndarray, order: int) -> np.ndarray:
        terms = (-_ZBL_EXPONENTS / a) ** order * _ZBL_COEFFICIENTS * np.exp(-np.multiply.outer(x, _ZBL_EXPONENTS / a))
        return terms.sum(-1)

    p0, p1, p2 = (float(screening(np.float64(c), k)) for k in range(3))
    E, dE = p0 / c, p1 / c - p0 / c**2
    ddE = p2 / c - 2.0 * p1 / c**2 + 2.0 * p0 / c**3
    A = (-3.0 * dE + dcut * ddE) / dcut**2
    B = (2.0 * dE - dcut * ddE) / dcut**3
    C = -E + 0.5 * dcut * dE - dcut**2 * ddE / 12.0
    t = np.clip(r - (c - dcut), 0.0, None)
    shift, dshift = C + A / 3.0 * t**3 + B / 4.0 * t**4, A * t**2 + B * t**3
    s, ds = switch(r, c, dcut)
    value = screening(r, 0) + r * shift
    slope = screening(r, 1) + shift + r * dshift
    return strength * value * s, strength * (slope * s + value * ds)


def kinks(bond: Bond) -> list[float]:
    """Distances where higher derivatives jump: tables must have a knot there."""
    points = [bond.rcut]
    if bond.radbase == "ChebExpCos" and bond.dcut > 0.0:
        points.append(bond.rcut - bond.dcut)
    if bond.inner_cutoff_type == "zbl":
        points.append(bond.rcut - bond.dcut)
    if bond.inner_cutoff_type == "distance" and bond.r_in > 0.0:
        points += [bond.r_in - bond.delta_in, bond.r_in]
    return sorted({p for p in points if 0.0 < p <= bond.rcut})


def nuclear_charges(a: str, b: str) -> tuple[int, int]:
    """Atomic numbers of two elements; 0 where a name is not a chemical element."""
    return atomic_numbers.get(a, 0), atomic_numbers.get(b, 0)
