"""Smoothness prior: how strongly each basis function is penalised, relative to its size on the training data."""

from __future__ import annotations

import numpy as np

from aiida_aceal.ace import AcePotential

from .settings import RegularizationSettings


def smoothness(potential: AcePotential, settings: RegularizationSettings) -> np.ndarray:
    """Relative penalties [Ktot] in the columns of the linear system, 1 for the smoothest function.

    prod over factors of (1 + (n - 1)^2 / 4 ...) would punish high ranks twice; here the sum is used:
    1 + sum_t [((n_t - 1) / N)^a + (l_t / L)^b] weighted by rank^c, as in the algebraic smoothness priors of
    W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023).
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
