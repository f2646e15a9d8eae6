"""Smoothness prior: how strongly each basis function is penalised, relative to its size on the training data."""

from __future__ import annotations

import numpy as np

from aiida_aceal.ace import AcePotential

from .settings import RegularizationSettings


def smoothness(potential: AcePotential, settings: RegularizationSettings) -> np.ndarray:
    """Relative penalties [Ktot] in the columns of the linear system; 1 for functions of rank 1 with n = 1.

    rank^c (1 + sum_t [(n_t - 1)^a + l_t^b]) with the exponents of ``settings``: algebraic smoothness priors as in
    W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023). The strong growth with rank was chosen by held-out errors of
    fits to few structures; with many structures the exponents hardly matter.
    """
    values = []
    for el in potential.elements:
        for f in potential.functions(el):
            if settings.prior == "flat":
                values.append(1.0)
                continue
            rough = sum((n - 1) ** settings.n_power + l**settings.l_power for n, l in zip(f.ns, f.ls))
            values.append((1.0 + rough) * f.rank**settings.rank_power)
    return np.array(values)


def radial_smoothness(shape: tuple[int, int, int], settings: RegularizationSettings) -> np.ndarray:
    """Relative penalties [nradmax, lmax + 1, nradbase] of radial coefficients: base function k as n above."""
    _, l_count, k_count = shape
    if settings.prior == "flat":
        return np.ones(shape)
    rough = np.arange(l_count)[:, None] ** settings.l_power + np.arange(k_count) ** settings.n_power
    return np.broadcast_to(1.0 + rough, shape)
