"""Active exploration: targets, constraints, growth of the active set, reproducibility."""

import numpy as np
import pytest
from ase.build import add_adsorbate, bulk, fcc111
from ase.constraints import FixAtoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import build
from aiida_aceal.exploration.active import ActiveSettings, explore_active
from aiida_aceal.exploration.distances import shortest
from aiida_aceal.exploration.geometry import Constraints
from aiida_aceal.exploration.initial import generate
from aiida_aceal.exploration.objective import StructureGrader
from aiida_aceal.exploration.search import SearchSettings, search

LITHIUM = {"minimum_distance": 2.2, "connected": 4.0}


@pytest.fixture(scope="module")
def starts():
    return generate([{"kind": "clusters", "composition": {"Li": 4}, "count": 6, "minimum_distance": 2.3}], seed=1)


def _settings(method="nelder-mead", **changes):
    values = {"count": 4, "attempts": 8, "starts": 2, "max_evaluations": 250, "method": method, **LITHIUM, **changes}
    return ActiveSettings(**values)


@pytest.mark.parametrize("method", ["nelder-mead", "gradient"])
def test_li4_from_li2_and_li3(lithium, starts, method):
    potential, model, aset, _ = lithium
    result = explore_active(potential, aset, starts, _settings(method), seed=3)
    assert len(result.candidates) >= 2
    assert result.report["n_target_reached"] >= 1
    old, new = StructureGrader(model, aset), StructureGrader(model, result.active_set)
    for number, atoms in enumerate(result.candidates):
        top = atoms.info["gamma_max"]
        assert top > 2.0
        assert atoms.arrays["gamma"].max() == top
        assert shortest(atoms)[("Li", "Li")] > 2.2 - 1.1e-3
        assert len(atoms) == 4
        # what was found is known afterwards, and it was unknown before
        assert new.maximum(atoms) <= 1.0011
        assert old.maximum(atoms) > 1.5
        if number == 0:
            assert old.maximum(atoms) == pytest.approx(top, rel=1e-9)
    labels = result.active_set.environments["Li"][:, 0]
    first = result.report["first_label"]
    assert set(range(first, first + len(result.candidates))) >= set(labels[labels >= first]) != set()
    # PRM 7, 043801, Sec. III.B: each swap multiplies the volume by a gamma above 1
    assert result.active_set.log_volume["Li"] > aset.log_volume["Li"] + np.log(result.report["gammas"][0]) - 1e-6


def test_nothing_in_the_window_but_above_it(lithium, starts):
    """A young active set grades every Li4 far above the window: the least extrapolating ones are kept."""
    potential, model, aset, _ = lithium
    search = {"target_gamma": 2.005, "target_tolerance": 1e-3, "max_evaluations": 8, "starts": 1}
    settings = _settings(gamma_lo=2.0, gamma_hi=2.01, attempts=6, batch=2, **search)
    result = explore_active(potential, aset, starts, settings, seed=3)
    assert 1 <= len(result.candidates) <= 3
    assert all(atoms.info["above_window"] for atoms in result.candidates)
    kept = [atoms.info["gamma_max"] for atoms in result.candidates]
    assert kept == sorted(kept)
    assert kept[0] >= 2.01
    seen = sorted(entry["gamma"] for entry in result.report["history"] if entry["gamma"] >= 2.01)
    assert kept == seen[: len(kept)]
    assert result.report["n_candidates"] == len(kept)
    assert StructureGrader(model, result.active_set).maximum(result.candidates[0]) <= 1.0011


def test_target_window_is_met(lithium, starts):
    _, model, aset, _ = lithium
    for method in ("nelder-mead", "gradient"):
        settings = SearchSettings(method=method, target_gamma=15.0, target_tolerance=1.0)
        grader = StructureGrader(model, aset)
        found = search(grader, starts[0], Constraints(**LITHIUM), settings, np.random.default_rng(0))
        assert found.reached
        assert 14.0 <= found.gamma <= 16.0
        assert grader.maximum(found.atoms) == pytest.approx(found.gamma, rel=1e-12)


def test_reproducible_by_seed_and_independent_of_the_number_of_workers(lithium, starts):
    potential, _, aset, _ = lithium
    settings = _settings("gradient", batch=2, count=3)
    first = explore_active(potential, aset, starts, settings, seed=5)
    runs = [
        explore_active(potential, aset, starts, settings, seed=5),
        explore_active(potential, aset, starts, settings.replace(workers=2), seed=5),
    ]
    assert first.candidates
    for other in runs:
        assert len(other.candidates) == len(first.candidates)
        for a, b in zip(first.candidates, other.candidates):
            np.testing.assert_array_equal(a.positions, b.positions)
        assert other.report["history"] == first.report["history"]
    changed = explore_active(potential, aset, starts, settings, seed=6)
    assert not np.array_equal(changed.candidates[0].positions, first.candidates[0].positions)


