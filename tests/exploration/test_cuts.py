"""Geometry of cuts: what is kept, what repairs take."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.cuts import (
    cut_box,
    cut_cluster,
    formula_unit,
    group_centres,
    molecule_units,
    remove_overlaps,
    repair_stoichiometry,
    scale_limits,
)


def _neighbours(atoms: Atoms, index: int, radius: float) -> np.ndarray:
    """Sorted vectors to all neighbours (images too) within the radius."""
    from ase.neighborlist import neighbor_list

    i, vectors = neighbor_list("iD", atoms, radius)
    vectors = vectors[i == index]
    return vectors[np.lexsort(np.round(vectors, 6).T)]


def _salt(repeat=5) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True).repeat(repeat)
    atoms.rattle(0.2, seed=1)
    return atoms


@pytest.mark.parametrize("shape", ["cubic", "skewed"])
def test_box_keeps_the_sphere_about_the_centre(shape):
    big = _salt() if shape == "cubic" else bulk("NaCl", "rocksalt", 5.64).repeat(10)
    if shape == "skewed":
        big.rattle(0.2, seed=1)
    radius = 4.9
    smallest = scale_limits(big, radius)
    assert (smallest < 1).all()
    for scale in (smallest, np.minimum(1.0, smallest * [1.0, 1.2, 1.4])):
        cut = cut_box(big, 77, radius, scale)
        assert cut.origin[cut.centre] == 77
        assert cut.atoms.get_volume() == pytest.approx(big.get_volume() * np.prod(scale))
        expected = _neighbours(big, 77, radius)
        np.testing.assert_allclose(_neighbours(cut.atoms, cut.centre, radius), expected, atol=1e-8)
        assert cut.inner.sum() == len(expected) + 1
        np.testing.assert_array_equal(cut.atoms.numbers, big.numbers[cut.origin])
    with pytest.raises(AceError, match="periodic images"):
        cut_box(big, 77, radius, 0.9 * smallest)


def test_slab_keeps_its_thickness_and_vacuum():
    slab = fcc111("Cu", (8, 8, 4), vacuum=10.0, periodic=False)
    cut = cut_box(slab, 200, 4.5, scale_limits(slab, 4.5))
    assert list(cut.atoms.pbc) == [True, True, False]
    assert cut.atoms.cell[2, 2] == pytest.approx(slab.cell[2, 2])
    assert len(cut.atoms) < len(slab)
    np.testing.assert_allclose(np.unique(np.round(cut.atoms.positions[:, 2], 6)).size, 4)
    np.testing.assert_allclose(_neighbours(cut.atoms, cut.centre, 4.5), _neighbours(slab, 200, 4.5), atol=1e-8)


def test_small_cell_stays_whole():
    atoms = bulk("Cu", cubic=True)
    assert scale_limits(atoms, 5.0).tolist() == [1, 1, 1]
    cut = cut_box(atoms, 2, 5.0, np.ones(3))
    assert len(cut.atoms) == 4
    np.testing.assert_allclose(_neighbours(cut.atoms, cut.centre, 5.0), _neighbours(atoms, 2, 5.0), atol=1e-8)


def test_cluster_has_all_images_of_the_sphere():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=3)
    cut = cut_cluster(atoms, 1, 4.0, 6.0, vacuum=5.0)
    assert not cut.atoms.pbc.any()
    np.testing.assert_allclose(_neighbours(cut.atoms, cut.centre, 6.0), _neighbours(atoms, 1, 6.0), atol=1e-8)
    assert len(cut.atoms) == len(_neighbours(atoms, 1, 6.0)) + 1
    distance = np.linalg.norm(cut.atoms.positions - cut.atoms.positions[0], axis=1)
    np.testing.assert_array_equal(cut.inner, distance <= 4.0)


def test_neighbours_give_one_group():
    atoms = bulk("Cu", cubic=True).repeat(6)
    gamma = np.ones(len(atoms))
    far = int(np.argmax(atoms.get_distances(0, range(len(atoms)), mic=True)))
    near = int(np.argsort(atoms.get_distances(0, range(len(atoms)), mic=True))[1])
    gamma[[0, near, far]] = [5.0, 4.0, 9.0]
    groups = group_centres(atoms, gamma, 2.0, 3.0)
    assert [group.tolist() for group in groups] == [[far], [0, near]]
    assert group_centres(atoms, gamma, 9.0, 3.0) == []


def test_only_overlaps_across_the_seam_are_removed():
    big = _salt()
    cut = cut_box(big, 0, 4.5, np.full(3, 11.6 / big.cell[0, 0]))  # 5 layers where 4 fit
    plain = remove_overlaps(cut, {("Cl", "Na"): 0.0, ("Na", "Na"): 0.0, ("Cl", "Cl"): 0.0})
    assert len(plain.atoms) == len(cut.atoms)
    limits = {("Cl", "Na"): 2.0, ("Na", "Na"): 2.9, ("Cl", "Cl"): 2.9}
    clean = remove_overlaps(cut, limits)
    assert clean.removed["overlap"] == len(cut.atoms) - len(clean.atoms) > 0
    assert clean.inner.sum() == cut.inner.sum()
    assert clean.origin[clean.centre] == 0
    # the same rule finds nothing in a cut that is the whole structure
    whole = cut_box(big, 0, 4.5, np.ones(3))
    assert len(remove_overlaps(whole, {key: 2.0 for key in limits}).atoms) == len(big)


def test_stoichiometry():
    big = _salt()
    assert formula_unit(big) == "ClNa"
    assert formula_unit(bulk("Cu").repeat(3)) is None
    cut = cut_box(big, 0, 4.5, 1.1 * scale_limits(big, 4.5))
    fixed = repair_stoichiometry(cut, "NaCl")
    assert fixed.atoms.symbols.count("Na") == fixed.atoms.symbols.count("Cl")
    assert fixed.inner.sum() == cut.inner.sum()
    with pytest.raises(AceError, match="which KCl does not"):
        repair_stoichiometry(cut, "KCl")
    with pytest.raises(AceError, match="cannot be made a multiple"):
        repair_stoichiometry(cut_cluster(big, 0, 3.5, 3.5, 5.0), "NaCl3")
    with pytest.raises(AceError, match="not a formula"):
        repair_stoichiometry(cut, "Na?")


def test_molecules_stay_whole():
    rng = np.random.default_rng(0)
    box = Atoms(cell=[15.5] * 3, pbc=True)
    for k in range(125):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(3.1 * np.array(np.unravel_index(k, (5, 5, 5))))
        box += water
    box.wrap()
    units = molecule_units(box)
    assert len(np.unique(units)) == 125
    cut = cut_box(box, 3 * 60, 5.0, 1.2 * scale_limits(box, 5.0), units)
    assert cut.atoms.symbols.count("H") == 2 * cut.atoms.symbols.count("O")
    assert len(molecule_units(cut.atoms)) == len(cut.atoms)
    np.testing.assert_allclose(_neighbours(cut.atoms, cut.centre, 5.0), _neighbours(box, 180, 5.0), atol=1e-8)
    cluster = cut_cluster(box, 180, 5.0, 5.0, 6.0, units)
    assert cluster.atoms.symbols.count("H") == 2 * cluster.atoms.symbols.count("O")
    assert len(np.unique(molecule_units(cluster.atoms))) == cluster.atoms.symbols.count("O")
