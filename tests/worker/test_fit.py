"""``aceal-worker fit``: files in, files out, and messages for bad settings."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from aiida_aceal.ace import AceModel, AcePotential
from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.fitting import Ensemble
from aiida_aceal.fitting.optimize import Trace, evaluations_until
from aiida_aceal.worker.main import main


@pytest.fixture
def workplace(tmp_path, monkeypatch, small_potential, random_structures, label):
    """Working directory with a basis, training and validation data; factory that runs ``fit`` with settings."""
    monkeypatch.chdir(tmp_path)
    true = small_potential(scale=0.05)
    free = {"Cu": -1.0}
    write_configurations("train.extxyz", label(random_structures(20), true, free))
    write_configurations("held.extxyz", label(random_structures(4, seed=3), true, free))
    small_potential(scale=0.0).write("basis.yaml")

    def run(*words, **settings):
        settings = {"potential": "basis.yaml", "data": "train.extxyz", "output": "fitted.yaml", **settings}
        settings = {k: v for k, v in settings.items() if v is not None}
        (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
        return CliRunner().invoke(main, ["fit", "settings.yaml", *words], catch_exceptions=False)

    return run


def test_everything_is_written(workplace, tmp_path):
    result = workplace(
        validation=["held.extxyz"], report="r.json", text_report="r.txt", parity_plot="p.png", parity_data="p.npz",
        ensemble={"members": 3, "method": "subsample"}, ensemble_output="e.zip",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    fitted = AcePotential.read("fitted.yaml")
    assert fitted.is_fitted
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["validation"]["forces"]["rmse"] < 1e-3
    assert report["ensemble"]["members"] == 3
    text = (tmp_path / "r.txt").read_text()
    assert "validation" in text
    assert "ensemble: 3 members (subsample)" in text
    assert (tmp_path / "p.png").stat().st_size > 1000
    parity = np.load("p.npz", allow_pickle=False)
    assert parity["train_energy"].shape == (20, 2)
    assert parity["validation_forces"].shape == (48, 2)
    ensemble = Ensemble.load("e.zip")
    from ase.io import read

    held = read("held.extxyz", ":")
    e = AceModel(fitted).evaluate(held[0]).energy + 4 * fitted.reference_energies["Cu"]
    assert ensemble.predict(held[:1]).energies.mean() == pytest.approx(e, abs=0.05)


def test_basis_from_a_description_and_validation_split(workplace, tmp_path):
    basis = {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 2]}
    result = workplace(potential=basis, validation_fraction=0.25, report="r.json", seed=3)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["train"]["n_structures"] == 15
    assert report["validation"]["n_structures"] == 5
    first = (tmp_path / "fitted.yaml").read_text()
    workplace(potential=basis, validation_fraction=0.25, report="r.json", seed=3)
    assert (tmp_path / "fitted.yaml").read_text() == first


def test_nonlinear(workplace, tmp_path):
    result = workplace(method="nonlinear", report="r.json", nonlinear={"evaluations": 20})
    assert result.exit_code == 0, result.output
    assert "ended by" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["rounds"]


def test_nonlinear_members_keep_the_fitted_radial_functions(workplace, tmp_path):
    workplace(
        method="nonlinear", nonlinear={"evaluations": 20}, text_report="r.txt", report="r.json",
        ensemble={"members": 2, "effort": 1}, ensemble_output="e.zip",
    )  # fmt: skip
    fitted = AcePotential.read("fitted.yaml").bonds["Cu", "Cu"].radcoefficients
    assert np.abs(fitted - AcePotential.read("basis.yaml").bonds["Cu", "Cu"].radcoefficients).max() > 1e-6
    for member in Ensemble.load("e.zip").potentials:
        np.testing.assert_allclose(member.bonds["Cu", "Cu"].radcoefficients, fitted, rtol=1e-10)
    found = json.loads((tmp_path / "r.json").read_text())["ensemble"]
    assert found["radial_functions"] == "given"
    assert all(f"warning: {line}" in (tmp_path / "r.txt").read_text() for line in found["warnings"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outptu": "x"}, "unknown key 'outptu'; did you mean 'output'"),
        ({"data": None}, "'data' is missing"),
        ({"data": "none.extxyz"}, "none.extxyz: no such file"),
        ({"potential": "none.yaml"}, "none.yaml: cannot be read"),
        ({"weights": {"kapa": 1}}, "settings.yaml: unknown key 'weights.kapa'; did you mean 'kappa'"),
        ({"validation_fraction": 3}, "validation_fraction: must be a number above 0 and below 1 or null, found 3"),
        ({"validation": "held.extxyz", "validation_fraction": 0.5}, "not both"),
        ({"ensemble": {"members": 3}}, "no ensemble_output"),
        (
            {"ensemble": {"number": 3}, "ensemble_output": "e.zip"},
            "unknown key 'ensemble.number'; did you mean",
        ),
        ({"energy_key": "E"}, "train.extxyz, structure 0: no energy under the key 'E'"),
        ({"parity_plot": "p.nope"}, "there is no image format 'nope'"),
    ],
)
def test_bad_settings(workplace, settings, message):
    result = workplace(**settings)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_usual_names_of_labels_need_no_keys(workplace):
    frames = read_configurations("train.extxyz")
    for atoms in frames:
        atoms.info["dft_energy"], atoms.arrays["dft_forces"] = (
            atoms.calc.results["energy"],
            atoms.calc.results["forces"],
        )
        atoms.calc = None
    write_configurations("foreign.extxyz", frames)
    result = workplace(data="foreign.extxyz", report="r.json")
    assert result.exit_code == 0, result.output
    assert "foreign.extxyz: energy from dft_energy, forces from dft_forces" in result.output
    assert json.loads(Path("r.json").read_text())["train"]["forces"]["rmse"] < 1e-3


def test_bad_files(tmp_path):
    run = CliRunner()
    result = run.invoke(main, ["fit", str(tmp_path / "none.yaml")])
    assert (result.exit_code, "cannot be read" in result.output) == (2, True)
    (tmp_path / "s.yaml").write_text("a: [")
    assert "is not valid YAML" in run.invoke(main, ["fit", str(tmp_path / "s.yaml")]).output
    (tmp_path / "s.yaml").write_text("- 1")
    assert "a mapping (key: value) is expected" in run.invoke(main, ["fit", str(tmp_path / "s.yaml")]).output


def test_bad_labels_name_file_and_structure(workplace, tmp_path):
    lines = (tmp_path / "train.extxyz").read_text()
    (tmp_path / "bad.extxyz").write_text(lines + lines.replace("Cu ", "Ag "))
    result = workplace(data=["train.extxyz", "bad.extxyz"])
    assert result.exit_code == 2
    assert "bad.extxyz, structure 20: element Ag is unknown to the potential (it knows Cu)" in result.output


def test_report_option_and_keys(workplace, tmp_path):
    assert workplace("--report", "other.json", report="r.json").exit_code == 0
    assert json.loads((tmp_path / "other.json").read_text())["train"]["n_structures"] == 20
    assert not (tmp_path / "r.json").exists()
    keys = CliRunner().invoke(main, ["fit", "--keys"])
    assert keys.exit_code == 0
    assert "validation_fraction: null" in keys.output


SLOW = {"evaluations": 100_000, "tolerance": 0, "early_stopping": False, "refresh": 5}


def fit_within(seconds, **settings):
    """The job with a time limit that nobody enforces; report and exit code."""
    from aiida_aceal.jobs import find_job
    from aiida_aceal.worker.command import plan_of_file, run_job

    given = {"potential": "basis.yaml", "data": "train.extxyz", "output": "fitted.yaml", "method": "nonlinear"}
    Path("settings.yaml").write_text(yaml.safe_dump({**given, **settings}))
    plan = plan_of_file(find_job("fit"), Path("settings.yaml"))
    status = 0
    try:
        run_job(*plan, Path("r.json"), time_limit=seconds)
    except SystemExit as end:
        status = end.code
    return json.loads(Path("r.json").read_text()), status


def test_a_nonlinear_fit_ends_before_its_time_limit(workplace, monkeypatch):
    """It writes what it has, and the next one goes on from there."""
    assert workplace("--report", "r.json").exit_code == 0
    linear = json.loads(Path("r.json").read_text())
    # on any machine the time is over after 40 evaluations
    with monkeypatch.context() as patch:
        patch.setattr("aiida_aceal.fitting.optimize.evaluations_until", lambda deadline, trace, done: 40 - done)
        first, status = fit_within(1000.0, nonlinear=SLOW)
    assert status == 5
    assert first["unfinished"]
    assert first["stopped"] == "deadline"
    assert 40 <= first["rounds"][-1]["evaluations"] < 60
    assert AcePotential.read("fitted.yaml").is_fitted
    assert first["train"]["forces"]["rmse"] <= 1.001 * linear["train"]["forces"]["rmse"]
    second, status = fit_within(None, potential="fitted.yaml", nonlinear={**SLOW, "evaluations": 20})
    assert status == 0
    assert "unfinished" not in second
    assert second["start"] == "potential"
    # begins where the first ended, and ends no worse
    assert second["rounds"][0]["force_rmse"] == pytest.approx(first["train"]["forces"]["rmse"], rel=0.02)
    assert second["train"]["forces"]["rmse"] <= 1.01 * first["train"]["forces"]["rmse"]


def test_how_many_evaluations_are_left(monkeypatch):
    trace = Trace(started=100.0)
    monkeypatch.setattr("aiida_aceal.fitting.optimize.time.perf_counter", lambda: 110.0)
    assert evaluations_until(130.5, trace, 20) == 41  # half a second each
    assert evaluations_until(110.4, trace, 20) == 0
    assert evaluations_until(90.0, trace, 20) < 0
    assert evaluations_until(None, trace, 20) > 10**9
    assert evaluations_until(130.0, trace, 0) == 2


def test_no_time_at_all_gives_the_start(workplace):
    """The linear fit with which a nonlinear one begins is a result too."""
    workplace()
    report, status = fit_within(1e-6, nonlinear=SLOW, ensemble={"members": 3}, ensemble_output="e.zip")
    assert status == 5
    assert report["rounds"][-1]["evaluations"] == 1
    assert not Path("e.zip").exists()
    assert AcePotential.read("fitted.yaml").is_fitted


def test_a_linear_fit_heeds_no_deadline(workplace):
    report, status = fit_within(1e-6, method="linear")
    assert status == 0
    assert "unfinished" not in report
