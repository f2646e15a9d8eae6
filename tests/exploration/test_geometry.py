"""Coordinates and penalties of a search."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from ase.constraints import FixAtoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.geometry import Constraints, Coordinates, free_mask


def _water_box() -> Atoms:
    rng = np.random.default_rng(2)
    return Atoms("CuICuICuI", rng.uniform(0, 5, (6, 3)), cell=[[5, 0, 0], [1, 5, 0], [0, 0.5, 5]], pbc=True)


@pytest.mark.parametrize(
    "rules",
    [
        Constraints(minimum_distance={"Cu-I": 2.8, "Cu": 2.5, "I": 3.2}),
        Constraints(minimum_distance=2.5, free=[0, 3, 4], max_displacement=0.1),
        Constraints(minimum_distance=0.1, connected=1.9),
        Constraints(minimum_distance=2.5, cell="free", max_strain=0.01),
    ],
)
def test_gradient_of_the_penalty(rules):
    coordinates = Coordinates(_water_box(), rules)
    x = np.random.default_rng(0).normal(scale=0.2, size=coordinates.size)
    value, slope = coordinates.penalty(x, coordinates.atoms(x))
    assert value > 0
    for k in range(coordinates.size):
        ends = []
        for h in (1e-6, -1e-6):
            moved = x.copy()
            moved[k] += h
            ends.append(coordinates.penalty(moved, coordinates.atoms(moved))[0])
        assert slope[k] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-2)


def test_penalty_is_a_thousand_per_angstrom():
    atoms = Atoms("Li2", [[0, 0, 0], [2.0, 0, 0]])
    coordinates = Coordinates(atoms, Constraints(minimum_distance=2.5))
    value, _ = coordinates.penalty(np.zeros(coordinates.size), atoms)
    assert value == pytest.approx(500.0, rel=0.02)
    assert coordinates.penalty(np.zeros(1), Atoms("Li2", [[0, 0, 0], [2.6, 0, 0]]))[0] == 0


def test_rigid_motions_are_left_out():
    cluster = Atoms("Li4", np.random.default_rng(1).normal(scale=2, size=(4, 3)))
    assert Coordinates(cluster).size == 6
    assert Coordinates(Atoms("Li2", [[0, 0, 0], [0, 0, 3]])).size == 1
    assert Coordinates(bulk("Cu", cubic=True)).size == 9
    assert Coordinates(bulk("Cu", cubic=True), Constraints(cell="free")).size == 15
    assert Coordinates(bulk("Cu", cubic=True), Constraints(free=[1])).size == 3
    with pytest.raises(AceError, match="nothing can move"):
        Coordinates(Atoms("Li", [[0, 0, 0]]))


def test_strain_acts_on_cell_and_atoms():
    coordinates = Coordinates(bulk("NaCl", "rocksalt", 5.6), Constraints(cell="free"))
    x = np.zeros(coordinates.size)
    x[-6:] = 0.2
    atoms = coordinates.atoms(x)
    start = coordinates.start
    np.testing.assert_allclose(atoms.get_scaled_positions(), start.get_scaled_positions(), atol=1e-12)
    assert atoms.get_volume() != pytest.approx(start.get_volume(), rel=0.01)


def test_what_is_free():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    add_adsorbate(slab, "I", 2.0, "fcc")
    assert np.flatnonzero(free_mask(slab, {"elements": ["I"]})).tolist() == [12]
    assert free_mask(slab, {"around": 12, "radius": 3.0}).sum() == 4
    slab.set_constraint(FixAtoms(range(8)))
    assert free_mask(slab, "all").sum() == 5
    with pytest.raises(AceError, match="no atom is free"):
        free_mask(slab, [0, 1])
    with pytest.raises(AceError, match="do not all exist"):
        free_mask(slab, [99])
    with pytest.raises(AceError, match=r"free: must be 'all', a list of atom indices.*found {'round': 1}"):
        Constraints(free={"round": 1})
    with pytest.raises(AceError, match="all atoms free"):
        Coordinates(slab, Constraints(cell="free"))
