"""Atoms that leave: a floor under the grade of environments emptier than any that was learnt."""

import json
import zipfile

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.ace.coordination import coordination_of
from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.exploration.pool import PoolSearch, PoolSettings
from aiida_aceal.selection import select
from aiida_aceal.uncertainty import (
    ActiveSet,
    LocalActiveSet,
    build_active_set,
    build_local_active_set,
    from_rows,
    update_active_set,
)
from aiida_aceal.uncertainty.emptiness import LARGEST, MARGIN, REASON
from aiida_aceal.worker.main import main

CUTOFF = 5.0


@pytest.fixture(scope="module")
def tantalum():
    shape = {"cutoff": CUTOFF, "nradmax_by_orders": [8, 3, 2], "lmax_by_orders": [0, 3, 1]}
    return AceModel(build_potential({"elements": ["Ta"], **shape}), threads=2)


def slab() -> Atoms:
    atoms = bulk("Ta", "bcc", 3.3, cubic=True).repeat((3, 3, 3))
    atoms.cell[2, 2] += 12.0
    return atoms


def training() -> list[Atoms]:
    """Warm crystals over a range of volumes, a vacancy, a surface: nothing else."""
    rng = np.random.default_rng(0)
    found = []
    for a in np.linspace(3.1, 3.5, 6):
        atoms = bulk("Ta", "bcc", a, cubic=True).repeat(3)
        found += [atoms, atoms.copy()]
        del found[-1][0]
    found += [slab()]
    for atoms in found:
        atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
    return found


def evaporated() -> Atoms:
    atoms = slab()
    atoms.positions[-1, 2] += CUTOFF + 1.0
    return atoms


def stretched() -> Atoms:
    return bulk("Ta", "bcc", 5.4, cubic=True).repeat(2)


@pytest.fixture(scope="module")
def learnt(tantalum):
    return build_active_set(tantalum, training())


def graded(model, active_set, atoms):
    model.active_set = active_set
    result = model.evaluate(atoms, gamma=True, forces=False, stress=False)
    model.active_set = None
    return result


def plain(model, active_set, atoms) -> np.ndarray:
    """Gamma of the formula alone, atom by atom (one element)."""
    return active_set.grade("Ta", model.projections([atoms], kind=active_set.kind)["Ta"].rows)


def test_smooth_coordination():
    potential = build_potential(
        {"elements": ["Al", "Ni"], "cutoff": 4.0, "nradmax_by_orders": [2], "lmax_by_orders": [0]}
    )
    for pair, rcut in ((("Al", "Ni"), 3.0), (("Ni", "Al"), 3.0), (("Ni", "Ni"), 3.5)):
        potential.bonds[pair] = potential.bonds[pair].__class__(**{**vars(potential.bonds[pair]), "rcut": rcut})
    rng = np.random.default_rng(1)
    atoms = Atoms("Al3Ni3", rng.uniform(0, 4, (6, 3)), cell=[4.5, 4.0, 30.0], pbc=[True, True, False])
    atoms.positions[5, 2] += 15.0  # alone but for its images along x and y, which are beyond its cutoff
    expected = np.zeros(6)
    for i in range(6):
        for j in range(6):
            for a in (-2, -1, 0, 1, 2):
                for b in (-2, -1, 0, 1, 2):
                    r = np.linalg.norm(atoms.positions[j] + [4.5 * a, 4.0 * b, 0] - atoms.positions[i])
                    rcut = potential.bonds[atoms.symbols[i], atoms.symbols[j]].rcut
                    if 1e-8 < r < rcut:
                        expected[i] += (1 - (r / rcut) ** 2) ** 4
    found = coordination_of(atoms, potential)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[5] == 0.0
    assert (found[:5] > 0).all()
    # the engine's own cutoffs are the same
    parts = AceModel(potential, threads=1).projections([atoms])
    for element, part in parts.items():
        assert part.coordination == pytest.approx(expected[part.atom], rel=1e-12), element


@pytest.mark.parametrize("make", [evaporated, stretched])
def test_empty_environments_are_flagged(tantalum, learnt, make):
    atoms = make()
    worst = coordination_of(atoms, tantalum.potential).argmin()
    assert plain(tantalum, learnt, atoms)[worst] < 1.5  # the formula alone calls this interpolation, or nearly so
    result = graded(tantalum, learnt, atoms)
    assert result.gamma[worst] == result.emptiness[worst] > 25


