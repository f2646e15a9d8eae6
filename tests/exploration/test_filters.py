"""Filters of candidates: what they drop, and that the reason is counted."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.distances import minimum_distances, parse_pair, short_pairs
from aiida_aceal.exploration.filters import (
    CompositionFilter,
    DistanceFilter,
    DuplicateFilter,
    FilterChain,
    WindowFilter,
    fingerprint,
)


def _graded(value: float) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.arrays["gamma"] = np.array([0.1, value, 0.2, 0.3])
    return atoms


def test_window():
    window = WindowFilter(2.0, 10.0)
    assert [window(_graded(x)) for x in (1.9, 2.0, 2.1, 9.9, 10.0, np.nan)] == [
        "below_window",
        "below_window",
        None,
        None,
        "above_window",
        "not_finite",
    ]
    with pytest.raises(AceError, match="grade it before"):
        window(bulk("Cu"))
    with pytest.raises(AceError, match="below gamma_hi"):
        WindowFilter(5.0, 2.0)


def test_limits_by_pair():
    limits = minimum_distances(["I", "Cu"], {"I-Cu": 2.1})
    assert limits[("Cu", "I")] == 2.1
    assert limits[("Cu", "Cu")] == pytest.approx(0.6 * 2 * 1.32)
    assert set(minimum_distances(["Cu"], 1.5).values()) == {1.5}
    assert parse_pair("Ni-Al") == ("Al", "Ni")
    with pytest.raises(AceError, match="Cu-I is -1"):
        minimum_distances(["I", "Cu"], {"I-Cu": -1})


def test_short_pairs_see_images_and_both_directions():
    atoms = Atoms("Cu2", [[0.1, 2, 2], [3.9, 2, 2]], cell=[4, 4, 4], pbc=True)
    i, j, vector, limit = short_pairs(atoms, {("Cu", "Cu"): 1.0})
    assert sorted(zip(i, j)) == [(0, 1), (1, 0)]
    np.testing.assert_allclose(np.linalg.norm(vector, axis=1), 0.2)
    np.testing.assert_allclose(limit, 1.0)
    atoms.pbc = False
    assert len(short_pairs(atoms, {("Cu", "Cu"): 1.0})[0]) == 0
    assert len(short_pairs(atoms, {("Cu", "Cu"): 3.9})[0]) == 2


def test_distance_filter_uses_the_pair():
    water = molecule("H2O")
    assert DistanceFilter()(water) is None
    assert DistanceFilter({"O-H": 1.2})(water) == "too_short"
    assert DistanceFilter({"O-O": 9.0})(water) is None


def test_composition():
    water = molecule("H2O")
    assert CompositionFilter(elements=["H", "O"])(water) is None
    assert CompositionFilter(elements=["H"])(water) == "composition"
    assert CompositionFilter(required=["Cu"])(water) == "composition"
    assert CompositionFilter(atoms=(4, 10))(water) == "size"
    assert CompositionFilter(fractions={"O": [0.3, 0.4]})(water) is None
    assert CompositionFilter(fractions={"O": [0.4, 0.5]})(water) == "composition"
    with pytest.raises(AceError, match="not an element"):
        CompositionFilter(elements=["Qq"])


def _turned(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    atoms = atoms[rng.permutation(len(atoms))]
    atoms.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    atoms.translate(rng.normal(size=3))
    return atoms


def test_duplicates_are_found_in_any_orientation_and_order():
    rng = np.random.default_rng(5)
    base = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    first = base.copy()
    first.rattle(0.1, seed=1)
    second = base.copy()
    second.rattle(0.1, seed=2)
    rule = DuplicateFilter()
    assert rule(first) is None
    assert rule(second) is None
    for atoms in (first, second):
        assert rule(_turned(atoms, rng)) == "duplicate"
        assert rule(_turned(atoms.repeat((2, 1, 1)), rng)) == "duplicate"
    moved = first.copy()
    moved.positions[0, 0] += 0.02
    assert rule(moved) is None
    scaled = first.copy()
    scaled.set_cell(scaled.cell * 1.002, scale_atoms=True)
    assert rule(scaled) is None
    assert len(rule) == 4
    swapped = first.copy()
    swapped.set_chemical_symbols(["Cl" if s == "Na" else "Na" for s in first.symbols])
    assert rule(swapped) is None


def test_nearly_equal_structures_across_a_bin_are_duplicates():
    """Structures that differ by less than the tolerance are found wherever the bins begin."""
    atoms = bulk("Cu", cubic=True)
    for scale in np.linspace(1.0, 1.01, 60):
        rule = DuplicateFilter(tolerance=1e-3)
        first, second = atoms.copy(), atoms.copy()
        first.set_cell(atoms.cell * scale, scale_atoms=True)
        second.set_cell(atoms.cell * scale * (1 + 2e-5), scale_atoms=True)
        assert rule(first) is None
        assert rule(second) == "duplicate"


def test_fingerprint_is_smooth():
    atoms = bulk("Cu", cubic=True).repeat(2)
    moved = atoms.copy()
    moved.positions[0, 0] += 1e-5
    assert np.abs(fingerprint(atoms) - fingerprint(moved)).max() < 1e-4


def test_chain_counts_reasons():
    chain = FilterChain([WindowFilter(2.0, 10.0), DuplicateFilter()])
    kept = list(chain([_graded(1), _graded(5), _graded(6), _graded(50)]))
    assert len(kept) == 1
    assert chain.counts == {"below_window": 1, "kept": 1, "duplicate": 1, "above_window": 1}
