"""The compiled evaluator against a direct sum over all m with SciPy's spherical harmonics and SymPy's coupling.

Nothing here shares code with the engine but the container of the potential, so that a clone alone proves exactness.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from scipy.special import sph_harm_y
from sympy.physics.quantum.cg import CG

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.ace.radial import radial_functions


@cache
def cg(*numbers: int) -> float:
    return float(CG(*numbers).doit())


def coupling(ls, lint, ms) -> float:
    """Product of coefficients along the tree of FORMATS 3.6, written out rank by rank."""
    if len(ls) == 1:
        return 1.0
    if len(ls) == 2:
        return cg(ls[0], ms[0], ls[1], ms[1], 0, 0)
    M12, L12 = ms[0] + ms[1], lint[0]
    first = cg(ls[0], ms[0], ls[1], ms[1], L12, M12)
    if len(ls) == 3:
        return first * cg(L12, M12, ls[2], ms[2], 0, 0)
    M34, L34 = ms[2] + ms[3], lint[1]
    second = cg(ls[2], ms[2], ls[3], ms[3], L34, M34)
    if len(ls) == 4:
        return first * second * cg(L12, M12, L34, M34, 0, 0)
    M1234, L1234 = M12 + M34, lint[2]
    return first * second * cg(L12, M12, L34, M34, L1234, M1234) * cg(L1234, M1234, ls[4], ms[4], 0, 0)


def direct_projections(pot: AcePotential, atoms: Atoms, i: int) -> np.ndarray:
    """B of one atom of a non-periodic structure."""
    element = atoms.symbols[i]
    A: dict[tuple, complex] = {}
    for j in range(len(atoms)):
        d = atoms.positions[j] - atoms.positions[i]
        r = float(np.linalg.norm(d))
        bond = pot.bonds[element, atoms.symbols[j]]
        if j == i or r >= bond.rcut:
            continue
        g, _, R, _ = radial_functions(bond, np.array([r]))
        polar, azimuth = np.arccos(d[2] / r), np.arctan2(d[1], d[0])
        for n in range(bond.nradbase):
            key = (atoms.symbols[j], n + 1, "g")
            A[key] = A.get(key, 0.0) + g[0, n]
        for n, l in product(range(bond.nradmax), range(bond.lmax + 1)):
            for m in range(-l, l + 1):
                key = (atoms.symbols[j], n + 1, l, m)
                y = np.sqrt(4.0 * np.pi) * sph_harm_y(l, m, polar, azimuth)
                A[key] = A.get(key, 0.0) + R[0, n, l] * y
    B = []
    for f in pot.functions(element):
        if f.rank == 1:
            B.append(A.get((f.mus[0], f.ns[0], "g"), 0.0))
            continue
        total = 0.0
        for ms in product(*(range(-l, l + 1) for l in f.ls)):
            if sum(ms):
                continue
            c = coupling(f.ls, f.lint, ms)
            if c:
                total += c * np.prod([A.get(k, 0.0) for k in zip(f.mus, f.ns, f.ls, ms)]).real
        B.append(total)
    return np.array(B)


@pytest.fixture(scope="module")
def potential() -> AcePotential:
    pot = build_potential(
        {
            "elements": ["Al", "Ni"],
            "cutoff": 4.2,
            "ndensity": 2,
            "fs_parameters": [1.0, 1.0, 1.0, 0.5],
            "functions": {
                "UNARY": {"nradmax_by_orders": [4, 2, 2, 1, 1], "lmax_by_orders": [0, 3, 2, 2, 1]},
                "BINARY": {"nradmax_by_orders": [4, 2, 1, 1], "lmax_by_orders": [0, 2, 2, 1]},
            },
        }
    )
    rng = np.random.default_rng(3)
    radial = {p: b.radcoefficients + 0.2 * rng.normal(size=b.radcoefficients.shape) for p, b in pot.bonds.items()}
    radial = {p: v for p, v in radial.items() if p[0] <= p[1]}
    coefficients = {
        el: rng.normal(size=(2, K)) * 0.3 ** np.array([f.rank for f in pot.functions(el)])
        for el, K in pot.n_functions.items()
    }
    return pot.with_radial_coefficients(radial).with_coefficients(coefficients)


@pytest.fixture(scope="module")
def cluster() -> Atoms:
    rng = np.random.default_rng(5)
    grid = np.array(list(product(range(2), range(2), range(3))))
    positions = 2.3 * grid + rng.uniform(-0.35, 0.35, grid.shape)
    return Atoms([["Al", "Ni"][k % 2] for k in range(len(grid))], positions)


def test_projections(potential: AcePotential, cluster: Atoms) -> None:
    result = AceModel(potential, threads=1).evaluate(cluster, projections=True)
    for i in range(len(cluster)):
        expected = direct_projections(potential, cluster, i)
        found = result.projections[i, : len(expected)]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max())


def test_energies(potential: AcePotential, cluster: Atoms) -> None:
    """Shifted and scaled Finnis-Sinclair embedding with m = 1 and m = 1/2, written out."""
    energies = AceModel(potential, threads=1).evaluate(cluster).energies
    for i in range(len(cluster)):
        rho = potential.coefficients(cluster.symbols[i]) @ direct_projections(potential, cluster, i)
        q = np.exp(-abs(rho[1]))
        second = np.sign(rho[1]) * (np.sqrt(0.25 * q + abs(rho[1])) - 0.5 * q)
        assert energies[i] == pytest.approx(rho[0] + second, rel=1e-10)
