"""aceal-worker active-set and grade as programs: files, options, memory, messages."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner

from aiida_aceal.ace import build_potential
from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.uncertainty import ActiveSet
from aiida_aceal.worker.main import main


def shaken(count, amplitude=0.1, seed=0, size=2):
    rng = np.random.default_rng(seed)
    structures = []
    for i in range(count):
        atoms = bulk("Cu", "fcc", 3.61, cubic=True).repeat(size)
        atoms.positions += rng.normal(0, amplitude, atoms.positions.shape)
        atoms.info["group"] = "warm" if i % 2 else "cold"
        structures.append(atoms)
    return structures


@pytest.fixture
def folder(tmp_path):
    shape = {"cutoff": 4.5, "nradmax_by_orders": [8, 3, 2], "lmax_by_orders": [0, 3, 1]}
    build_potential({"elements": ["Cu"], **shape}).write(tmp_path / "pot.yaml")
    write_configurations(tmp_path / "a.extxyz", shaken(20))
    write_configurations(tmp_path / "b.extxyz", shaken(3, 0.3, seed=1))
    return tmp_path


def run(*words, code=0):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_build_update_and_grade(folder):
    run("active-set", folder / "pot.yaml", folder / "a.extxyz", "-o", folder / "a.asi", "--report", folder / "a.json")
    facts = json.loads((folder / "a.json").read_text())
    assert facts["elements"]["Cu"]["environments"] == 640
    assert facts["converged"]
    graded = [folder / "g.extxyz", "--report", folder / "g.json"]
    run("grade", folder / "pot.yaml", folder / "a.asi", folder / "a.extxyz", folder / "b.extxyz", "-o", *graded)
    gamma = [atoms.info["gamma_max"] for atoms in read_configurations(folder / "g.extxyz")]
    assert max(gamma[:20]) <= 1.001
    assert min(gamma[20:]) > 2
    update = ["--previous", folder / "a.asi", "--report", folder / "b.json"]
    run("active-set", folder / "pot.yaml", folder / "b.extxyz", "-o", folder / "b.asi", *update)
    run("grade", folder / "pot.yaml", folder / "b.asi", folder / "b.extxyz", "-o", *graded)
    assert json.loads((folder / "g.json").read_text())["gamma"]["max"] <= 1.001
    names = ActiveSet.load(folder / "b.asi").sets["Cu"].identifiers
    assert all(len(name) == 32 for name in names)  # origins of both generations


@pytest.mark.parametrize("words", [("--clusters", 2), ("--group-key", "group", "--definition", "own")])
def test_local_sets(folder, words):
    run("active-set", folder / "pot.yaml", folder / "a.extxyz", "-o", folder / "l.npz", *words, "--switch", 1.5)
    run("grade", folder / "pot.yaml", folder / "l.npz", folder / "b.extxyz", "-o", folder / "g.extxyz")
    assert min(atoms.info["gamma_max"] for atoms in read_configurations(folder / "g.extxyz")) > 2
    picked = ["--count", 2, "-o", folder / "s.extxyz"]
    run("select", folder / "pot.yaml", folder / "l.npz", folder / "b.extxyz", "--strategy", "uncertainty", *picked)
    run("select", folder / "pot.yaml", folder / "l.npz", folder / "b.extxyz", "--strategy", "d_optimal", *picked)
    assert len(read_configurations(folder / "s.extxyz")) == 2


def test_messages(folder):
    out = folder / "x.asi"
    common = ("active-set", folder / "pot.yaml", folder / "a.extxyz", "-o", out)
    assert "2GiB" in run(*common, "--memory", "lots", code=2)
    assert "no info entry 'kind'" in run(*common, "--group-key", "kind", code=2)
    assert "not both" in run(*common, "--group-key", "group", "--clusters", 2, code=2)
    assert "leave exclude_outliers out" in run(*common, "--clusters", 2, "--exclude-outliers", code=2)
    assert "not fitted" in run(*common, "--exclude-outliers", code=2)
    assert "fitted" in run(*common, "--kind", "full", code=2)
    old = ("--previous", folder / "none.asi")
    assert "not to an update of `previous`" in run(*common, *old, "--exclude-outliers", code=2)
    assert "leave `previous` out" in run(*common, *old, "--clusters", 2, code=2)
    assert "none.asi" in run(*common, *old, code=2)
    write_configurations(folder / "ni.extxyz", [bulk("Cu"), bulk("Ni")])
    found = run("active-set", folder / "pot.yaml", folder / "ni.extxyz", "-o", out, code=2)
    assert "ni.extxyz, structure 1: element Ni is unknown to the potential (it knows Cu)" in found
    assert not out.exists()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_memory_is_honest(folder):
    """More rows than the budget: the peak of the whole program stays within 1.2 times of --memory."""
    asked = 350
    shape = {"nradmax_by_orders": [12, 6, 4, 2], "lmax_by_orders": [0, 4, 3, 2]}
    potential = build_potential({"elements": ["Cu"], "cutoff": 4.0, **shape})
    potential.write(folder / "pot.yaml")
    k = potential.n_functions["Cu"]
    write_configurations(folder / "many.extxyz", shaken(int(asked * 2**20 / (500 * k * 8)) + 1, size=5))
    peak, path = run_worker(folder, "many.extxyz", f"{asked}MiB")
    facts = json.loads((folder / "r.json").read_text())
    assert facts["streamed"]
    assert facts["elements"]["Cu"]["environments"] * k * 8 > asked * 2**20
    assert ActiveSet.load(path).converged
    assert peak < 1.2 * asked


def run_worker(folder, data, memory):
    """Peak memory (MiB) of the program, and its output."""
    code = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)"
    )
    worker = [sys.executable, "-c", "from aiida_aceal.worker.main import main; main()"]
    words = ["active-set", "pot.yaml", data, "-o", "o.asi", "--memory", memory, "--report", "r.json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *worker, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    kilo = int(done.stdout.split()[-1])
    return kilo / (2**20 if sys.platform == "darwin" else 2**10), folder / "o.asi"
