"""C-tilde potentials: conversion, exact round trip, and what malformed files say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.ace.build import build_potential
from aiida_aceal.ace.coupling import coupling_terms
from aiida_aceal.ace.yace import CTildePotential, parse_yace, potential_to_yace, to_ctilde

CASES = (
    "alcuni_mixed_ndens", "alni_lin", "cu_cheblin_nd3", "cu_fs", "cu_large", "cu_lin", "cu_zbl", "fit_cu_large_lin",
    "fit_cu_small_fs2", "pub_Cu-I", "pub_Cu-III",
)  # fmt: skip


@pytest.fixture(scope="module")
def potential():
    """Two elements, mixed densities, ranks to 6, random coefficients."""
    pot = build_potential(
        {
            "elements": ["Al", "Ni"],
            "cutoff": 5.0,
            "embeddings": {"Al": {"ndensity": 2}},
            "functions": {
                "ALL": {"nradmax_by_orders": [3, 2, 2, 1], "lmax_by_orders": [0, 2, 2, 2]},
                "Ni": {"nradmax_by_orders": [3, 2, 1, 1, 1, 1], "lmax_by_orders": [0, 2, 2, 2, 2, 2]},
            },
        }
    )
    rng = np.random.default_rng(5)
    counts = {el: (pot.n_densities[el], k) for el, k in pot.n_functions.items()}
    radial = {pair: rng.standard_normal(b.radcoefficients.shape) for pair, b in pot.bonds.items() if pair[0] <= pair[1]}
    pot = pot.with_coefficients({el: rng.standard_normal(shape) for el, shape in counts.items()})
    return pot.with_radial_coefficients(radial).with_reference_energies({"Al": -0.1, "Ni": 1 / 3})


def random_atomic_base(pot, rng):
    """A[mu, n, l][m + l] with A_{l,-m} = (-1)^m conj A_{lm}, as sums over real neighbourhoods have."""
    base = {}
    for mu in range(len(pot.elements)):
        for n in range(1, 9):
            for l in range(5):
                a = rng.standard_normal(2 * l + 1) + 1j * rng.standard_normal(2 * l + 1)
                for m in range(1, l + 1):
                    a[l - m] = (-1) ** m * np.conj(a[l + m])
                a[l] = a[l].real
                base[mu, n, l] = a
    return base


def real_product(base, mus, ns, ls, m):
    return math.prod((base[mu, n, l][l + x] for mu, n, l, x in zip(mus, ns, ls, m)), start=1 + 0j).real


def densities(ctilde, element, base):
    total = np.zeros(ctilde.n_densities[element])
    for f in ctilde.functions[element]:
        for m, c in zip(f.ms.tolist(), f.ctildes):
            total += c * real_product(base, f.mus, f.ns, f.ls, m)
    return total


def test_densities_agree_with_the_b_basis(potential):
    index = {el: i for i, el in enumerate(potential.elements)}
    base = random_atomic_base(potential, np.random.default_rng(1))
    ctilde = to_ctilde(potential)
    for el in potential.elements:
        b = []
        for f in potential.functions(el):
            ms, weights = coupling_terms(f.ls, f.lint)
            mus = [index[mu] for mu in f.mus]
            b.append(sum(w * real_product(base, mus, f.ns, f.ls, m) for m, w in zip(ms.tolist(), weights)))
        expected = potential.coefficients(el) @ np.array(b)
        np.testing.assert_allclose(densities(ctilde, el, base), expected, rtol=1e-11)
        assert len(ctilde.functions[el]) < potential.n_functions[el]  # several lint are one function


def test_products_are_the_same_sums(potential):
    base = random_atomic_base(potential, np.random.default_rng(2))
    ctilde = to_ctilde(potential)
    for el in potential.elements:
        products = ctilde.products(el)
        assert products.n_functions == ctilde.n_densities[el]
        total = np.zeros(products.n_functions)
        for p, e, w in products.rank1_matrix:
            mu, n = products.rank1[e]
            total[p] += w * base[mu, n + 1, 0][0].real
        for p, e, w in products.matrix:
            mus, ns, ls, ms = zip(*products.factors[e])
            total[p] += w * real_product(base, mus, [n + 1 for n in ns], ls, ms)
        np.testing.assert_allclose(total, densities(ctilde, el, base), rtol=1e-11)


@pytest.mark.parametrize("inner", [{}, {"r_in": 1.8, "delta_in": 0.6, "core-repulsion": [20.0, 1.0]}])
def test_evaluation_agrees_with_the_b_basis(potential, inner):
    radial = {
        pair: replace(b, r_in=inner.get("r_in", 0.0), delta_in=inner.get("delta_in", 0.0),
                      core_repulsion=tuple(inner.get("core-repulsion", (0.0, 0.0))))
        for pair, b in potential.bonds.items()
    }  # fmt: skip
    pot = replace(potential, bonds=radial)
    atoms = bulk("Al", a=3.6, cubic=True) * (2, 1, 1)
    atoms.symbols[[1, 2, 6]] = "Ni"
    atoms.rattle(0.15, seed=1)
    one = AceModel(pot, threads=1).evaluate(atoms)
    two = AceModel(parse_yace(potential_to_yace(pot)), threads=1).evaluate(atoms)
    scale = np.abs(one.forces).max()
    np.testing.assert_allclose(two.energies, one.energies, rtol=1e-10)
    np.testing.assert_allclose(two.forces, one.forces, atol=1e-10 * scale)
    np.testing.assert_allclose(two.virial, one.virial, atol=1e-9 * scale)


@pytest.mark.parametrize("case", CASES)
def test_reference_energies_and_forces(reference_case, case):
    folder = reference_case(case, "pot.yace")
    model = AceModel(AcePotential.read(folder / "pot.yace"), threads=1)
    data = np.load(folder / "reference.npz", allow_pickle=False)
    names = sorted({key.split("/")[0] for key in data.files})
    for name in names[:6]:
        atoms = Atoms(
            data[f"{name}/numbers"], data[f"{name}/positions"], cell=data[f"{name}/cell"], pbc=data[f"{name}/pbc"]
        )
        result = model.evaluate(atoms)
        energies, forces = data[f"{name}/energies"], data[f"{name}/forces"]
        # the reference engine interpolates its radial functions (1e-9 at kinks)
        np.testing.assert_allclose(result.energies, energies, atol=1e-8 * max(1.0, np.abs(energies).max()))
        np.testing.assert_allclose(result.forces, forces, atol=1e-7 * max(1.0, np.abs(forces).max()))


def test_round_trip_is_exact(potential):
    text = potential_to_yace(potential)
    again = parse_yace(text)
    assert again.to_yace() == text
    ctilde = to_ctilde(potential)
    assert again.elements == potential.elements
    assert again.species == potential.species
    assert again.reference_energies == {"Al": -0.1, "Ni": 1 / 3}
    for el in potential.elements:
        for a, b in zip(again.functions[el], ctilde.functions[el], strict=True):
            assert (a.mus, a.ns, a.ls) == (b.mus, b.ns, b.ls)
            np.testing.assert_array_equal(a.ms, b.ms)
            np.testing.assert_array_equal(a.ctildes, b.ctildes)
    for pair, bond in potential.bonds.items():
        np.testing.assert_array_equal(again.bonds[pair].radcoefficients, bond.radcoefficients)
        assert again.bonds[pair].rcut == bond.rcut == again.cutoff


def test_files(potential, tmp_path):
    path = tmp_path / "pot.yace"
    potential.write(path)
    read = CTildePotential.read(path)
    read.with_reference_energies({"Ni": -2.5}).write(tmp_path / "other.yace")
    other = CTildePotential.read(tmp_path / "other.yace")
    assert other.reference_energies == {"Al": -0.1, "Ni": -2.5}
    assert other.to_yace().replace("-2.5]", "0.33333333333333331]") == path.read_text()
    assert AcePotential.read(path).to_yace() == path.read_text()
    with pytest.raises(AceError, match=r"missing\.yace: cannot be read"):
        CTildePotential.read(tmp_path / "missing.yace")


def test_element_without_functions():
    functions = {"Al": {"nradmax_by_orders": [2], "lmax_by_orders": [0]}}
    pot = build_potential({"elements": ["Al", "Ni"], "cutoff": 5.0, "functions": functions})
    again = parse_yace(potential_to_yace(pot))
    assert [len(again.functions[el]) for el in again.elements] == [2, 0]
    assert again.reference_energies == {"Al": 0.0, "Ni": 0.0}


@pytest.mark.parametrize("case", CASES)
def test_reference_files(reference_case, case):
    """Their .yace: read and written byte by byte; equal to our conversion of their B-basis to rounding."""
    folder = reference_case(case, "pot.yace")
    text = (folder / "pot.yace").read_text()
    theirs = parse_yace(text)
    assert theirs.to_yace() == text
    ours = to_ctilde(AcePotential.read(folder / "pot.yaml"))
    assert ours.elements == theirs.elements
    assert ours.species == theirs.species
    for el in theirs.elements:
        for a, b in zip(ours.functions[el], theirs.functions[el], strict=True):
            assert (a.mus, a.ns, a.ls) == (b.mus, b.ns, b.ls)
            np.testing.assert_array_equal(a.ms, b.ms)
            np.testing.assert_allclose(a.ctildes, b.ctildes, rtol=0, atol=1e-12 * np.abs(b.ctildes).max())
    for pair, bond in theirs.bonds.items():
        for key in vars(bond):
            assert np.array_equal(getattr(ours.bonds[pair], key), getattr(bond, key)), key


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("elements:", "atoms:", "not a C-tilde potential"),
        ("E0: [0]", "E0: [0, 1]", "2 energies for 1"),
        ("E0: [0]", "E0: [.nan]", "not a finite number"),
        ("npoti: FinnisSinclairShiftedScaled", "npoti: Quadratic", "Quadratic"),
        ("radbasename: SBessel", "radbasename: ACE.jl.base", "not supported"),
        ("radbasename: SBessel", "radbasename: Splines", "Splines"),
        ("nradbasemax: 2", "nradbasemax: 3", "radcoefficients of shape"),
        ("rcut: 4", "cut: 4", "'rcut' is missing"),
        ("ms_combs: [0, 0, 1, -1]", "ms_combs: [0, 0, 1]", "need 4 ms_combs"),
        ("ms_combs: [0, 0, 1, -1]", "ms_combs: [0, 0, 1, 1]", "sum that is not zero"),
        ("ms_combs: [0, 0, 1, -1]", "ms_combs: [0, 0, 2, -2]", r"\|m\| > l"),
        ("ls: [1, 1]", "ls: [1]", "one entry for each"),
        ("ls: [1, 1]", "ls: [5, 5]", "lies outside"),
        ("mus: [0, 0], ns: [1, 1], ls: [1, 1]", "mus: [0, 1], ns: [1, 1], ls: [1, 1]", r"pair \[0, 1\]"),
        ("rank: 2, ndensity: 1", "rank: 2, ndensity: 2", "ndensity=2"),
        ("elements: [Cu]", "elements: [Cu", "not valid YAML"),
        ("[0, 0]: {nradmax", "0: {nradmax", "malformed"),
    ],
)
def test_malformed_files(old, new, message):
    pot = build_potential(
        {"elements": ["Cu"], "cutoff": 4.0, "nradmax_by_orders": [2, 1], "lmax_by_orders": [0, 1]}
    ).with_coefficients({"Cu": np.ones((1, 4))})
    text = potential_to_yace(pot)
    assert old in text
    with pytest.raises(AceError, match=message) as caught:
        parse_yace(text.replace(old, new), "some.yace")
    assert str(caught.value).startswith("some.yace")


def test_ctilde_has_no_projections() -> None:
    """Without a B-basis there is no gamma: asking for it is an error, not a wrong number."""
    pot = build_potential({"elements": ["Cu"], "cutoff": 4.0, "nradmax_by_orders": [3, 1], "lmax_by_orders": [0, 1]})
    model = AceModel(parse_yace(potential_to_yace(pot)), threads=1)
    atoms = Atoms("Cu2", [[0, 0, 0], [2.5, 0, 0]])
    for what in ({"projections": True}, {"gamma": True}):
        with pytest.raises(AceError, match="no B-basis"):
            model.evaluate(atoms, **what)
    with pytest.raises(AceError, match="no B-basis"):
        model.projections([atoms])
