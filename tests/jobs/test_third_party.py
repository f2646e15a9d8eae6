"""The example package of `docs/howto/extend.md`, taken from the page and installed: its job, its CalcJob, its test."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "extend.md"
FILE = re.compile(r"^% file (\S+)\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORKER = Path(sys.executable).parent / "aceal-worker"

pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="docs/ is not part of this installation")


def install(files: dict[str, str], folder: Path) -> Path:
    """Write a package and install it by pip; returns the folder to put on the path."""
    source, target = folder / "source", folder / "site"
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), "."]
    done = subprocess.run([sys.executable, "-m", "pip", *words], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def worker(target: Path, *words: str | Path) -> subprocess.CompletedProcess:
    """The installed ``aceal-worker``, which sees the package."""
    environment = {**os.environ, "PYTHONPATH": str(target)}
    return subprocess.run([WORKER, *map(str, words)], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """Where the package of the page is installed."""
    files = dict(FILE.findall(PAGE.read_text(encoding="utf-8")))
    assert {"pyproject.toml", "mylab_aceal/cap_forces.py", "tests/test_cap_forces.py"} <= set(files)
    return install(files, tmp_path_factory.mktemp("mylab"))


@pytest.fixture
def seen(package, monkeypatch):
    """The package on the path of this process, with what AiiDA remembers of entry points made anew."""
    from aiida.plugins import entry_point

    from aiida_aceal.calculations import job

    caches = (entry_point.eps, entry_point.eps_select, entry_point.get_entry_point_from_class)

    def forget():
        importlib.invalidate_caches()
        for cache in caches:
            cache.cache_clear()

    monkeypatch.syspath_prepend(str(package))
    forget()
    yield package
    monkeypatch.undo()
    forget()
    vars(job).pop("AceCapForcesCalculation", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "mylab_aceal"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def copper():
    """Six copper cells with an atom displaced more and more, labelled, and the largest force of each (eV/A)."""
    frames = []
    for k in range(6):
        atoms = bulk("Cu", cubic=True)
        atoms.positions[0, 0] += 0.25 * k
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames, [float((atoms.get_forces() ** 2).sum(axis=1).max() ** 0.5) for atoms in frames]


def test_the_worker_has_the_job(package, copper, tmp_path):
    from aiida_aceal.common.configurations import read_configurations, write_configurations

    frames, largest = copper
    write_configurations(tmp_path / "all.extxyz", frames)
    assert re.search(r"^ +cap-forces +Leave out configurations", worker(package, "--help").stdout, re.MULTILINE)
    limit = (largest[2] + largest[3]) / 2
    kept = tmp_path / "kept.extxyz"
    done = worker(package, "cap-forces", tmp_path / "all.extxyz", "-o", kept, "--max-force", str(limit))
    assert (done.returncode, done.stdout) == (0, "3 of 6 configurations kept\n"), done.stderr
    assert [float(a.positions[0, 0]) for a in read_configurations(kept)] == pytest.approx([0.0, 0.25, 0.5])
    done = worker(package, "cap-forces", tmp_path / "all.extxyz", "-o", kept, "--max-force", "-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: max_force: must be a positive number (eV/A), found -1")


def test_aiida_has_the_calcjob(seen, copper, aceal_worker_code, job_metadata):
    from aiida.engine import run_get_node
    from aiida.plugins import CalculationFactory

    from aiida_aceal.data.dataset import ConfigurationsData

    frames, largest = copper
    process = CalculationFactory("mylab.cap_forces")
    assert process.spec().inputs["settings"].help.startswith("`max_force`")
    inputs = {
        "code": aceal_worker_code,
        "configurations": ConfigurationsData.from_atoms(frames, source="made"),
        "metadata": job_metadata(environment_variables={"PYTHONPATH": str(seen)}),
    }
    results, node = run_get_node(process, settings={"max_force": (largest[3] + largest[4]) / 2}, **inputs)
    assert node.is_finished_ok, node.exit_message
    assert node.process_type == "aiida.calculations:mylab.cap_forces"
    assert node.process_class is process
    assert [float(a.positions[0, 0]) for a in results["kept"].to_atoms()] == pytest.approx([0.0, 0.25, 0.5, 0.75])
    report = results["report"].get_dict()
    assert (report["n_kept"], report["n_left_out"]) == (4, 2)
    assert report["largest_force"] == pytest.approx(max(largest))
    with pytest.raises(ValueError, match=r"max_force: must be a positive number"):
        run_get_node(process, settings={"max_force": 0.0}, **inputs)
    unlabelled = ConfigurationsData.from_atoms([bulk("Cu")], source="made")
    with pytest.raises(ValueError, match=r"have no forces; label them first"):
        run_get_node(process, **{**inputs, "configurations": unlabelled})


def test_its_own_test_passes(package):
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=package.parent / "source", capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_broken_package_costs_only_its_own_jobs(tmp_path):
    """Modules that are missing, objects that are no jobs, names that differ: one line, and other commands go on."""
    points = {
        "is-missing": "brokenlab.none:JOB", "is-none": "brokenlab:SETTINGS", "is-misnamed": "brokenlab:JOB",
        "grade": "brokenlab:JOB",
    }  # fmt: skip
    toml = '[project]\nname = "brokenlab"\nversion = "0.1"\ndescription = "Broken."\n'
    toml += '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
    toml += '[project.entry-points."aiida_aceal.jobs"]\n' + "".join(f'"{k}" = "{v}"\n' for k, v in points.items())
    code = "from aiida_aceal.jobs import Job\nSETTINGS = {}\nJOB = Job('other', 'Other.', print)\n"
    target = install({"pyproject.toml": toml, "brokenlab.py": code}, tmp_path)
    text = worker(target, "--help").stdout
    assert re.search(r"^ +grade +Grade DATA", text, re.MULTILINE)
    assert text.count("Cannot be loaded") == 3
    for name, message in (
        ("is-missing", "ModuleNotFoundError: No module named 'brokenlab.none'"),
        ("is-none", "must be an instance of aiida_aceal.jobs.Job, found dict"),
        ("is-misnamed", "the job is called 'other'; give job and entry point the same name"),
    ):
        done = worker(target, name, "x", "--count", "3")
        assert done.returncode == 2
        assert done.stderr.startswith(f"Error: entry point '{name}' (brokenlab")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
