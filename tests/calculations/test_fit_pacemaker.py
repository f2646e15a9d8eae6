"""``aceal.fit.pacemaker``: what it writes is checked by a strict stand-in, what comes back is parsed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_aceal.ace import AceError, AceModel, AcePotential
from aiida_aceal.common.configurations import get_labels
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.fitting import pacemaker

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


def test_upfit_and_options(run_fit, cu_potential, tmp_path):
    """All sections of the input, a fitted start potential that is reset."""
    fit = {
        "loss": {"kappa": 0.3, "L1_coeffs": "1e-8"},
        "weighting": {"DElow": 0.5, "energy": "cohesive"},
        "optimizer": "L-BFGS-B",
        "options": {"maxcor": 100, "gtol": 1e-8},
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
    written = yaml.safe_load(node.base.repository.get_object_content("input.yaml"))
    assert written["fit"]["weighting"]["type"] == "EnergyBasedWeightingPolicy"
    assert written["potential"] == "potential.yaml"
    with results["remote_folder"].computer.get_transport() as transport:
        folder = results["remote_folder"].get_remote_path()
        transport.getfile(f"{folder}/potential.yaml", str(tmp_path / "start.yaml"))
    start = AcePotential.read(tmp_path / "start.yaml")
    assert not start.is_fitted
    assert start.n_functions == cu_potential().get_potential().n_functions


def test_reset_keeps_nothing_but_the_basis(cu_potential):
    potential = cu_potential(scale=0.1).get_potential()
    shape = potential.bonds["Cu", "Cu"].radcoefficients.shape
    potential = potential.with_radial_coefficients({("Cu", "Cu"): np.random.default_rng(1).normal(size=shape)})
    reset = pacemaker.reset_potential(potential)
    assert not reset.is_fitted
    delta = np.broadcast_to(np.eye(shape[0], shape[2])[:, None, :], shape)
    np.testing.assert_array_equal(reset.bonds["Cu", "Cu"].radcoefficients, delta)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"ladder_step": 2}, {"ladder_step": 2}),
        ({"ladder_step": 2.0}, {"ladder_step": 2}),  # through JSON
        ({"ladder_step": 0.1}, {"ladder_step": 0.1}),
        ({"ladder_step": [10, 0.02], "ladder_type": "body_order"}, {"ladder_step": [10, 0.02]}),
        (
            {"options": {"maxcor": 20, "gtol": "1e-8", "disp": True}},
            {"options": {"maxcor": 20, "gtol": 1e-8, "disp": True}},
        ),
        ({"options": {"maxcor": 20.0}}, {"options": {"maxcor": 20}}),
        ({"maxiter": 7, "fit_cycles": 2}, {"maxiter": 7, "fit_cycles": 2}),
        ({"loss": {"kappa": 1, "L1_coeffs": "1e-8"}}, {"loss.kappa": 1.0, "loss.L1_coeffs": 1e-8}),
        ({"weighting": {"wlow": None, "nfit": 5}}, {"weighting.wlow": None, "weighting.nfit": 5}),
        ({"trainable_parameters": {"Cu": "func"}}, {"trainable_parameters": {"Cu": "func"}}),
    ],
)
def test_values_keep_their_type(given, written):
    """What pacemaker reads back from input.yaml, key by key."""
    settings = pacemaker.PacemakerSettings.read({"fit": given})
    text = yaml.safe_dump(pacemaker.write_input(settings, "potential.yaml", 6.0, {"Cu": 0.0}, ["Cu"]))
    fit = yaml.safe_load(text)["fit"]
    for key, value in written.items():
        section, _, name = key.rpartition(".")
        found = (fit[section] if section else fit)[name]
        assert found == value
        assert type(found) is type(value)
        if isinstance(value, dict):
            assert {k: type(x) for k, x in found.items()} == {k: type(x) for k, x in value.items()}
        elif isinstance(value, list):
            assert [type(x) for x in found] == [type(x) for x in value]


@pytest.mark.long
def test_test_set_with_pyace(run_fit, cu_configurations):
    """The evaluator pyace writes no table of the test set: the errors come from its predictions."""
    held, pyace = cu_configurations(4, seed=2), {"backend": {"evaluator": "pyace"}}
    expected = run_fit("", validation=held)[0]["report"]["validation"]
    results, node = run_fit("", pyace, validation=held)
    assert node.is_finished_ok, node.exit_message
    found = results["report"]["validation"]
    assert found["forces_rmse"] == pytest.approx(expected["forces_rmse"], rel=1e-6)
    assert found["energy_rmse"] == pytest.approx(expected["energy_rmse"], rel=1e-6)
    assert found["n_structures"] == 4
    results, node = run_fit("no_predictions", pyace, validation=held)
    assert node.is_finished_ok, node.exit_message
    assert results["report"]["validation"] == {}
    assert any("no errors of the test set" in warning for warning in results["report"]["warnings"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": {"maxitr": 3}}, "settings: unknown key 'fit.maxitr'; did you mean 'maxiter'"),
        ({"fit": {"maxiter": 0}}, "settings.fit.maxiter: must be a positive integer"),
        ({"fit": {"loss": {"kappa": 1.5}}}, "kappa: must be a number from 0 to 1"),
        ({"fit": {"callbacks": ["os.system"]}}, "unknown key 'fit.callbacks'"),
        ({"fit": {"weighting": {"type": "ExternalWeightingPolicy"}}}, "settings.fit.weighting.type: must be"),
        ({"fit": {"ladder_step": 2.5}}, "ladder_step: .* must be an integer of at least 1, found 2.5"),
        ({"fit": {"ladder_step": [10, 20]}}, "one integer and one fraction"),
        ({"fit": {"ladder_type": "body_order"}}, "no effect without ladder_step"),
        ({"fit": {"options": {"maxcor": 2.5}}}, "options.maxcor: must be an integer"),
        ({"fit": {"options": {"maxiter": 5}}}, "maxiter is a key of fit itself"),
        ({"fit": {"optimizer": "Adam"}}, "unknown method 'Adam'"),
        ({"fit": {"noise_relative_sigma": -1.0}}, "noise_relative_sigma: must be a non-negative number"),
        ({"fit": {"weighting": {"wlow": 1.5}}}, "wlow: must be a number above 0 and below 1"),
        ({"fit": {"weighting": {"DEup": 0}}}, "DEup: must be a positive number"),
        (
            {"fit": {"min_relative_test_loss_per_iter": 1e-5}, "backend": {"evaluator": "pyace"}},
            "pyace computes no loss of the test set",
        ),
        ({"backend": {"evaluator": "tensorflow"}}, "settings.backend.evaluator: must be"),
        ({"backend": {"batch_size": 0}}, "batch_size: must be a positive integer"),
        ({"reference_energies": {"Ni": 1.0}}, "reference_energies: no value for Cu"),
        ({"reference_energies": {"Cu": 300.0}}, "is outside"),
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
    with pytest.raises(ValueError, match=r"\(it knows Ni\)"):
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
