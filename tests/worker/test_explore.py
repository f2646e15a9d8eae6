"""``aceal-worker explore`` and ``extract`` on files, as a CalcJob calls them."""

import json
import pickle

import numpy as np
import pytest
import yaml
from ase.io import read
from click.testing import CliRunner

from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.exploration.initial import generate
from aiida_aceal.exploration.objective import StructureGrader
from aiida_aceal.uncertainty import ActiveSet
from aiida_aceal.worker.main import main

CU = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}


@pytest.fixture
def room(lithium, tmp_path, monkeypatch):
    """A working directory with potential, active set and structures of lithium."""
    monkeypatch.chdir(tmp_path)
    potential, _, aset, train = lithium
    potential.write("potential.yaml")
    aset.save("active_set.asi")
    starts = generate([{"kind": "clusters", "composition": {"Li": 4}, "count": 20, "minimum_distance": 2.3}], seed=1)
    write_configurations("starts.extxyz", starts)
    write_configurations("train.extxyz", train)
    return tmp_path


def _explore(*arguments, **settings):
    plan = {
        "potential": "potential.yaml",
        "active_set": "active_set.asi",
        "structures": ["starts.extxyz"],
        "output": "candidates.extxyz",
        "report": "report.json",
        **settings,
    }
    with open("settings.yaml", "w") as stream:
        yaml.safe_dump({k: v for k, v in plan.items() if v is not None}, stream)
    return CliRunner().invoke(main, ["explore", "settings.yaml", *arguments])


def test_active(room):
    run = _explore(
        mode="active", seed=2, count=2, attempts=4, starts=2, minimum_distance={"Li-Li": 2.2}, connected=4.0,
        active_set_output="new.asi", method="gradient",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    report = json.loads((room / "report.json").read_text())
    found = read("candidates.extxyz", ":")
    assert report["status"] == "completed"
    assert report["n_candidates"] == len(found) == 2
    assert found[0].info["kind"] == "active"
    assert found[0].info["source"].startswith("initial/") or "starts.extxyz" in found[0].info["source"]
    assert found[0].arrays["gamma"].max() == pytest.approx(found[0].info["gamma_max"])
    new = ActiveSet.load("new.asi")
    from aiida_aceal.ace import AceModel, AcePotential

    model = AceModel(AcePotential.read("potential.yaml"), threads=1)
    assert all(StructureGrader(model, new).maximum(atoms) <= 1.0011 for atoms in found)


def test_campaign_window_without_target(room):
    """A campaign hands over its window only: the finds must lie inside it."""
    run = _explore(mode="active", count=2, attempts=3, starts=2, connected=4.0, gamma_lo=2.0, gamma_hi=8.0, seed=1)
    assert run.exit_code == 0, run.output
    found = read("candidates.extxyz", ":")
    assert found
    assert all(2.0 < atoms.info["gamma_max"] < 8.0 for atoms in found)


def test_pool_from_several_files(room):
    run = _explore("--report", "other.json", mode="pool", structures=["starts.extxyz", "train.extxyz"], gamma_lo=1.5,
                   known="train.extxyz", atoms=[3, 10])  # fmt: skip
    assert run.exit_code == 0, run.output
    report = json.loads((room / "other.json").read_text())
    assert report["steps_reached"] == 20 + 90
    assert report["dropped"]["size"] == 30
    found = read("candidates.extxyz", ":")
    assert report["n_candidates"] == len(found)
    assert {len(atoms) for atoms in found} == {4}


def test_pool_from_an_ase_data_base(room):
    from ase.db import connect

    with connect("pool.db") as base:
        for atoms in read("starts.extxyz", ":"):
            base.write(atoms)
    assert _explore(mode="pool", structures="pool.db", gamma_lo=1.5).exit_code == 0
    first = read("candidates.extxyz", ":")
    assert _explore(mode="pool", gamma_lo=1.5).exit_code == 0
    second = read("candidates.extxyz", ":")
    np.testing.assert_allclose([a.info["gamma_max"] for a in first], [a.info["gamma_max"] for a in second])
    assert first


def test_no_candidates_is_no_failure(room):
    run = _explore(mode="pool", gamma_lo=1e9)
    assert run.exit_code == 0
    assert (room / "candidates.extxyz").read_text() == ""
    assert json.loads((room / "report.json").read_text())["n_candidates"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "pol"}, "must be 'active' or 'pool' or 'properties', found 'pol'"),
        ({"mode": "pool", "gama_lo": 2}, "did you mean 'gamma_lo'"),
        ({"mode": "pool", "attempts": 2}, "unknown key 'attempts'"),
        ({"mode": "active", "count": "many"}, "count: must be a positive integer, found 'many'"),
        ({"mode": "active", "structures": None}, "'structures' is missing; it must be text or a non-empty list"),
        ({"mode": "active", "structures": ["absent.xyz"]}, "absent.xyz: no such file"),
        ({"mode": "active", "potential": "absent.yaml"}, "absent.yaml"),
        ({"mode": "active", "target_gamma": "high"}, "target_gamma: must be a number above 1, found 'high'"),
    ],
)
def test_bad_settings_end_with_one_line_and_code_2(room, changes, message):
    run = _explore(**changes)
    assert run.exit_code == 2
    assert run.output.startswith("Error: ")
    assert message in run.output


def test_pool_that_would_run_code_is_refused(room):
    (room / "frames.pckl.gzip").write_bytes(pickle.dumps([eval]))
    run = _explore(mode="pool", structures=["frames.pckl.gzip"])
    assert run.exit_code == 2
    assert "it wants builtins.eval" in run.output


def test_keys_are_listed():
    run = CliRunner().invoke(main, ["explore", "--keys"])
    assert run.exit_code == 0
    assert "target_gamma: 15.0" in run.output
    assert "max_candidates: null" in run.output


def test_extract(warm_copper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    potential, model, aset, _ = warm_copper
    potential.write("pot.yaml")
    aset.save("set.asi")
    big = generate([{"kind": "rattled", "structure": CU, "supercell": 6, "count": 1, "amplitude": 0.13}], 5)[0]
    big.positions[400] += [0.6, 0.3, 0.0]
    small = big[:1].repeat(1)
    small.set_cell([2.2] * 3)
    write_configurations("big.extxyz", [big, small])
    (tmp_path / "more.yaml").write_text("sizes: 8\ntries: 1\n")
    run = CliRunner().invoke(
        main,
        ["extract", "pot.yaml", "set.asi", "big.extxyz", "-o", "cells.extxyz", "--gamma-lo", "2.5", "--max-atoms",
         "110", "--max-cuts", "1", "--settings", "more.yaml", "--report", "report.json"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    report = json.loads((tmp_path / "report.json").read_text())
    cells = read("cells.extxyz", ":")
    assert report["n_candidates"] == len(cells) == 2
    assert report["n_small"] == 1
    assert report["cuts"][0]["projection_distance"] < 1e-10
    assert report["cuts"][0]["gamma_others_after"] < 2.5
    assert StructureGrader(model, aset).maximum(cells[0]) == pytest.approx(report["cuts"][0]["gamma_centre"], rel=1e-6)
    wrong = CliRunner().invoke(main, ["extract", "pot.yaml", "set.asi", "big.extxyz", "-o", "x", "--max-atoms", "0"])
    assert wrong.exit_code == 2
    assert "max_atoms" in wrong.output
