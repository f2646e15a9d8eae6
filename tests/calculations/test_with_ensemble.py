"""An ensemble beside gamma: ``aceal.evaluate``, ``aceal.grade``, ``aceal.select``, learning curves."""

from __future__ import annotations

import numpy as np
import pytest
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.fitting import fit_ensemble


@pytest.fixture(scope="module")
def members(cu_atoms, small_potential):
    return fit_ensemble(small_potential(scale=0.0), cu_atoms(12, seed=5, rattle=0.1), ensemble={"members": 3})


@pytest.fixture
def run(aceal_worker_code, learned, members, job_metadata):
    def call(name, active_set=True, **inputs):
        base = {"code": aceal_worker_code, "potential": learned[0], "metadata": job_metadata()}
        if active_set:
            base["active_set"] = learned[1]
        base["ensemble"] = EnsembleData(ensemble=members)
        return run_get_node(CalculationFactory(name), **{**base, **inputs})

    return call


def test_evaluate_and_grade(run, members, cu_configurations):
    data = cu_configurations(3, rattle=0.1).extend(cu_configurations(2, seed=3, rattle=0.4))
    dE, dF = members.indicators(data.to_atoms())
    for name, port, active_set in (("aceal.evaluate", "evaluated", False), ("aceal.grade", "graded", True)):
        results, node = run(name, active_set, configurations=data)
        assert node.is_finished_ok, node.exit_message
        found = results[port].to_atoms()
        np.testing.assert_allclose([atoms.info["dE"] for atoms in found], dE, rtol=1e-6)
        np.testing.assert_allclose([atoms.info["dF"] for atoms in found], dF, rtol=1e-6)
        report = results["report"]["ensemble"]
        assert report["thresholds"] == pytest.approx(members.thresholds)
        assert report["dF"]["max"] == pytest.approx(dF.max(), rel=1e-6)
        assert report["dF"]["n_above"] == int((dF > members.thresholds["forces"]).sum()) >= 2


def test_select_by_the_ensemble(run, members, cu_configurations):
    pool = cu_configurations(8, seed=4, rattle=0.2)
    dF = members.indicators(pool.to_atoms())[1]
    settings = {"strategy": "uncertainty", "count": 3}
    results, node = run("aceal.select", configurations=pool, settings=settings, seed=1)
    assert node.is_finished_ok, node.exit_message
    chosen = results["selected"]
    best = [pool.hashes[k] for k in np.argsort(-dF)[:3]]
    assert sorted(chosen.hashes) == sorted(best)
    np.testing.assert_allclose(sorted(atoms.info["score"] for atoms in chosen.to_atoms()), np.sort(dF)[-3:], rtol=1e-6)


def test_foreign_elements_are_refused(run, small_potential, cu_configurations):
    from aiida_aceal.fitting import Ensemble

    foreign = Ensemble(tuple(small_potential(elements=("Ni",), seed=k) for k in range(2)))
    with pytest.raises(ValueError, match="does not know Cu of the potential; it knows Ni"):
        run("aceal.evaluate", configurations=cu_configurations(1), ensemble=EnsembleData(ensemble=foreign))


def test_learning_curve_with_an_ensemble(cu_atoms, small_potential):
    from aiida_aceal.selection.compare import CurveSettings, learning_curve

    potential, pool, test = small_potential(scale=0.0), cu_atoms(14, seed=1, rattle=0.2), cu_atoms(3, seed=2)
    settings = {"strategy": "uncertainty", "sizes": [6, 9]}
    plain = learning_curve(potential, pool, test, CurveSettings.read(settings), 0)
    ours = learning_curve(potential, pool, test, CurveSettings.read({**settings, "ensemble": {"members": 3}}), 0)
    assert ours["points"][0]["chosen"] == plain["points"][0]["chosen"]
    start, seed = ours["points"][0]["chosen"], np.random.SeedSequence(0).spawn(2)[1]
    seed = int(np.random.default_rng(seed).integers(2**31))
    again = fit_ensemble(potential, [pool[k] for k in start], {"seed": seed}, {"members": 3})
    rest = [k for k in range(14) if k not in start]
    order = np.argsort(-again.indicator([pool[k] for k in rest]))[:3]
    assert sorted(ours["points"][1]["chosen"]) == sorted(rest[k] for k in order)


def test_learning_curve_refuses_a_method_that_does_not_go_with_the_fit():
    from aiida_aceal.ace import AceError
    from aiida_aceal.selection.compare import CurveSettings

    with pytest.raises(AceError, match="weak does not go with method: linear"):
        CurveSettings.read({"ensemble": {"method": "weak"}})
