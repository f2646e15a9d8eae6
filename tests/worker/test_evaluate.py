"""``aceal-worker evaluate``, the real console script on real files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aiida_aceal.ace import AceModel
from aiida_aceal.common.configurations import get_labels, read_configurations, write_configurations
from aiida_aceal.jobs.evaluate import ErrorSums
from aiida_aceal.jobs.task import chunks


def worker(*words, cwd) -> subprocess.CompletedProcess:
    script = Path(sys.executable).parent / "aceal-worker"
    return subprocess.run([str(script), *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_sums():
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=n) for n in (3, 0, 7)]
    sums = ErrorSums()
    for part in parts:
        sums.add(part)
    every = np.concatenate(parts)
    expected = {"rmse": np.sqrt(np.mean(every**2)), "mae": np.mean(abs(every)), "max": abs(every).max(), "n": 10}
    assert sums.summary() == pytest.approx(expected)
    assert ErrorSums().summary() == {}


def test_chunks():
    frames = ["a" * n for n in (3, 3, 9, 1, 1)]
    assert [len(c) for c in chunks(frames, 6)] == [2, 1, 2]


def test_evaluate(tmp_path, cu_atoms, small_potential):
    potential = small_potential().with_reference_energies({"Cu": -2.5})
    potential.write(tmp_path / "pot.yaml")
    frames = cu_atoms(5)
    write_configurations(tmp_path / "a.extxyz", frames[:3])
    write_configurations(tmp_path / "b.extxyz", frames[3:])
    done = worker(
        "evaluate", "pot.yaml", "a.extxyz", "b.extxyz", "-o", "out.extxyz", "--report", "r.json", "--worst", 2,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = read_configurations(tmp_path / "out.extxyz")
    model = AceModel(potential, threads=1)
    energies, forces = [], []
    for before, after in zip(frames, out, strict=True):
        result = model.evaluate(before)
        energy, force, stress = get_labels(after)
        assert energy == pytest.approx(result.energy - 2.5 * len(before), rel=1e-12)
        assert force == pytest.approx(result.forces, abs=1e-12)
        assert stress == pytest.approx(result.stress, abs=1e-12)
        assert after.info["reference_energy"] == get_labels(before)[0]
        assert np.array_equal(after.arrays["reference_forces"], get_labels(before)[1])
        energies.append((energy - get_labels(before)[0]) / len(before))
        forces.append(force - get_labels(before)[1])
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["n_structures"], report["n_atoms"]) == (5, 20)
    assert report["energy"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(energies))))
    assert report["energy"]["max"] == pytest.approx(np.max(np.abs(energies)))
    assert report["forces"]["mae"] == pytest.approx(np.mean(np.abs(forces)))
    assert report["forces"]["n"] == 60
    worst = np.argsort([-np.max(np.abs(f)) for f in forces])[:2]
    assert [entry["index"] for entry in report["worst"]] == worst.tolist()


def test_unlabelled(tmp_path, cu_atoms, small_potential):
    small_potential().write(tmp_path / "pot.yaml")
    write_configurations(tmp_path / "a.extxyz", cu_atoms(2, labelled=False))
    done = worker("evaluate", "pot.yaml", "a.extxyz", "--report", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r.json").read_text())["energy"] == {}


@pytest.mark.parametrize(
    ("potential", "data", "message"),
    [
        ("none.yaml", "a.extxyz", "none.yaml: cannot be read"),
        ("pot.yaml", "none.extxyz", "none.extxyz: no such file"),
        ("pot.yaml", "ni.extxyz", "ni.extxyz, structure 0: element Ni is unknown to the potential (it knows Cu)"),
        ("pot.yaml", "nan.extxyz", "nan.extxyz, structure 1: the force of atom 2 is not finite"),
    ],
)
def test_bad_input_is_one_line(tmp_path, cu_atoms, small_potential, potential, data, message):
    small_potential().write(tmp_path / "pot.yaml")
    frames = cu_atoms(2)
    write_configurations(tmp_path / "a.extxyz", frames)
    frames[0].symbols[:] = "Ni"
    write_configurations(tmp_path / "ni.extxyz", frames[:1])
    frames = cu_atoms(2)
    frames[1].calc.results["forces"][2] = np.nan
    write_configurations(tmp_path / "nan.extxyz", frames)
    done = worker("evaluate", potential, data, "-o", "out.extxyz", cwd=tmp_path)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.extxyz").exists(), "no output under its final name after a failure"


def test_time_limit(tmp_path, cu_atoms, small_potential):
    small_potential().write(tmp_path / "pot.yaml")
    write_configurations(tmp_path / "a.extxyz", cu_atoms(200))
    done = worker("--time-limit", 0.01, "evaluate", "pot.yaml", "a.extxyz", "-o", "out.extxyz", cwd=tmp_path)
    assert done.returncode == 3
    assert "Error: the time limit of 0.01 s is reached" in done.stderr
    assert not (tmp_path / "out.extxyz").exists()
