"""``aceal.maxvol``, ``aceal.active_set``, ``aceal.grade``, ``aceal.select``: one numerics, four doors."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import AceModel
from aiida_aceal.calculations.worker_base import union_hashes
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.selection import select


@pytest.fixture
def run(aceal_worker_code, learned, job_metadata):
    def factory(name, **inputs):
        base = {"code": aceal_worker_code, "potential": learned[0], "metadata": job_metadata()}
        return run_get_node(CalculationFactory(name), **{**base, **inputs})

    return factory


@pytest.fixture
def sets(cu_configurations):
    first = cu_configurations(6, seed=20)
    return {"g0": first, "g1": first.select([1, 2]).extend(cu_configurations(3, seed=21))}


def gammas(potential, active_set, frames) -> list[np.ndarray]:
    from aiida_aceal.uncertainty import ActiveSet

    with active_set.as_file() as path:
        loaded = ActiveSet.load(path, potential=potential.get_potential())
    model = AceModel(potential.get_potential(), threads=1)
    model.active_set = loaded
    return [model.evaluate(atoms, gamma=True).gamma for atoms in frames]


def check_environments(active_set, sets) -> None:
    """Each active row is an atom of a configuration that is found again by its hash, and has gamma 1 or less."""
    known = set(union_hashes(sets))
    rows = active_set.environments["Cu"]
    assert len(rows) == active_set.sizes["Cu"]
    real = [(digest, atom) for digest, atom in rows if digest is not None]
    assert len(real) == active_set.rank["Cu"]
    assert {digest for digest, _ in real} <= known
    assert all(0 <= atom < 4 for _, atom in real)


def test_maxvol(learned, sets):
    potential, _ = learned
    active_set, node = CalculationFactory("aceal.maxvol").run_get_node(
        potential=potential, settings=orm.Dict({"kind": "linear", "tolerance": 1.01, "memory": "1GiB"}), **sets
    )
    assert node.is_finished_ok, node.exit_message
    assert active_set.kind == "linear"
    assert active_set.check_potential(potential) is None
    assert active_set.base.attributes.get("tolerance_reached") <= 1.01
    check_environments(active_set, sets)
    frames = [atoms for node in sets.values() for atoms in node.to_atoms()]
    assert max(g.max() for g in gammas(potential, active_set, frames)) <= 1.01 * (1 + 1e-9)
    # an active row is itself an environment of the training set: its grade is 1
    by_hash = {atoms.info["aceal_hash"]: g for atoms, g in zip(frames, gammas(potential, active_set, frames))}
    grades = [by_hash[digest][atom] for digest, atom in active_set.environments["Cu"] if digest is not None]
    assert grades == pytest.approx(np.ones(len(grades)), abs=1e-6)


def test_maxvol_bad_input(learned, sets):
    maxvol = CalculationFactory("aceal.maxvol")
    _, node = maxvol.run_get_node(potential=learned[0], settings=orm.Dict({"tolerence": 1.1}), **sets)
    assert node.exit_status == 301
    assert "unknown key 'tolerence'" in node.exit_message
    _, node = maxvol.run_get_node(potential=learned[0], settings=orm.Dict({"kind": "cubic"}), **sets)
    assert node.exit_status == 301
    assert "cubic" in node.exit_message
    _, node = maxvol.run_get_node(potential=learned[0], settings=orm.Dict())
    assert node.exit_status == 301


def test_job_equals_calcfunction(run, learned, sets):
    settings = {"kind": "linear", "tolerance": 1.001}
    here = CalculationFactory("aceal.maxvol")(potential=learned[0], settings=orm.Dict(settings), **sets)
    results, node = run("aceal.active_set", dataset=sets, settings=settings)
    assert node.is_finished_ok, node.exit_message
    there = results["active_set"]
    check_environments(there, sets)
    assert there.log_volume["Cu"] == pytest.approx(here.log_volume["Cu"], rel=1e-3)
    assert there.kind == "linear"
    assert results["report"]["kind"] == "linear"


def test_rank_and_outliers_are_on_the_node(learned, sets):
    """A perfect crystal is one environment; force errors far out stay out, and both can be read from the node."""
    maxvol = CalculationFactory("aceal.maxvol")
    one = maxvol(potential=learned[0], settings=orm.Dict(), g0=ConfigurationsData.from_atoms([bulk("Cu")]))
    assert one.rank == {"Cu": 1}
    floor = [digest for digest, _ in one.environments["Cu"] if digest is None]
    assert len(floor) == one.sizes["Cu"] - 1
    wrong = []
    for i, atoms in enumerate(sets["g0"].to_atoms()):
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        results["forces"][0] += 50.0 * (i == 2)
        atoms.calc = SinglePointCalculator(atoms, **results)
        wrong.append(atoms)
    node = ConfigurationsData.from_atoms(wrong)
    clean = maxvol(potential=learned[0], settings=orm.Dict({"exclude_outliers": True}), g0=node)
    out = clean.report["excluded"]
    assert [2, 0] in out["environments"]
    assert out["count"] == len(out["environments"]) < 24 / 4
    hashes = union_hashes({"g0": node})
    assert not {(hashes[s], a) for s, a in out["environments"]} & {tuple(e) for e in clean.environments["Cu"]}


def test_incremental(run, learned, sets, cu_configurations):
    first, node = run("aceal.active_set", dataset={"g0": sets["g0"]})
    assert node.is_finished_ok, node.exit_message
    more = {**sets, "g2": cu_configurations(3, seed=22, rattle=0.3)}
    second, node = run("aceal.active_set", dataset=more, previous=first["active_set"])
    assert node.is_finished_ok, node.exit_message
    check_environments(second["active_set"], more)
    assert second["active_set"].log_volume["Cu"] > first["active_set"].log_volume["Cu"]
    frames = [atoms for node in more.values() for atoms in node.to_atoms()]
    worst = max(g.max() for g in gammas(learned[0], second["active_set"], frames))
    assert worst <= 1.001 * (1 + 1e-9)


def test_refused_at_submission(run, learned, sets, cu_potential):
    with pytest.raises(ValueError, match="unknown key 'tolerence'; did you mean 'tolerance'"):
        run("aceal.active_set", dataset=sets, settings={"tolerence": 1.1})
    with pytest.raises(ValueError, match="dataset: give at least one set"):
        run("aceal.active_set", dataset={})
    other = cu_potential(cutoff=5.5)
    with pytest.raises(ValueError, match="previous: the active set was made for another potential"):
        run("aceal.active_set", dataset=sets, potential=other, previous=learned[1])
    with pytest.raises(ValueError, match=r"previous: it is linear, but settings\.kind is full"):
        run("aceal.active_set", dataset=sets, previous=learned[1], settings={"kind": "full"})
    with pytest.raises(ValueError, match="not to an update of `previous`"):
        run("aceal.active_set", dataset=sets, previous=learned[1], settings={"exclude_outliers": True})
    with pytest.raises(ValueError, match="made for another potential"):
        run("aceal.grade", configurations=sets["g0"], potential=other, active_set=learned[1])


def test_grade(run, learned, cu_configurations, cu_potential):
    given = cu_configurations(4, seed=30, rattle=0.2, labelled=False)
    results, node = run("aceal.grade", configurations=given, active_set=learned[1])
    assert node.is_finished_ok, node.exit_message
    graded = results["graded"]
    assert graded.hashes == given.hashes
    expected = gammas(*learned, given.to_atoms())
    for atoms, gamma in zip(graded.to_atoms(), expected):
        assert atoms.arrays["gamma"] == pytest.approx(gamma, rel=1e-9)
        assert atoms.info["gamma_max"] == pytest.approx(gamma.max(), rel=1e-9)
    # gamma before any fit: the linear grade needs the basis only
    unfitted, node = run("aceal.grade", configurations=given, active_set=learned[1], potential=cu_potential(scale=0.0))
    assert node.is_finished_ok, node.exit_message
    assert unfitted["graded"].get_array("atom_gamma") == pytest.approx(graded.get_array("atom_gamma"), rel=1e-9)
    nothing, node = run("aceal.grade", configurations=given, active_set=learned[1], settings={"store": False})
    assert node.is_finished_ok, node.exit_message
    assert "graded" not in nothing
    assert nothing["report"].get_dict()


@pytest.mark.parametrize("strategy", ["random", "uncertainty", "d_optimal"])
def test_select(run, learned, cu_configurations, strategy):
    given = cu_configurations(12, seed=31, rattle=0.2, labelled=False)
    inputs = {"configurations": given, "active_set": learned[1], "settings": {"strategy": strategy, "count": 3}}
    results, node = run("aceal.select", seed=5, **inputs)
    assert node.is_finished_ok, node.exit_message
    selected = results["selected"]
    assert 1 <= len(selected) <= 3
    assert set(selected.hashes) <= set(given.hashes)
    assert all(info["reason"] for info in selected.infos)
    again, _ = run("aceal.select", seed=5, **inputs)
    assert again["selected"].hashes == selected.hashes
    if strategy == "uncertainty":
        worst = np.argsort([-g.max() for g in gammas(*learned, given.to_atoms())])
        assert selected.hashes[0] == given.hashes[worst[0]]


def test_select_by_other_limits(run, learned, cu_configurations):
    given = cu_configurations(12, seed=31, rattle=0.2, labelled=False)
    settings = {"strategy": "hybrid", "max_atoms": 17, "options": {"weight": 0.9}}
    results, node = run("aceal.select", configurations=given, active_set=learned[1], settings=settings, seed=5)
    assert node.is_finished_ok, node.exit_message
    assert results["selected"].base.attributes.get("n_atoms") == 16


def test_select_refused(run, learned, sets):
    common = {"configurations": sets["g0"], "active_set": learned[1], "seed": 1}
    with pytest.raises(ValueError, match="state how much to select"):
        run("aceal.select", settings={"strategy": "random"}, **common)
    with pytest.raises(ValueError, match="count: must be a positive integer or null, found 0"):
        run("aceal.select", settings={"strategy": "random", "count": 0}, **common)
    with pytest.raises(ValueError, match=r"strategy: must be .* found 'ranodm'; did you mean 'random'"):
        run("aceal.select", settings={"strategy": "ranodm", "count": 1}, **common)
    with pytest.raises(ValueError, match="options: unknown key 'wait'; did you mean 'weight'"):
        run("aceal.select", settings={"strategy": "hybrid", "count": 1, "options": {"wait": 1}}, **common)


def test_viability_by_the_training_set(run, learned, sets, cu_configurations):
    """The union of the sets in ``reference``; refused at submission without them or numbers."""
    given = cu_configurations(30, seed=41, rattle=0.25, labelled=False)
    inputs = {
        "configurations": given, "active_set": learned[1], "seed": 5,
        "settings": {"strategy": "viability", "count": 30, "duplicate_distance": 0},
    }  # fmt: skip
    with pytest.raises(ValueError, match="reference: `viability` judges candidates by the training set"):
        run("aceal.select", **inputs)
    results, node = run("aceal.select", reference={"a": sets["g0"], "b": sets["g0"]}, **inputs)
    assert node.is_finished_ok, node.exit_message
    report = results["report"].get_dict()
    assert report["reference"]["n_structures"] == len(sets["g0"])
    assert any("reference structures" in note for note in report["notes"])
    # every decision follows from the reference: the same by hand
    model = AceModel(learned[0].get_potential(), threads=1)
    by_hand = select(
        "viability", given.to_atoms(), 30, 5, model, learned[1].get_active_set(learned[0]), duplicate_distance=0,
        reference=sets["g0"].to_atoms(),
    )  # fmt: skip
    assert [entry["index"] for entry in report["selected"]] == by_hand.indices
    numbers = {"U": 1.0, "sU": 0.1, "E": 10.0, "sE": 1.0, "atoms": 4}
    inputs["settings"] = {**inputs["settings"], "options": {"reference": numbers}}
    results, node = run("aceal.select", **inputs)
    assert node.is_finished_ok, node.exit_message
    assert results["report"].get_dict()["reference"]["s1"] == pytest.approx(2.0)