def test_floor_grows_with_the_distance_and_leaves_others_alone(tantalum, learnt):
    last = 0.0
    for shift in (0.0, 1.0, 2.0, 3.0, 4.0, 5.5):
        atoms = slab()
        atoms.positions[-1, 2] += shift
        result = graded(tantalum, learnt, atoms)
        formula = plain(tantalum, learnt, atoms)
        assert result.emptiness[-1] >= last
        last = result.emptiness[-1]
        full = result.emptiness <= 1
        assert np.array_equal(result.gamma[full], formula[full])
        assert np.array_equal(result.gamma[~full], np.maximum(formula, result.emptiness)[~full])
    assert last == LARGEST


def test_training_is_never_flagged(tantalum, learnt):
    for atoms in training():
        result = graded(tantalum, learnt, atoms)
        assert result.gamma.max() <= 1.001
        assert result.emptiness.max() <= MARGIN * (1 + 1e-12)


def test_what_was_learnt_is_not_flagged(tantalum):
    """With an isolated atom among the data, that atom is known; one that is only half out is not."""
    with_atom = build_active_set(tantalum, [*training(), Atoms("Ta", cell=[20, 20, 20], pbc=True)])
    assert with_atom.sets["Ta"].emptiest.isolated
    assert graded(tantalum, with_atom, evaporated()).gamma[-1] == 0.0
    atoms = evaporated()
    atoms.positions[-1, 2] -= 3.0
    assert graded(tantalum, with_atom, atoms).gamma[-1] > 10
    only = build_active_set(tantalum, [Atoms("Ta")])
    assert graded(tantalum, only, evaporated()).emptiness.max() == 0.0  # nothing it could be emptier than


def test_stretched_crystals_enter_by_an_update(tantalum, learnt):
    assert graded(tantalum, learnt, stretched()).gamma.max() > 25
    new = update_active_set(learnt, tantalum, [stretched()])
    assert graded(tantalum, new, stretched()).gamma.max() <= 1.001
    assert graded(tantalum, new, evaporated()).gamma[-1] == LARGEST


def test_streamed_and_excluded(tantalum, learnt):
    structures = training()
    k = tantalum.n_functions["Ta"]
    streamed = build_active_set(tantalum, structures * 8, memory=max(2**20, 2 * 8 * k * 600))
    assert streamed.extra["streamed"]
    assert streamed.sets["Ta"].emptiest == learnt.sets["Ta"].emptiest
    coordination = [coordination_of(atoms, tantalum.potential) for atoms in structures]
    where = min((c.min(), s, int(c.argmin())) for s, c in enumerate(coordination))
    assert learnt.sets["Ta"].emptiest.coordination == pytest.approx(where[0], rel=1e-12)
    without = build_active_set(tantalum, structures, exclude=np.array([where[1:]]))
    assert without.sets["Ta"].emptiest.coordination > where[0]


def test_files(tantalum, learnt, tmp_path):
    learnt.save(tmp_path / "a.asi")
    with zipfile.ZipFile(tmp_path / "a.asi") as archive:
        assert archive.namelist() == ["Ta.npy"]  # all that other readers see
    again = ActiveSet.load(tmp_path / "a.asi", tantalum.potential)
    assert again.sets["Ta"].emptiest == learnt.sets["Ta"].emptiest
    assert again.emptiness_note is None
    # a file of another code says nothing, and is graded by the formula alone
    with (tmp_path / "b.asi").open("wb") as handle:
        np.savez(handle, Ta=learnt.inverses["Ta"])
    foreign = ActiveSet.load(tmp_path / "b.asi", tantalum.potential)
    assert "not flagged" in foreign.emptiness_note
    result = graded(tantalum, foreign, evaporated())
    assert result.gamma[-1] == 0.0
    assert np.array_equal(result.gamma, plain(tantalum, foreign, evaporated()))
    # what it had learnt cannot be found out from new data
    assert update_active_set(foreign, tantalum, [stretched()]).sets["Ta"].emptiest is None


def test_switched_off(tantalum, tmp_path):
    off = build_active_set(tantalum, training(), emptiness=False)
    off.save(tmp_path / "off.asi")
    again = ActiveSet.load(tmp_path / "off.asi", tantalum.potential)
    assert "emptiness off" in again.emptiness_note
    assert graded(tantalum, again, evaporated()).gamma[-1] == 0.0


def test_local_sets(tantalum, learnt, tmp_path):
    local = build_local_active_set(tantalum, training(), clusters=2)
    local.save(tmp_path / "set.npz")
    again = ActiveSet.load(tmp_path / "set.npz", tantalum.potential)
    assert isinstance(again, LocalActiveSet)
    for active_set in (local, again, again.global_set(), again.with_definition("own")):
        assert active_set.sets["Ta"].emptiest == learnt.sets["Ta"].emptiest
        assert graded(tantalum, active_set, evaporated()).gamma[-1] == LARGEST
    assert max(graded(tantalum, local, atoms).gamma.max() for atoms in training()) <= 1.001
    off = build_local_active_set(tantalum, training(), clusters=2, emptiness=False)
    assert graded(tantalum, off, evaporated()).gamma[-1] == 0.0
    assert "emptiness off" in off.emptiness_note


