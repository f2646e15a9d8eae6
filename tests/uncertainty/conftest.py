"""Small potentials and structures: quick, with every symmetry and rank that matters."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_aceal.ace import AceModel, build_potential

SHAPE = {"cutoff": 4.5, "nradmax_by_orders": [8, 3, 2], "lmax_by_orders": [0, 3, 1]}


@pytest.fixture(scope="session")
def copper():
    return AceModel(build_potential({"elements": ["Cu"], **SHAPE}), threads=2)


@pytest.fixture(scope="session")
def alloy():
    """Two elements, two densities, random coefficients: linear and full rows differ."""
    potential = build_potential(
        {"elements": ["Al", "Ni"], "ndensity": 2, "npot": "FinnisSinclairShiftedScaled",
         "fs_parameters": [1, 1, 1, 0.5], "cutoff": 4.5, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1]}
    )  # fmt: skip
    rng = np.random.default_rng(0)
    shape = {el: (potential.n_densities[el], n) for el, n in potential.n_functions.items()}
    return AceModel(potential.with_coefficients({el: rng.normal(0, 0.1, s) for el, s in shape.items()}), threads=2)
