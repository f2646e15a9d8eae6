"""``aceal-worker label`` as users run it: real processes, real calculators, calculators that misbehave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from aiida_aceal.common.configurations import configuration_hash, get_labels, read_configurations, write_configurations
from aiida_aceal.labels.calculators import AceError, calculator_spec, known_names

HERE = Path(__file__).parent


@pytest.fixture
def label(tmp_path):
    """Run the installed worker in a folder of its own; returns (process, configurations, report)."""

    def run(frames, *words, cores=2, report=True):
        write_configurations(tmp_path / "in.extxyz", frames)
        output, report_file = tmp_path / "out.extxyz", tmp_path / "report.json"
        output.unlink(missing_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(cores), "PYTHONPATH": str(HERE)}
        command = [Path(sys.executable).parent / "aceal-worker", "label", "in.extxyz", "-o", output.name, *words]
        command += ["--report", report_file.name] if report else []
        process = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        labelled = read_configurations(output) if output.is_file() and output.stat().st_size else []
        return process, labelled, json.loads(report_file.read_text()) if report_file.is_file() else None

    return run


def marked(cu_atoms, *indices, count=6):
    """Copper cells, the marked ones moved as a whole."""
    frames = cu_atoms(count, labelled=False, rattle=0.02)
    for index in indices:
        frames[index].positions[:, 0] += 1.0
    return frames


def test_emt_in_order(label, cu_atoms, tmp_path):
    frames = cu_atoms(5, labelled=False)
    frames[1] = bulk("Al", cubic=True)
    frames[2].set_constraint(FixAtoms([0, 1]))
    for i, atoms in enumerate(frames):
        atoms.info["reason"] = f"no. {i}"
        atoms.arrays["gamma"] = np.full(len(atoms), 1.5 + i)
    process, labelled, report = label(frames, "--calculator", "emt")
    assert process.returncode == 0, process.stderr
    assert "5 of 5 configurations labelled" in process.stderr
    for i, (before, after) in enumerate(zip(frames, labelled, strict=True)):
        assert configuration_hash(before) == configuration_hash(after)
        assert after.info["reason"] == f"no. {i}"
        assert after.arrays["gamma"][0] == 1.5 + i
        free = before.copy()
        free.set_constraint()
        free.calc = EMT()
        energy, forces, stress = get_labels(after)
        assert energy == pytest.approx(free.get_potential_energy(), rel=1e-12)
        assert forces == pytest.approx(free.get_forces(), abs=1e-12), "constraints must not zero the labels"
        assert stress == pytest.approx(free.get_stress(), abs=1e-12)
    assert (report["n_labelled"], report["n_failed"], report["failures"]) == (5, 0, [])
    assert report["calculator"]["class"] == "ase.calculators.emt:EMT"
    assert report["workers"] == 2
    assert report["core_seconds"] == pytest.approx(sum(c["core_seconds"] for c in report["costs"]))
    assert 0 < report["core_seconds"] < 60
    assert {p.name for p in tmp_path.iterdir()} == {"in.extxyz", "out.extxyz", "report.json"}, "nothing is left behind"


def test_unsupported_element_costs_its_configuration(label, cu_atoms):
    frames = [*cu_atoms(2, labelled=False), bulk("Si", cubic=True), *cu_atoms(1, seed=1, labelled=False)]
    process, labelled, report = label(frames, "--calculator", "emt")
    assert process.returncode == 0
    assert [configuration_hash(a) for a in labelled] == [configuration_hash(frames[i]) for i in (0, 1, 3)]
    (failure,) = report["failures"]
    assert failure["index"] == 2
    assert failure["hash"] == configuration_hash(frames[2])
    assert "No EMT-potential for Si" in failure["reason"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang", "no result after 2 s"),
        ("program", "no result after 2 s"),
        ("crash", "killed by SIGABRT (the last words"),
        ("nan", "forces not finite"),
        ("unconverged", "did not converge"),
        ("files", "RuntimeError: SCF not converged in 250 cycles"),
    ],
)
def test_faults_cost_only_themselves(label, cu_atoms, fault, reason):
    frames = marked(cu_atoms, 0, 3)
    words = ("--calculator", "faulty:Faulty", "--settings", json.dumps({"fault": fault}), "--timeout", "2")
    process, labelled, report = label(frames, *words)
    assert process.returncode == 0, process.stderr
    assert [configuration_hash(a) for a in labelled] == [configuration_hash(frames[i]) for i in (1, 2, 4, 5)]
    assert [f["index"] for f in report["failures"]] == [0, 3]
    assert all(reason in f["reason"] for f in report["failures"]), report["failures"]
    assert "Traceback" not in process.stderr
    if fault == "program":
        assert not _running("sleep 599"), "the program of the calculator lives on"


def _running(words: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().replace(b"\0", b" ").strip() == words.encode():
                return True
        except OSError:
            continue
    return False


def test_budget_keeps_what_is_done(label, cu_atoms):
    frames = marked(cu_atoms, 3, 4, 5)
    words = ("--calculator", "faulty:Faulty", "--settings", '{"fault": "hang"}', "--budget", "8", "--workers", "1")
    process, labelled, report = label(frames, *words)
    assert process.returncode == 0, process.stderr
    assert [configuration_hash(a) for a in labelled] == [configuration_hash(a) for a in frames[:3]]
    assert [f["reason"] for f in report["failures"]] == [
        "out of time: the batch as a whole took too long",
        "out of time: not started",
        "out of time: not started",
    ]


def test_nothing_labelled(label):
    process, labelled, report = label([bulk("Si")], "--calculator", "emt")
    assert process.returncode == 4
    assert labelled == []
    assert report["n_labelled"] == 0


def test_processes_that_never_start(label, cu_atoms):
    process, _, report = label(cu_atoms(2, labelled=False), "--calculator", "faulty:no_start")
    assert process.returncode == 2
    assert "the labelling processes do not start: exit code 7 (licence not found)" in process.stderr
    assert report is None


def test_threads_and_stress(label, cu_atoms):
    words = ("--calculator", "faulty:EnergyOnly")
    _, labelled, report = label(cu_atoms(2, labelled=False), *words, "--workers", "1", cores=3)
    assert [get_labels(a)[0] for a in labelled] == [3.0, 3.0]
    assert get_labels(labelled[0])[2] is None
    assert (report["n_stress"], report["workers"], report["threads"]) == (0, 1, 3)
    _, _, report = label(cu_atoms(1, labelled=False), *words, "--energy", "free")
    assert "no free energy" in report["failures"][0]["reason"]
    _, labelled, _ = label(cu_atoms(1, labelled=False), "--calculator", "emt", "--no-stress")
    assert get_labels(labelled[0])[2] is None


def test_max_force(label, cu_atoms):
    frames = cu_atoms(2, labelled=False, rattle=0.01)
    frames[0].positions[0] += (0.9, 0.0, 0.0)
    _, labelled, report = label(frames, "--calculator", "emt", "--max-force", "2")
    assert [configuration_hash(a) for a in labelled] == [configuration_hash(frames[1])]
    assert "above max_force = 2" in report["failures"][0]["reason"]


def test_our_own_potential_as_teacher(label, cu_atoms, small_potential, tmp_path):
    from aiida_aceal.ace import AceModel

    potential = small_potential()
    potential.write(tmp_path / "teacher.yaml")
    frames = cu_atoms(2, labelled=False)
    process, labelled, _ = label(frames, "--calculator", "ace", "--settings", '{"potential": "teacher.yaml"}')
    assert process.returncode == 0, process.stderr
    expected = AceModel(potential, threads=1).evaluate(frames[1])
    assert get_labels(labelled[1])[0] == pytest.approx(expected.energy, rel=1e-12)


def test_tblite(label):
    pytest.importorskip("tblite", reason="optional dependency: pip install 'aiida-aceal[xtb]'")
    from ase.build import molecule

    water = molecule("H2O")
    primitive, cubic = (bulk("CuI", "zincblende", a=6.1, cubic=cubic) for cubic in (False, True))
    _, labelled, report = label([water, primitive, cubic], "--calculator", "tblite")
    (failure,) = report["failures"]
    assert failure["index"] == 1
    assert "SCF not converged" in failure["reason"]
    assert report["calculator"]["kwargs"]["method"] == "GFN1-xTB"
    assert get_labels(labelled[0])[0] == pytest.approx(-157.0, abs=2.0)
    # forces are minus the derivative of the energy
    step = 1e-3
    moved = []
    for sign in (1, -1):
        moved.append(water.copy())
        moved[-1].positions[1, 2] += sign * step
    _, ends, _ = label(moved, "--calculator", "tblite")
    slope = (get_labels(ends[0])[0] - get_labels(ends[1])[0]) / (2 * step)
    assert get_labels(labelled[0])[1][1, 2] == pytest.approx(-slope, abs=1e-3)
    assert report["n_stress"] == 1
    assert "2 of 3 cells have an edge shorter than 8 A" in report["warnings"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--calculator", "emd"), "unknown calculator 'emd': did you mean 'emt'"),
        (("--calculator", "ase.calculators.emt:EMTT"), "has no 'EMTT'; did you mean 'EMT'?"),
        (("--calculator", "nowhere.at.all:Calc"), "install the Python package 'nowhere'"),
        (("--calculator", "faulty:os.sep"), "neither a class nor a function"),
        (("--calculator", "emt", "--settings", '{"asap": '), "neither a file nor valid JSON"),
        (("--calculator", "emt", "--settings", "[1]"), "kwargs: must be a mapping or null, found [1]"),
        (("--calculator", "eam", "--settings", '{"potential": "none.alloy"}'), "rejects the arguments"),
    ],
)
def test_bad_input(label, cu_atoms, words, message):
    process, _, report = label(cu_atoms(1, labelled=False), *words)
    assert process.returncode == 2
    assert message in process.stderr
    assert process.stderr.startswith("Error: ")
    assert report is None


def test_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(AceError, match=r"pip install 'aiida-aceal\[xtb\]'"):
        calculator_spec("tblite")


def test_names_and_files(tmp_path, monkeypatch):
    assert {"emt", "tblite", "eam", "lj", "morse", "gpaw", "mopac", "ace"} <= set(known_names())
    assert "checkpoint" not in known_names()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("x")
    with pytest.raises(AceError, match="rejects the arguments") as caught:
        calculator_spec("ace", {"potential": "p.yaml"})
    assert str(tmp_path / "p.yaml") in str(caught.value), "the file is found from any folder"
