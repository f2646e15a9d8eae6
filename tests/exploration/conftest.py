"""Small potentials and active sets: enough functions for real grades, few enough for quick tests."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.exploration.initial import generate
from aiida_aceal.uncertainty import build_active_set


def _random_coefficients(potential: AcePotential, seed: int) -> AcePotential:
    rng = np.random.default_rng(seed)
    values = {
        el: rng.normal(scale=0.05, size=(potential.n_densities[el], n)) for el, n in potential.n_functions.items()
    }
    return potential.with_coefficients(values)


@pytest.fixture(scope="session")
def copper(warm_copper):
    """Potential, model and active set of warm solid copper."""
    return warm_copper


@pytest.fixture(scope="session")
def iodide():
    """Two elements, two densities: potential, model and its linear and full active sets."""
    potential = _random_coefficients(
        build_potential(
            {
                "elements": ["Cu", "I"],
                "cutoff": 4.5,
                "ndensity": 2,
                "fs_parameters": [1, 1, 1, 0.5],
                "npot": "FinnisSinclairShiftedScaled",
                "nradmax_by_orders": [4, 2],
                "lmax_by_orders": [0, 1],
            }
        ),
        seed=3,
    )
    train = generate([{"kind": "random_packed", "composition": {"Cu": 8, "I": 8}, "count": 20}], seed=1)
    model = AceModel(potential, threads=1)
    return potential, model, {kind: build_active_set(model, train, kind=kind) for kind in ("linear", "full")}, train