def test_stops_when_nothing_is_left(lithium, starts):
    potential, _, aset, train = lithium
    settings = _settings(patience=2, starts=1, max_evaluations=15)
    # dimers between the known distances cannot be unknown
    result = explore_active(potential, aset, [train[10]], settings, seed=0)
    assert result.report["reason"] == "nothing_found"
    assert result.report["steps_reached"] == 2
    assert result.candidates == []
    assert result.active_set is aset


def test_migrating_atom_next_to_a_vacancy(copper):
    potential, model, aset, _ = copper
    cell = bulk("Cu", "fcc", 3.61, cubic=True).repeat(2)
    del cell[0]
    mover = int(np.argmin(cell.get_distances(0, range(1, len(cell)), mic=True))) + 1
    for method in ("nelder-mead", "gradient"):
        settings = ActiveSettings(
            count=1,
            attempts=3,
            method=method,
            target_gamma=5.0,
            target_tolerance=0.5,
            starts=3,
            minimum_distance=1.9,
            free=[mover],
            max_displacement=2.0,
        )
        result = explore_active(potential, aset, [cell], settings, seed=2)
        assert len(result.candidates) == 1
        atoms = result.candidates[0]
        moved = np.linalg.norm(atoms.positions - cell.positions, axis=1)
        assert moved[mover] > 0.05
        assert moved[mover] < 2.0 + 1e-3
        assert np.delete(moved, mover).max() == 0.0
        assert 4.5 <= StructureGrader(model, aset).maximum(atoms) <= 5.5


def test_adsorbate_on_a_slab_with_fixed_atoms(iodide):
    potential, _, sets, _ = iodide
    slab = fcc111("Cu", (2, 2, 3), vacuum=7.0, periodic=True)
    add_adsorbate(slab, "I", 2.2, "ontop")
    slab.set_constraint(FixAtoms(range(12)))
    settings = ActiveSettings(
        count=1,
        attempts=2,
        gamma_lo=1.5,
        target_tolerance=None,
        target_gamma=2.0,
        starts=2,
        max_evaluations=100,
        minimum_distance={"Cu-I": 2.2},
        free={"elements": ["I"]},
        connected=3.5,
    )
    result = explore_active(potential, sets["full"], [slab], settings, seed=0)
    for atoms in result.candidates:
        np.testing.assert_array_equal(atoms.positions[:12], slab.positions[:12])
    assert result.report["evaluations"] > 0
    assert len(result.candidates) == 1


def test_free_cell(copper):
    potential, _, aset, _ = copper
    settings = ActiveSettings(
        count=1,
        attempts=4,
        method="gradient",
        target_gamma=5.0,
        starts=2,
        minimum_distance=1.8,
        cell="free",
        max_strain=0.1,
    )
    start = bulk("Cu", "fcc", 3.61, cubic=True)
    atoms = explore_active(potential, aset, [start], settings, seed=1).candidates[0]
    strain = np.linalg.solve(start.cell.array, atoms.cell.array) - np.eye(3)
    assert 1e-3 < np.abs(strain).max() < 0.1 + 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count: must be a positive integer, found 0"),
        ({"gamma_lo": 20.0}, r"gamma_lo \(20.0\)"),
        ({"gamma_hi": 12.0, "target_gamma": 15.0}, "above target_gamma"),
        ({"method": "newton"}, "must be 'nelder-mead' or 'gradient', found 'newton'"),
        ({"target_tolerance": 20.0}, "target_tolerance"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(AceError, match=message):
        _settings(**changes)


def test_wrong_references(lithium, copper):
    potential, _, aset, _ = lithium
    with pytest.raises(AceError, match="no structures to start from"):
        explore_active(potential, aset, [], _settings())
    with pytest.raises(AceError, match="element Cu is unknown to the potential"):
        explore_active(potential, aset, [bulk("Cu")], _settings())
    with pytest.raises(AceError, match="seed"):
        explore_active(potential, aset, [bulk("Li")], _settings(), seed=-1)


def test_local_active_set_is_explored_by_its_global_part(lithium, starts):
    from aiida_aceal.uncertainty import build_local_active_set

    potential, model, _, train = lithium
    local = build_local_active_set(model, train, clusters=2)
    settings = _settings("gradient", count=1)
    said = []
    result = explore_active(potential, local, starts, settings, seed=3, progress=said.append)
    plain = explore_active(potential, local.global_set(), starts, settings, seed=3)
    assert "global part" in said[0]
    np.testing.assert_array_equal(result.candidates[0].positions, plain.candidates[0].positions)


@pytest.mark.parametrize(
    ("window", "target"),
    [((2.0, 10.0), 9.0), ((2.0, 25.0), 15.0), ((2.0, 100.0), 15.0), ((20.0, 25.0), 22.5), ((8.9, 10.0), 9.0)],
)
def test_target_in_the_window(window, target):
    search = build(ActiveSettings, {"gamma_lo": window[0], "gamma_hi": window[1]})
    assert search.target_gamma == pytest.approx(target)
    assert window[0] < search.window[0] < search.window[1] < window[1]


def test_a_stated_target_stays():
    assert build(ActiveSettings, {"gamma_hi": 10.0, "target_gamma": 5.0}).target_gamma == 5.0
    assert ActiveSettings().window == (14.0, 16.0)
