"""Potentials of every kind with random coefficients, random structures, and a finite difference: for property tests."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aiida_aceal.ace import AceModel, AcePotential, build_potential

COPPER = {"elements": ["Cu"], "cutoff": 4.5, "nradmax_by_orders": [5, 3, 2, 1], "lmax_by_orders": [0, 3, 2, 1]}
DESCRIPTIONS = {
    "linear": COPPER,
    "sqrt, distance": {
        **COPPER, "embedding": "sqrt", "r_in": 1.9, "delta_in": 0.4, "core-repulsion": [50.0, 1.2], "rho_core_cut": 3.0,
        "drho_core_cut": 2.5,
    },
    "zbl": {
        **COPPER, "embedding": "sqrt", "inner_cutoff_type": "zbl", "r_in": 2.2, "delta_in": 0.6, "dcut": 0.5,
        "core-repulsion": [1.0, 1.0],
    },
    "density, ChebExpCos": {
        **COPPER, "inner_cutoff_type": "density", "core-repulsion": [8.0, 0.7], "rho_core_cut": 2.0,
        "drho_core_cut": 1.8, "radbase": "ChebExpCos", "radparameters": [3.0], "dcut": 0.8,
        "npot": "FinnisSinclair", "fs_parameters": [1.0, 1.0, 0.5, 0.6], "ndensity": 2,
    },
    "mixed densities, ChebPow": {
        "elements": ["Al", "Cu", "Ni"], "cutoff": 4.5,
        "embeddings": {"Al": {"ndensity": 3}, "Cu": {"ndensity": 1}, "Ni": {"ndensity": 2}},
        "bonds": {"ALL": {"radbase": "ChebPow", "radparameters": [2.0]}, "AlNi": {"rcut": 4.0},
                  "Cu": {"radbase": "SBessel"}},
        "functions": {"ALL": {"nradmax_by_orders": [3, 2, 1], "lmax_by_orders": [0, 2, 1]},
                      "Ni": {"nradmax_by_orders": [3, 2, 1, 1, 1, 1], "lmax_by_orders": [0, 2, 1, 1, 1, 1]}},
    },
}  # fmt: skip
_MODELS: dict[str, AceModel] = {}
fast = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def random_coefficients(pot: AcePotential, seed: int) -> AcePotential:
    rng = np.random.default_rng(seed)
    radial = {
        pair: b.radcoefficients + 0.3 * rng.standard_normal(b.radcoefficients.shape)
        for pair, b in pot.bonds.items()
        if pair[0] <= pair[1]
    }
    coefficients = {}
    for el, K in pot.n_functions.items():
        ranks = np.array([f.rank for f in pot.functions(el)])
        coefficients[el] = rng.standard_normal((pot.n_densities[el], K)) * 0.3**ranks
    return pot.with_radial_coefficients(radial).with_coefficients(coefficients)


def model_of(name: str) -> AceModel:
    if name not in _MODELS:
        _MODELS[name] = AceModel(random_coefficients(build_potential(DESCRIPTIONS[name]), 17), threads=1)
    return _MODELS[name]


def nearest(atoms: Atoms) -> float:
    """Distance of the last atom to the nearest other atom or image."""
    shifts = [np.arange(-3, 4) if p else np.zeros(1) for p in atoms.pbc]
    images = np.stack(np.meshgrid(*shifts, indexing="ij"), -1).reshape(-1, 3) @ np.array(atoms.cell)
    d = np.linalg.norm(atoms.positions[None, :] + images[:, None] - atoms.positions[-1], axis=-1)
    return d[d > 1e-9].min(initial=np.inf)


def random_structure(elements, rng: np.random.Generator, n: int, pbc, least: float = 1.5) -> Atoms:
    """Random dense positions in a triclinic cell, no two atoms closer than ``least`` Angstrom."""
    cell = (np.diag(rng.uniform(0.9, 1.5, 3)) + rng.uniform(-0.25, 0.25, (3, 3))) * 1.25 * least * n ** (1 / 3)
    while True:
        atoms = Atoms(cell=cell, pbc=pbc)
        for _ in range(200):
            trial = atoms + Atoms([rng.choice(list(elements))], [rng.random(3) @ cell])
            if nearest(trial) > least:
                atoms = trial
            if len(atoms) == n:
                return atoms
        cell = cell * 1.05


@st.composite
def cases(draw, most: int = 6):
    name = draw(st.sampled_from(sorted(DESCRIPTIONS)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    model = model_of(name)
    least = draw(st.sampled_from([2.1, 1.5, 1.0]))
    return model, random_structure(model.elements, rng, draw(st.integers(2, most)), pbc, least), rng


def tensor(virial):
    xx, yy, zz, xy, xz, yz = virial
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def difference(function, h=1e-4):
    """Central difference of fourth order, its own error estimated by the one of second order."""
    f = [function(k * h) for k in (-2, -1, 1, 2)]
    return (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
