"""The smooth maximum of gamma: bounds, and its gradient against finite differences."""

import numpy as np
import pytest

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.embedding import embedding_derivatives
from aiida_aceal.exploration.initial import generate
from aiida_aceal.exploration.objective import StructureGrader


def _structure(seed=3):
    return generate([{"kind": "random_packed", "composition": {"Cu": 6, "I": 6}, "count": 1}], seed)[0]


@pytest.mark.parametrize("kind", ["linear", "full"])
def test_gradient_of_gamma_agrees_with_finite_differences(iodide, kind):
    _, model, sets, _ = iodide
    grader = StructureGrader(model, sets[kind])
    atoms = _structure()
    mask = np.arange(len(atoms)) % 3 != 0
    result = grader.smooth_maximum(atoms, mask, power=16)
    h = 1e-5

    def value(changed):
        return grader.smooth_maximum(changed, mask, power=16).value

    for atom, axis in [(0, 0), (1, 1), (5, 2), (8, 0), (11, 1)]:
        plus, minus = atoms.copy(), atoms.copy()
        plus.positions[atom, axis] += h
        minus.positions[atom, axis] -= h
        slope = (value(plus) - value(minus)) / (2 * h)
        assert result.gradient[atom, axis] == pytest.approx(slope, rel=1e-5, abs=1e-6)
    for a, b in [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]:
        ends = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] += sign * h / 2
            strain[b, a] += sign * h / 2
            changed = atoms.copy()
            changed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            ends.append(value(changed))
        assert result.strain[a, b] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", ["linear", "full"])
def test_smooth_maximum_bounds_the_maximum(iodide, kind):
    _, model, sets, _ = iodide
    grader = StructureGrader(model, sets[kind])
    atoms = _structure(5)
    gamma = grader.gamma(atoms)
    before = np.inf
    for power in (8.0, 32.0, 128.0):
        result = grader.smooth_maximum(atoms, power=power)
        np.testing.assert_allclose(result.gamma, gamma, rtol=1e-8)
        assert gamma.max() <= result.value * (1 + 1e-12) < before * (1 + 1e-9)
        before = result.value
    assert before < 1.1 * gamma.max()
    assert grader.maximum(atoms) == gamma.max()


def test_gradient_vanishes_for_atoms_out_of_reach(lithium):
    _, model, aset, _ = lithium
    atoms = generate([{"kind": "clusters", "composition": {"Li": 3}, "count": 1}], 2)[0]
    far = atoms.copy()
    far.append("Li")
    far.positions[-1] = [50.0, 0, 0]
    near, wide = (StructureGrader(model, aset).smooth_maximum(a) for a in (atoms, far))
    assert wide.value == pytest.approx(near.value, rel=1e-12)
    np.testing.assert_allclose(wide.gradient[:3], near.gradient, rtol=1e-10, atol=1e-14)
    assert not wide.gradient[3].any()
    # a translation changes nothing
    np.testing.assert_allclose(near.gradient.sum(axis=0), 0, atol=1e-9 * np.abs(near.gradient).max())


@pytest.mark.parametrize("name", ["FinnisSinclair", "FinnisSinclairShiftedScaled"])
def test_embedding_derivatives(iodide, name):
    from dataclasses import replace

    potential = iodide[0]
    species = {**potential.species, "Cu": replace(potential.species["Cu"], embedding=name)}
    potential = replace(potential, species=species)
    rho = np.array([[-2.0, -1.5], [0.3, 0.2], [1.0, 2.5], [4.0, -0.4], [1e-6, 1.1e-6]])
    h = 1e-6 * np.maximum(np.abs(rho), 1e-4)
    first, second = embedding_derivatives(potential, "Cu", rho)
    up, down = (embedding_derivatives(potential, "Cu", rho + s * h)[0] for s in (1, -1))
    np.testing.assert_allclose(second, (up - down) / (2 * h), rtol=1e-4, atol=1e-6 * np.abs(second).max())
    np.testing.assert_allclose(first[:, 0], 1.0)


def test_unknown_element_and_set_without_gradient(lithium):
    _, model, aset, train = lithium

    class OnlyGrades:
        kind = "linear"
        grade = staticmethod(aset.grade)

    grader = StructureGrader(model, OnlyGrades())
    assert grader.maximum(train[0]) <= 1.001 + 1e-9
    with pytest.raises(AceError, match="use method nelder-mead"):
        grader.smooth_maximum(train[0])
    with pytest.raises(AceError, match="element Cu, I is unknown"):
        grader.check_elements(_structure())
