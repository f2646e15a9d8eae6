"""Tangents and gradients by coefficients, every embedding and core: against finite differences and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from random_cases import DESCRIPTIONS, cases, difference, fast, model_of, random_structure

from aiida_aceal.ace import AceError, AceModel
from aiida_aceal.ace.yace import to_ctilde


def directions(model, rng, atoms):
    return {el: 0.1 * rng.standard_normal(model.potential.coefficients(el).shape) for el in model.elements}, (
        rng.standard_normal((len(atoms), 3)),
        rng.standard_normal(6),
    )


def stepped(model, coefficients, t):
    return model.with_coefficients({el: model.potential.coefficients(el) + t * d for el, d in coefficients.items()})


@fast
@given(cases(most=4))
def test_tangent_along_positions_and_strain(case):
    model, atoms, rng = case
    _, (u, strain) = directions(model, rng, atoms)
    # an upper triangle as the tangent of the bonds: its rotation does not change energies
    deformation = np.array([[strain[0], 0, 0], [strain[3], strain[1], 0], [strain[4], strain[5], strain[2]]])

    def energies(t):
        moved = atoms.copy()
        moved.set_cell(np.array(atoms.cell) @ (np.eye(3) + t * deformation))
        moved.positions = atoms.positions @ (np.eye(3) + t * deformation) + t * u
        return model.evaluate(moved, forces=False, stress=False).energies

    tangent = model.jvp(atoms, positions=u, strain=strain)
    result = model.evaluate(atoms)
    scale = max(1.0, np.abs(result.energies).max(), np.abs(result.forces).max(), np.abs(result.virial).max())
    np.testing.assert_allclose(tangent.energies, difference(energies, 5e-5), rtol=0, atol=3e-6 * scale)
    assert tangent.energy == pytest.approx(-np.sum(result.forces * u) + result.virial @ strain, abs=1e-9 * scale)
    assert tangent.forces is None


@fast
@given(cases(most=4))
def test_tangent_along_coefficients(case):
    model, atoms, rng = case
    coefficients, _ = directions(model, rng, atoms)

    def values(t):
        r = stepped(model, coefficients, t).evaluate(atoms)
        return np.concatenate([r.energies, r.forces.ravel(), r.virial])

    tangent = model.jvp(atoms, coefficients=coefficients)
    got = np.concatenate([tangent.energies, tangent.forces.ravel(), tangent.virial])
    scale = max(1.0, np.abs(values(0.0)).max(), np.abs(got).max())
    np.testing.assert_allclose(got, difference(values, 1e-5), rtol=0, atol=1e-5 * scale)


@fast
@given(cases(most=4))
def test_gradient_is_the_adjoint_of_the_tangent(case):
    """y . (J x) = (J^T y) . x"""
    model, atoms, rng = case
    coefficients, (w_forces, w_virial) = directions(model, rng, atoms)
    w_energy = rng.standard_normal(len(atoms))
    tangent = model.jvp(atoms, coefficients=coefficients)
    forward = [w_energy @ tangent.energies, np.sum(w_forces * tangent.forces), w_virial @ tangent.virial]
    gradient = model.coefficient_gradient(atoms, w_energy, w_forces, w_virial)
    backward = sum(np.sum(gradient[el] * d) for el, d in coefficients.items())
    scale = max(1.0, np.abs(tangent.forces).max(), np.abs(tangent.virial).max(), np.abs(tangent.energies).max())
    assert backward == pytest.approx(sum(forward), abs=1e-8 * scale * len(atoms))


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_both_directions_add_up(name):
    model = model_of(name)
    rng = np.random.default_rng(5)
    atoms = random_structure(model.elements, rng, 4, (True, True, False))
    coefficients, (u, strain) = directions(model, rng, atoms)
    both = model.jvp(atoms, u, strain, coefficients).energies
    apart = model.jvp(atoms, u, strain).energies + model.jvp(atoms, coefficients=coefficients).energies
    np.testing.assert_allclose(both, apart, rtol=1e-9, atol=1e-9 * np.abs(apart).max())


def test_linear_gradient_is_the_design_matrix():
    model = model_of("linear")
    rng = np.random.default_rng(3)
    atoms = random_structure(model.elements, rng, 5, (True, True, True))
    system = model.linear_system(atoms, virial=True)
    w_forces, w_virial = rng.standard_normal((5, 3)), rng.standard_normal(6)
    expected = 2.0 * system.energy + w_forces.ravel() @ system.forces + w_virial @ system.virial
    got = model.coefficient_gradient(atoms, 2.0, w_forces, w_virial)["Cu"][0]
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_directions_of_another_shape():
    model = model_of("linear")
    atoms = random_structure(model.elements, np.random.default_rng(1), 3, (False,) * 3)
    with pytest.raises(AceError, match=r"need shape \(3, 3\)"):
        model.jvp(atoms, positions=np.zeros((2, 3)))
    with pytest.raises(AceError, match="coefficients of Cu: shape"):
        model.jvp(atoms, coefficients={"Cu": np.zeros((1, 2))})
    with pytest.raises(AceError, match="coefficients of Ni"):
        model.jvp(atoms, coefficients={"Ni": np.zeros((1, 2))})
    tilde = AceModel(to_ctilde(model.potential))
    with pytest.raises(AceError, match="B-basis"):
        tilde.coefficient_gradient(atoms)
