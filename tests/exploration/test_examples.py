"""Small runs of the studies under examples/: they must stay runnable and keep their meaning."""

import importlib.util
import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _load(name: str):
    path = EXAMPLES / f"{name}.py"
    if not path.is_file():
        pytest.skip("the examples are not part of an installed package")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_local_environment_of_copper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = _load("cu_local_environment").main(
        ["--repeat", "5", "--steps", "100", "--gamma-lo", "2.0", "--seed", "1", "--output", "small"]
    )
    assert report["status"] == "ok"
    assert report["n_big"] == 500
    assert report["n_atoms"] <= 120
    assert report["gamma_centre"] == pytest.approx(report["gamma_centre_original"], rel=1e-8)
    assert report["gamma_others_after"] < 2.0 < report["gamma_free_surface"]
    assert report["projection_distance"] < 1e-10
    assert json.loads((tmp_path / "small.json").read_text())["n_atoms"] == report["n_atoms"]
    assert (tmp_path / "small.png").stat().st_size > 10_000


def test_pool_of_the_size_that_the_li4_study_asks_for():
    pool = _load("li4_active_exploration").clusters(4, 3000, seed=2000)
    assert len(pool) == 3000
    assert {len(atoms) for atoms in pool} == {4}
    assert len({atoms.positions.tobytes() for atoms in pool}) == 3000


def test_active_exploration_of_li4(tmp_path, monkeypatch):
    pytest.importorskip("tblite")
    monkeypatch.chdir(tmp_path)
    report = _load("li4_active_exploration").main(
        ["--seeds", "1", "--sizes", "10", "40", "--pool", "200", "--test", "80", "--initial", "80", "--method",
         "gradient", "--surplus", "10", "--output", "small"]
    )  # fmt: skip
    assert (tmp_path / "small.png").stat().st_size > 10_000
    summary = report["summary"]
    # without Li4 the potential is useless for it; what is explored teaches it
    assert summary["active"]["40"]["energy"] < 0.3 * report["start"][0]["energy"]
    assert summary["active"]["40"]["energy"] < summary["active"]["10"]["energy"]
    grades = report["grades"][0]
    assert len(grades) == 50
    assert {row["labelled"] for row in report["curves"]["active"]} == {10, 40}
    assert max(grades) > 15