def test_full_set(alloy):
    rng = np.random.default_rng(0)
    structures = []
    for _ in range(6):
        atoms = bulk("Al", cubic=True).repeat(2)
        atoms.symbols[rng.permutation(32)[:16]] = "Ni"
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        structures.append(atoms)
    full = build_active_set(alloy, structures, kind="full")
    gone = structures[0].copy()
    gone.cell[2, 2] += 20.0
    gone.positions[3, 2] += 13.0
    assert full.grade(gone.symbols[3], alloy.projections([gone], "full")[gone.symbols[3]].rows).min() == 0.0
    assert graded(alloy, full, gone).gamma[3] == LARGEST
    assert max(graded(alloy, full, atoms).gamma.max() for atoms in structures) <= 1.001


def test_rows_without_structures(tantalum):
    part = tantalum.projections(training())["Ta"]
    assert from_rows({"Ta": part.rows}).sets["Ta"].emptiest is None
    told = from_rows({"Ta": part.rows}, coordination={"Ta": part.coordination})
    assert graded(tantalum, told, evaporated()).gamma[-1] == LARGEST


def test_pool(tantalum, learnt):
    settings = PoolSettings(gamma_lo=2.0, minimum_distance=1.0)
    search = PoolSearch(tantalum, learnt, settings)
    stale = training()[0]
    stale.info["gamma_reason"] = REASON
    found = list(search([stale, evaporated(), stretched(), *training()[1:]]))
    assert [atoms.info["source"] for atoms in found] == ["pool#1", "pool#2"]
    assert all(atoms.info["gamma_reason"] == REASON for atoms in found)
    assert [atoms.info["n_emptier"] for atoms in found] == [1, 16]
    assert "gamma_reason" not in stale.info
    assert search.report()["emptiness"] == {"n_structures": 2, "note": None}
    assert search.report()["max_gamma"] == found[0].info["gamma_max"] == LARGEST


def test_selection(tantalum, learnt):
    """MaxVol cannot take rows that vanish, and yet the emptiest environment must be learnt at some time."""
    pool = [*training()[:4], evaporated(), evaporated()]
    chosen = select("d_optimal", pool, count=1, model=tantalum, active_set=learnt)
    assert chosen.indices == [4]
    assert REASON in chosen.reasons[0]
    chosen = select("uncertainty", pool, count=1, model=tantalum, active_set=learnt)
    assert chosen.indices == [4]
    assert REASON in chosen.reasons[0]
    off = build_active_set(tantalum, training(), emptiness=False)
    chosen = select("uncertainty", pool, count=6, model=tantalum, active_set=off)
    assert not any(REASON in reason for reason in chosen.reasons)
    assert "emptiness off" in chosen.report()["notes"][0]


def test_programs(tantalum, tmp_path):
    def run(*words):
        result = CliRunner().invoke(main, [str(w) for w in words])
        assert result.exit_code == 0, result.output
        return result.output

    tantalum.potential.write(tmp_path / "pot.yaml")
    write_configurations(tmp_path / "train.extxyz", training())
    write_configurations(tmp_path / "new.extxyz", [training()[0], evaporated()])
    build = ["active-set", tmp_path / "pot.yaml", tmp_path / "train.extxyz", "-o"]
    grade = [tmp_path / "new.extxyz", "-o", tmp_path / "g.extxyz", "--report", tmp_path / "g.json"]
    run(*build, tmp_path / "on.asi")
    said = run("grade", tmp_path / "pot.yaml", tmp_path / "on.asi", *grade)
    assert "1 with atoms in environments emptier than any that was learnt" in said
    first, second = read_configurations(tmp_path / "g.extxyz")
    assert "gamma_reason" not in first.info
    assert (second.info["gamma_reason"], second.info["n_emptier"]) == (REASON, 1)
    assert second.info["gamma_max"] == LARGEST
    assert json.loads((tmp_path / "g.json").read_text())["emptiness"] == {"n_structures": 1, "note": None}
    run(*build, tmp_path / "off.asi", "--no-emptiness")
    said = run("grade", tmp_path / "pot.yaml", tmp_path / "off.asi", *grade)
    assert said.count("not flagged") == 1
    assert "gamma_reason" not in read_configurations(tmp_path / "g.extxyz")[1].info
    assert "emptiness off" in json.loads((tmp_path / "g.json").read_text())["emptiness"]["note"]
