"""Pool grading: the same candidates in any chunking, reasons for the rest."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.initial import generate
from aiida_aceal.exploration.objective import StructureGrader
from aiida_aceal.exploration.pool import PoolSearch, PoolSettings

CU = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}


def _pool():
    atoms = generate(
        [
            {"kind": "rattled", "structure": CU, "count": 10, "amplitude": [0.05, 0.4]},
            {"kind": "volume_scan", "structure": CU, "count": 8, "volume": [0.7, 1.4]},
        ],
        seed=4,
    )
    crushed = bulk("Cu", "fcc", 1.5, cubic=True)
    return [*atoms, atoms[3].copy(), crushed, bulk("Al", cubic=True)]


def test_pool_keeps_the_window_and_counts_the_rest(copper):
    _, model, aset, train = copper
    grader = StructureGrader(model, aset)
    pool = _pool()
    good = pool[:18]
    gammas = np.array([grader.maximum(atoms) for atoms in good])
    low, high = 1.5, float(np.sort(gammas)[-3])
    results = []
    for chunk in (1, 30, 20_000):
        search = PoolSearch(model, aset, PoolSettings(gamma_lo=low, gamma_hi=high, chunk_atoms=chunk), known=train)
        results.append([atoms.info["source"] for atoms in search(atoms.copy() for atoms in pool)])
        report = search.report()
        assert report["steps_reached"] == 21
        assert report["dropped"]["too_short"] == 1
        assert report["dropped"]["composition"] == 1
        assert report["dropped"]["above_window"] >= 3
        assert report["n_candidates"] + sum(report["dropped"].values()) == 21
        assert report["max_gamma"] == pytest.approx(gammas.max())
    assert results[0] == results[1] == results[2]
    expected = {atoms.info["source"] for atoms, g in zip(good, gammas) if low < g < high}
    assert set(results[0]) == expected
    assert expected


def test_all_above_the_window(copper):
    _, model, aset, train = copper
    grader = StructureGrader(model, aset)
    pool = _pool()
    gammas = sorted(grader.maximum(atoms) for atoms in pool[:18])
    low, high = 1e-3 * gammas[0], 0.5 * gammas[0]
    for chunk in (1, 20_000):
        search = PoolSearch(model, aset, PoolSettings(gamma_lo=low, gamma_hi=high, chunk_atoms=chunk), known=train)
        found = list(search(atoms.copy() for atoms in pool))
        assert [atoms.info["gamma_max"] for atoms in found] == pytest.approx(gammas[:3])
        assert all(atoms.info["above_window"] and atoms.info["kind"] == "pool" for atoms in found)
        report = search.report()
        assert report["n_candidates"] == 3
        assert report["n_in_window"] == 0
        assert report["n_candidates"] + sum(report["dropped"].values()) == 21


def test_known_structures_and_duplicates_are_dropped(copper):
    _, model, aset, _ = copper
    pool = [atoms for atoms in _pool()[:10] if StructureGrader(model, aset).maximum(atoms) > 1.5]
    assert len(pool) >= 2
    search = PoolSearch(model, aset, PoolSettings(gamma_lo=1.5), known=pool[:1])
    assert len(list(search([*pool, *pool]))) == len(pool) - 1
    assert search.report()["dropped"]["duplicate"] == len(pool) + 1


def test_the_largest_grades_are_kept(copper):
    _, model, aset, _ = copper
    everything = list(PoolSearch(model, aset, PoolSettings(gamma_lo=1.5))(_pool()))
    best = list(PoolSearch(model, aset, PoolSettings(gamma_lo=1.5, max_candidates=3))(_pool()))
    ranked = sorted((atoms.info["gamma_max"] for atoms in everything), reverse=True)
    assert [atoms.info["gamma_max"] for atoms in best] == ranked[:3]
    assert all(atoms.arrays["gamma"].max() == atoms.info["gamma_max"] for atoms in best)


def test_wrong_settings():
    with pytest.raises(AceError, match="gamma_hi"):
        PoolSettings(gamma_lo=5.0, gamma_hi=2.0)
    with pytest.raises(AceError, match="chunk_atoms"):
        PoolSettings(chunk_atoms=0)
