"""Symmetries of the engine, its derivatives against finite differences, and the edge cases of structures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st
from random_cases import (
    DESCRIPTIONS,
    cases,
    difference,
    fast,
    model_of,
    random_structure,
    tensor,
)

from aiida_aceal.ace import AceCalculator, AceError, AceModel, AcePotential, build_potential


def assert_equal(a, b, permutation=None, rotation=None):
    """Energies, forces, virial of ``a`` equal those of ``b`` after ``b`` is permuted and rotated."""
    permutation = np.arange(len(b.energies)) if permutation is None else permutation
    Q = np.eye(3) if rotation is None else rotation
    scale = max(1.0, np.abs(b.energies).max(), np.abs(b.forces).max(), np.abs(b.virial).max())
    np.testing.assert_allclose(a.energies, b.energies[permutation], rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(a.forces, (b.forces @ Q)[permutation], rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(tensor(a.virial), Q.T @ tensor(b.virial) @ Q, rtol=0, atol=1e-8 * scale)


# --- symmetries -------------------------------------------------------------------------------------------------------
@fast
@given(cases())
def test_translation(case):
    model, atoms, rng = case
    moved = atoms.copy()
    moved.positions += rng.uniform(-20, 20, 3)
    # any atom may be given by any of its images
    moved.positions += (rng.integers(-2, 3, (len(atoms), 3)) * atoms.pbc) @ np.array(atoms.cell)
    assert_equal(model.evaluate(moved), model.evaluate(atoms))
    result = model.evaluate(atoms)
    assert np.abs(result.forces.sum(0)).max() < 1e-9 * max(1.0, np.abs(result.forces).max())


@fast
@given(cases(), st.booleans())
def test_rotation_and_inversion(case, mirror):
    model, atoms, rng = case
    Q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    Q *= np.linalg.det(Q) * (-1 if mirror else 1)
    turned = atoms.copy()
    turned.set_cell(np.array(atoms.cell) @ Q)
    turned.positions = atoms.positions @ Q
    before, after = (model.evaluate(a, projections=True) for a in (atoms, turned))
    assert_equal(after, before, rotation=Q)
    scale = np.nanmax(np.abs(before.projections), initial=1.0)
    np.testing.assert_allclose(after.projections, before.projections, rtol=0, atol=1e-10 * scale)


@fast
@given(cases())
def test_permutation(case):
    model, atoms, rng = case
    order = rng.permutation(len(atoms))
    assert_equal(model.evaluate(atoms[order]), model.evaluate(atoms), permutation=order)


@fast
@given(cases(most=3))
def test_choice_of_the_cell(case):
    """A supercell, and another basis of the same lattice, describe the same crystal."""
    model, atoms, rng = case
    one = model.evaluate(atoms)
    scale = max(1.0, np.abs(one.energies).max(), np.abs(one.forces).max())
    repeats = [2 if p else 1 for p in atoms.pbc]
    many = model.evaluate(atoms.repeat(repeats))
    count = int(np.prod(repeats))
    np.testing.assert_allclose(many.energies, np.tile(one.energies, count), rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(many.forces, np.tile(one.forces, (count, 1)), rtol=0, atol=1e-9 * scale)
    periodic = np.flatnonzero(atoms.pbc)
    if len(periodic) >= 2:
        a, b = rng.choice(periodic, 2, replace=False)
        cell = np.array(atoms.cell)
        cell[a] += rng.integers(-2, 3) * cell[b]
        sheared = atoms.copy()
        sheared.set_cell(cell, scale_atoms=False)
        assert_equal(model.evaluate(sheared), one)


@fast
@given(cases(most=3))
def test_periodic_images_are_explicit_atoms(case):
    """Mixed periodicity, cells smaller than the cutoff: equal to a cluster that holds all images within the cutoff."""
    model, atoms, _ = case
    cell = np.array(atoms.cell)
    reach = np.ceil(model.cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) + 2
    shifts = [np.arange(-k, k + 1) if p else np.zeros(1, int) for k, p in zip(reach, atoms.pbc)]
    images = np.stack(np.meshgrid(*shifts, indexing="ij"), -1).reshape(-1, 3)
    images = images[np.argsort(np.abs(images).sum(1), kind="stable")] @ cell
    x = (atoms.positions[None] + images[:, None]).reshape(-1, 3)
    centre = np.linalg.norm(x[:, None] - atoms.positions[None], axis=-1).min(1)
    # neighbours of neighbours are needed for nothing but their own energies
    keep = np.flatnonzero(centre < model.cutoff + 0.1)
    keep = np.concatenate([np.arange(len(atoms)), keep[keep >= len(atoms)]])
    cluster = Atoms(np.tile(atoms.symbols, len(images))[keep], x[keep])
    expected = model.evaluate(cluster, forces=False, stress=False).energies[: len(atoms)]
    got = model.evaluate(atoms, forces=False, stress=False).energies
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * max(1.0, np.abs(expected).max()))


# --- derivatives ------------------------------------------------------------------------------------------------------
@fast
@given(cases())
def test_forces_are_the_gradient(case):
    model, atoms, rng = case
    direction = rng.standard_normal((len(atoms), 3))

    def energy(t):
        moved = atoms.copy()
        moved.positions += t * direction
        return model.evaluate(moved, forces=False, stress=False).energy

    result = model.evaluate(atoms)
    expected = -np.sum(result.forces * direction)
    scale = max(1.0, np.abs(result.energies).max(), np.abs(result.forces).max())
    assert abs(difference(energy) - expected) < 2e-6 * scale


@fast
@given(cases())
def test_virial_is_the_derivative_by_strain(case):
    model, atoms, rng = case
    strain = rng.standard_normal((3, 3))
    strain = (strain + strain.T) / 2

    def energy(t):
        moved = atoms.copy()
        moved.set_cell(np.array(atoms.cell) @ (np.eye(3) + t * strain))
        moved.positions = atoms.positions @ (np.eye(3) + t * strain)
        return model.evaluate(moved, forces=False, stress=False).energy

    result = model.evaluate(atoms)
    expected = np.sum(tensor(result.virial) * strain)
    scale = max(1.0, np.abs(result.energies).max(), np.abs(result.virial).max())
    assert abs(difference(energy, 5e-5) - expected) < 2e-6 * scale
    order = result.virial[[0, 1, 2, 5, 4, 3]]
    np.testing.assert_allclose(result.stress * abs(atoms.cell.volume), order, rtol=1e-12, atol=1e-12 * scale)


@fast
@given(cases(most=4))
def test_projection_gradient(case):
    model, atoms, rng = case
    width = max(model.n_functions.values())
    weights = rng.standard_normal((len(atoms), width))
    direction = rng.standard_normal((len(atoms), 3))

    def weighted(t):
        moved = atoms.copy()
        moved.positions += t * direction
        B = model.evaluate(moved, forces=False, stress=False, projections=True).projections
        return np.nansum(weights * B)

    gradient, _ = model.projection_gradient(atoms, weights)
    scale = max(1.0, np.abs(gradient).max(), abs(weighted(0.0)))
    assert abs(difference(weighted) - np.sum(gradient * direction)) < 2e-6 * scale


@fast
@given(st.integers(0, 10**6), st.integers(1, 5), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_linear_potential_is_linear_in_its_coefficients(seed, n, pbc):
    """E = B c from the projections and from the design matrix, and so forces and virial."""
    model = model_of("linear")
    atoms = random_structure(model.elements, np.random.default_rng(seed), n, pbc)
    result = model.evaluate(atoms, projections=True)
    c = model.potential.coefficients("Cu")[0]
    scale = max(1.0, np.abs(result.energies).max(), np.abs(result.forces).max(), np.abs(result.virial).max())
    np.testing.assert_allclose(result.projections @ c, result.energies, rtol=0, atol=1e-10 * scale)
    system = model.linear_system(atoms, forces=True, virial=True)
    np.testing.assert_allclose(system.energy @ c, result.energy, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose((system.forces @ c).reshape(-1, 3), result.forces, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(system.virial @ c, result.virial, rtol=0, atol=1e-9 * scale)


# --- edge cases -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(DESCRIPTIONS))
def test_isolated_atom(name):
    """No neighbours: all sums are empty, hence no energy and no force."""
    model = model_of(name)
    for element in model.elements:
        far = Atoms([element] * 2, [[0, 0, 0], [50, 0, 0]])
        for atoms in (Atoms(element), Atoms(element, cell=[30, 30, 30], pbc=True), far):
            result = model.evaluate(atoms, projections=True)
            assert np.abs(result.energies).max() < 1e-15  # F(0) = 0 to rounding
            assert np.all(result.forces == 0.0)
            assert np.all(result.virial == 0.0)
            assert np.all(np.nan_to_num(result.projections) == 0.0)


@pytest.mark.parametrize("name", ["sqrt, distance", "zbl", "density, ChebExpCos"])
@pytest.mark.parametrize("r", [0.2, 0.7, 1.3, 1.55, 1.75, 2.0, 2.3, 3.9])
def test_dimer_in_and_around_the_core(name, r):
    model = model_of(name)

    def energy(t):
        return model.evaluate(Atoms("Cu2", [[0, 0, 0], [0.6 * (r + t), 0.8 * (r + t), 0]]), stress=False).energy

    result = model.evaluate(Atoms("Cu2", [[0, 0, 0], [0.6 * r, 0.8 * r, 0]]), stress=False)
    assert np.isfinite(result.energies).all()
    along = result.forces[1] @ [0.6, 0.8, 0.0]
    slope = difference(energy, 1e-5 * r)
    assert along == pytest.approx(-slope, rel=1e-5, abs=1e-6 * max(1.0, abs(result.energy)))
    np.testing.assert_allclose(result.forces[0], -result.forces[1], rtol=1e-12)
    np.testing.assert_allclose(result.forces[1], along * np.array([0.6, 0.8, 0.0]), atol=1e-9 * max(1, abs(along)))


@pytest.mark.parametrize("name", ["sqrt, distance", "zbl", "density, ChebExpCos"])
def test_core_repels(name):
    """Deep in the core the energy rises steeply, whatever the coefficients are."""
    model = model_of(name)
    energies = [model.evaluate(Atoms("Cu2", [[0, 0, 0], [0, 0, r]])).energy for r in (0.1, 0.2, 0.4)]
    assert energies[0] > energies[1] > energies[2] > 0


def test_dimer_energy_from_the_formulas():
    """Two atoms, rank 1, one radial function: E = 2 (c g(r) f + phi(r)) by hand (FORMATS 3.2-3.4)."""
    c, pre, lam, cut, dcut = 5.0, 30.0, 0.8, 4.0, 3.0
    pot = build_potential(
        {
            "elements": ["Cu"], "cutoff": c, "radbase": "ChebLinear", "inner_cutoff_type": "density",
            "core-repulsion": [pre, lam], "rho_core_cut": cut, "drho_core_cut": dcut, "nradmax_by_orders": [1],
            "lmax_by_orders": [0],
        }
    ).with_coefficients({"Cu": np.array([[0.7]])})  # fmt: skip
    model = AceModel(pot, threads=1)
    for r in (1.0, 1.5, 2.0, 3.0, 4.5):
        g = 0.5 * (1 - (1 - r / c))
        phi = pre * np.exp(-lam * r * r) / r * 0.5 * (1 + np.cos(np.pi * r / c))
        t = np.clip((phi - cut) / dcut, -1.0, 0.0)
        x = 1 - 2 * (1 + t)
        f = 0.5 + 3.75 * (x / 4 - x**3 / 6 + x**5 / 20)
        energy = model.evaluate(Atoms("Cu2", [[0, 0, 0], [0, r, 0]])).energy
        assert energy == pytest.approx(2 * (f * 0.7 * g + phi), rel=1e-9)


def test_no_neighbours_of_one_species():
    """A three-element potential on one element equals the potential cut down to that element."""
    model = model_of("mixed densities, ChebPow")
    pot = model.potential
    for el in pot.elements:
        alone = AcePotential(
            elements=(el,),
            species={el: pot.species[el]},
            bonds={(el, el): pot.bonds[el, el]},
            blocks={el: pot.blocks[el]},
        )
        atoms = bulk(el, "fcc", a=3.8, cubic=True)
        atoms.rattle(0.2, seed=2)
        assert_equal(model.evaluate(atoms), AceModel(alone, threads=1).evaluate(atoms))


def test_species_without_functions():
    functions = {"Al": {"nradmax_by_orders": [3, 2], "lmax_by_orders": [0, 1]}}
    pot = build_potential({"elements": ["Al", "Ni"], "cutoff": 4.5, "functions": functions})
    pot = pot.with_coefficients({"Al": np.ones((1, pot.n_functions["Al"]))})
    model = AceModel(pot, threads=1)
    atoms = bulk("Al", cubic=True)
    atoms.symbols[1] = "Ni"
    result = model.evaluate(atoms, projections=True)
    assert result.energies[1] == 0.0
    assert np.all(result.energies[[0, 2, 3]] != 0.0)
    assert np.isnan(result.projections[1]).all()
    # Ni is nobody's neighbour in this basis: the other atoms see a vacancy
    np.testing.assert_allclose(model.evaluate(atoms[[0, 2, 3]]).energies, result.energies[[0, 2, 3]], rtol=1e-12)
    rows = model.projections([atoms])
    assert rows["Ni"].rows.shape == (1, 0)
    assert rows["Al"].rows.shape == (3, pot.n_functions["Al"])


def test_one_atom_in_a_cell_far_smaller_than_the_cutoff():
    model = model_of("linear")
    one = model.evaluate(Atoms("Cu", cell=[[1.9, 0, 0], [0.8, 1.8, 0], [-0.5, 0.4, 2.0]], pbc=True))
    eight = model.evaluate(Atoms("Cu", cell=[[1.9, 0, 0], [0.8, 1.8, 0], [-0.5, 0.4, 2.0]], pbc=True).repeat(3))
    np.testing.assert_allclose(eight.energies, one.energy, rtol=1e-11)
    np.testing.assert_allclose(eight.stress, one.stress, rtol=1e-9, atol=1e-12)
    assert np.abs(one.forces).max() < 1e-9


def test_threads_and_batches_give_the_same():
    rng = np.random.default_rng(4)
    pot = model_of("mixed densities, ChebPow").potential
    one, two = AceModel(pot, threads=1), AceModel(pot, threads=2, chunk=16)
    structures = [random_structure(pot.elements, rng, n, (True, True, False)) for n in (1, 5, 9)]
    structures.append(bulk("Ni", cubic=True) * 3)
    for a, b in zip(two.evaluate_batch(structures), [one.evaluate(s) for s in structures]):
        assert_equal(a, b)
    assert_equal(two.evaluate(structures[-1]), one.evaluate(structures[-1]))


def test_calculator_adds_reference_energies():
    pot = model_of("linear").potential.with_reference_energies({"Cu": -1.25})
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    plain = AceModel(pot, threads=1).evaluate(atoms)
    atoms.calc = AceCalculator(pot, threads=1)
    assert atoms.get_potential_energy() == pytest.approx(plain.energy - 5.0, rel=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), plain.forces, atol=1e-13)
    np.testing.assert_allclose(atoms.get_stress(), plain.stress, atol=1e-13)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("Zr"), "Zr"),
        (Atoms(), "no atoms"),
        (Atoms("Cu", [[np.nan, 0, 0]]), "not finite"),
        (Atoms("Cu", pbc=True), "no volume"),
        (Atoms("Cu", cell=[[3, 0, 0], [3, 0, 0], [0, 0, 3]], pbc=True), "no volume"),
        (Atoms("Cu2", [[1, 1, 1], [1, 1, 1]]), "same place"),
        (Atoms("Cu2", [[1, 1, 1], [4, 1, 1]], cell=[3, 3, 3], pbc=True), "same place"),
    ],
)
def test_impossible_structures(atoms, message):
    with pytest.raises(AceError, match=message):
        model_of("linear").evaluate(atoms)
