"""``aceal.fit.pacemaker``: what it writes is checked by a strict stand-in, what comes back is parsed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_aceal.ace import AceError, AceModel
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.fitting import pacemaker
from aiida_aceal.worker.files import get_labels

pytest.importorskip("pandas", reason="the stand-in reads pacemaker's data frames: pip install '.[tests]'")


@pytest.fixture
def pacemaker_code(localhost, tmp_path):
    wrapper = tmp_path / "pacemaker"
    wrapper.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__).parent / 'fake_pacemaker.py'}' \"$@\"\n")
    wrapper.chmod(0o755)
    code = orm.InstalledCode(label="pacemaker", computer=localhost, filepath_executable=str(wrapper))
    code.with_mpi = False
    return code.store()


@pytest.fixture
def run_fit(pacemaker_code, cu_potential, cu_configurations, job_metadata):
    def run(fault="quick", settings=None, **inputs):
        settings = {"python": sys.executable, **(settings or {})}
        settings.setdefault("fit", {"maxiter": 30})
        base = {
            "code": pacemaker_code,
            "potential": cu_potential(scale=0.0),
            "dataset": {"generation_000": cu_configurations(8), "generation_001": cu_configurations(6, seed=1)},
            "settings": settings,
            "metadata": job_metadata(environment_variables={"FAKE_PACEMAKER": fault}),
        }
        return run_get_node(CalculationFactory("aceal.fit.pacemaker"), **{**base, **inputs})

    return run


def test_fit(run_fit, cu_configurations):
    results, node = run_fit(fault="", validation=cu_configurations(4, seed=2), seed=7)
    assert node.is_finished_ok, node.exit_message
    potential, report = results["potential"].get_potential(), results["report"].get_dict()
    assert potential.is_fitted
    assert potential.reference_energies == pytest.approx(report["reference_energies"])
    model = AceModel(potential, threads=1)
    errors, free = [], potential.reference_energies["Cu"]
    for atoms in cu_configurations(4, seed=2).to_atoms():
        energy, forces, _ = get_labels(atoms)
        result = model.evaluate(atoms)
        assert result.energy + len(atoms) * free == pytest.approx(energy, abs=0.3)
        errors.append(result.forces - forces)
    assert report["validation"]["forces_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)
    assert report["train"]["n_iterations"] == 30
    assert report["train"]["loss_history"][0] == [0, 1.0]
    assert (report["version"], report["n_train"], report["early_stop"]) == ("0.3.1+stand-in", 14, None)
    assert report["warnings"] == ["Number of parameters unusual"]
    written = node.base.repository.get_object_content("input.yaml")
    assert "seed: 7" in written
    assert "test_filename" in written
    # no pickle and no bulk is stored
    names = [*node.base.repository.list_object_names(), *results["retrieved"].base.repository.list_object_names()]
    assert not any(name.endswith((".gzip", ".extxyz")) for name in names)


@pytest.mark.parametrize(
    ("fault", "status", "message", "kept"),
    [
        ("early_stop", 321, "Too small or even positive TRAIN loss change", True),
        ("diverge", 320, "loss nan at iteration 30", True),
        ("cut", 303, "output_potential.yaml", True),
        ("crash", 302, "ZeroDivisionError: in the optimizer", False),
        ("memory", 307, "lower `backend.batch_size`", False),
        ("nan", 305, "output_potential.yaml", False),
    ],
)
def test_failures(run_fit, fault, status, message, kept):
    """What was fitted before the end is kept."""
    results, node = run_fit(fault)
    assert node.exit_status == status, node.exit_message
    assert message in node.exit_message
    assert ("potential" in results) is kept
    assert "report" in results


def test_early_stop_can_be_accepted(run_fit):
    results, node = run_fit("early_stop", {"accept_early_stop": True})
    assert node.is_finished_ok, node.exit_message
    assert results["report"]["early_stop"].startswith("EARLY STOPPING")


def test_cut_table_is_no_failure(run_fit):
    results, node = run_fit("cut_table")
    assert node.is_finished_ok, node.exit_message
    assert results["report"]["train"]["n_iterations"] == 29


def test_no_pandas_there(run_fit):
    _, node = run_fit(settings={"python": "/nowhere/python"})
    assert node.exit_status == 308
    assert "/nowhere/python" in node.exit_message


def test_upfit_and_options(run_fit, cu_potential):
    """All sections of the input, a fitted start potential that is reset."""
    fit = {
        "loss": {"kappa": 0.3, "L1_coeffs": "1e-8"},
        "weighting": {"DElow": 0.5, "energy": "cohesive"},
        "optimizer": "L-BFGS-B",
        "options": {"maxcor": 100},
        "maxiter": 5,
        "ladder_step": [10, 0.1],
        "ladder_type": "power_order",
        "min_relative_train_loss_per_iter": 5e-5,
        "early_stopping_patience": 20,
    }
    settings = {"fit": fit, "backend": {"batch_size": 10}, "reset": True, "reference_energies": {"Cu": 0.1}}
    results, node = run_fit(settings=settings, potential=cu_potential(scale=0.1))
    assert node.is_finished_ok, node.exit_message
    assert results["report"]["reference_energies"] == {"Cu": 0.1}
    written = node.base.repository.get_object_content("input.yaml")
    assert "reset: true" in written
    assert "type: EnergyBasedWeightingPolicy" in written


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": {"maxitr": 3}}, "settings.fit: unknown key 'maxitr'; did you mean 'maxiter'"),
        ({"fit": {"maxiter": 0}}, "settings.fit.maxiter must be positive"),
        ({"fit": {"loss": {"kappa": 1.5}}}, "kappa must lie between 0 and 1"),
        ({"fit": {"callbacks": ["os.system"]}}, "unknown key 'callbacks'"),
        ({"fit": {"weighting": {"type": "ExternalWeightingPolicy"}}}, "settings.fit.weighting.type: expected"),
        ({"backend": {"evaluator": "tensorflow"}}, "settings.backend.evaluator: expected"),
        ({"backend": {"batch_size": 0}}, "batch_size must be positive"),
        ({"reference_energies": {"Ni": 1.0}}, "reference_energies: no value for Cu"),
        ({"reference_energies": {"Cu": 300.0}}, "outside of"),
        ({"python": "python; rm -rf"}, "name or path of an interpreter"),
        ({"fit": {"min_relative_test_loss_per_iter": 1e-5}}, "needs the input `validation`"),
    ],
)
def test_refused_at_submission(run_fit, settings, message):
    with pytest.raises(ValueError, match=message):
        run_fit(settings=settings)


def test_refused_data(run_fit, cu_configurations, cu_potential):
    with pytest.raises(ValueError, match="have no energy; label them first"):
        run_fit(dataset={"new": cu_configurations(2, labelled=False)})
    with pytest.raises(ValueError, match="give at least one set"):
        run_fit(dataset={})
    with pytest.raises(ValueError, match="the potential knows only Ni"):
        run_fit(potential=cu_potential(elements=("Ni",)))


def test_equal_structures_count_once(run_fit, cu_configurations):
    frames = cu_configurations(5).to_atoms()
    both = {"a": ConfigurationsData.from_atoms(frames), "b": ConfigurationsData.from_atoms(frames[:2])}
    results, node = run_fit(dataset=both)
    assert node.is_finished_ok, node.exit_message
    assert results["report"]["n_train"] == 5


def test_tables():
    assert pacemaker.read_metrics("") == []
    assert pacemaker.read_metrics("iter_num loss\n0 1.0\n1 0.5\n")[1] == {"iter_num": 1.0, "loss": 0.5}
    with pytest.raises(AceError, match="line 2: 1 values for 2 columns"):
        pacemaker.read_metrics("iter_num loss\n0\n1 0.5\n")
    rows = [{"iter_num": float(k), "loss": 1.0 / (1 + k)} for k in range(1000)]
    history = pacemaker.summary(rows)["loss_history"]
    assert len(history) <= 201
    assert history[-1] == [999, 1e-3]
    assert pacemaker.divergence(rows) is None
    assert pacemaker.divergence([{"loss": 1.0}, {"loss": 2.0}]) == "loss rose from 1 to 2"
