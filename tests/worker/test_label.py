"""``aceal-worker label`` as users run it: real processes, real calculators, calculators that misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from aiida_aceal.common.configurations import configuration_hash, get_labels, read_configurations, write_configurations
from aiida_aceal.labels.calculators import AceError, calculator_spec, known_names
from aiida_aceal.labels.limits import TimeLimits
from aiida_aceal.labels.pool import label_batch

HERE = Path(__file__).parent


@pytest.fixture
def label(tmp_path):
    """Run the installed worker in a folder of its own; returns (process, configurations, report)."""

    def run(frames, *words, cores=2, report=True):
        write_configurations(tmp_path / "in.extxyz", frames)
        output, report_file = tmp_path / "out.extxyz", tmp_path / "report.json"
        output.unlink(missing_ok=True)
        report_file.unlink(missing_ok=True)
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
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"in.extxyz", "out.extxyz", "out.extxyz.labels", "report.json"}, "nothing else is left behind"


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
    """What was not tried is no failure; run again, the same command goes on from there."""
    frames = marked(cu_atoms, 3, 4, 5)
    words = ("--calculator", "faulty:Faulty", "--settings", '{"fault": "hang"}', "--budget", "15", "--workers", "1")
    process, labelled, report = label(frames, *words)
    assert process.returncode == 5, process.stderr
    assert [configuration_hash(a) for a in labelled] == [configuration_hash(a) for a in frames[:3]]
    assert (report["n_failed"], report["failures"]) == (0, [])
    assert [(r["index"], r["reason"]) for r in report["not_tried"]] == [
        (3, "out of time: under way"),
        (4, "out of time: not started"),
        (5, "out of time: not started"),
    ]
    first = costs_of(report, 0)
    process, labelled, report = label(frames[:3], *words)
    assert process.returncode == 0, process.stderr
    assert "3 of 3 configurations are in out.extxyz.labels already" in process.stderr
    assert [configuration_hash(a) for a in labelled] == [configuration_hash(a) for a in frames[:3]]
    assert costs_of(report, 0) == first, "the label of the first run"


def costs_of(report, index):
    return next(row["wall_seconds"] for row in report["costs"] if row["index"] == index)


def start_worker(folder, frames, *words, cores=2):
    """The same command as `label`, left running."""
    write_configurations(folder / "in.extxyz", frames)
    environment = {**os.environ, "OMP_NUM_THREADS": str(cores), "PYTHONPATH": str(HERE)}
    command = [Path(sys.executable).parent / "aceal-worker", "label", "in.extxyz", "-o", "out.extxyz", *words]
    return subprocess.Popen(
        [*command, "--report", "report.json"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def lines_of(folder, state):
    path = folder / "out.extxyz.labels"
    rows = [json.loads(row) for row in path.read_text().splitlines() if row.endswith("}")] if path.is_file() else []
    return [row["key"] for row in rows if row["state"] == state]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_loses_what_is_under_way_only(label, cu_atoms, tmp_path, number):
    """Killed while number 3 hangs: 0 to 2 are on the disk, and not computed again."""
    frames = marked(cu_atoms, 3)
    words = ("--calculator", "faulty:Faulty", "--settings", '{"fault": "hang"}', "--timeout", "5", "--workers", "1")
    process = start_worker(tmp_path, frames, *words)
    key = configuration_hash(frames[3])
    wait_for(lambda: key in lines_of(tmp_path, "started"))
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert lines_of(tmp_path, "labelled") == [configuration_hash(a) for a in frames[:3]]
    if number == signal.SIGKILL:
        assert not (tmp_path / "out.extxyz").exists()
    else:
        assert process.returncode == 5, errors
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["n_labelled"], report["n_failed"], report["n_not_tried"]) == (3, 0, 3)
        assert report["not_tried"][0]["reason"] == f"ended by {number.name}: under way"
        assert len(read_configurations(tmp_path / "out.extxyz")) == 3
    with open(tmp_path / "out.extxyz.labels", "a") as handle:
        handle.write('{"method": "cut off by the ki')
    process, labelled, report = label(frames, *words)
    assert process.returncode == 0, process.stderr
    assert "1 damaged lines are left out" in process.stderr
    assert (report["n_taken"], report["n_labelled"], report["n_failed"], report["n_transient"]) == (3, 5, 1, 1)
    assert lines_of(tmp_path, "started").count(configuration_hash(frames[0])) == 1, "nothing is computed twice"
    assert lines_of(tmp_path, "started")[-1] == key, "what was begun in vain comes last"
    assert "no result after 5 s" in report["failures"][0]["reason"]
    for atoms in labelled:
        work = atoms.copy()
        work.calc = EMT()
        assert get_labels(atoms)[0] == work.get_potential_energy(), "to the last digit, from the file as well"


def test_three_tries(label, cu_atoms):
    """What takes its job down again and again is a failure in the end."""
    frames = marked(cu_atoms, 0, count=2)
    words = ("--calculator", "faulty:Faulty", "--settings", '{"fault": "killed"}', "--workers", "1")
    for _ in range(3):
        _, _, report = label(frames, *words)
        assert report["failures"][0]["transient"] is True
        assert "killed by SIGKILL" in report["failures"][0]["reason"]
    _, labelled, report = label(frames, *words)
    assert "transient" not in report["failures"][0]
    assert "killed by SIGKILL" in report["failures"][0]["reason"]
    assert report["failures"][0]["reason"].endswith("(tried 3 times)")
    assert len(labelled) == 1


def test_progress_of_another_method_does_not_count(label, cu_atoms):
    frames = cu_atoms(2, labelled=False)
    label(frames, "--calculator", "emt")
    process, _, report = label(frames, "--calculator", "emt", "--no-stress")
    assert "2 labels by another method or with other settings do not count" in process.stderr
    assert (report["n_taken"], report["n_stress"]) == (0, 0)
    frames[0].set_initial_magnetic_moments([1.0] * len(frames[0]))
    _, _, report = label(frames, "--calculator", "emt", "--no-stress")
    assert report["n_taken"] == 1, "other moments are another calculation"


def test_two_at_once_are_refused(label, cu_atoms, tmp_path):
    frames = marked(cu_atoms, 0)
    words = ("--calculator", "faulty:Faulty", "--settings", '{"fault": "hang"}')
    process = start_worker(tmp_path, frames, *words)
    try:
        wait_for(lambda: lines_of(tmp_path, "started"))
        second, _, _ = label(frames, *words)
        assert second.returncode == 2
        assert "another process is labelling with this file" in second.stderr
    finally:
        process.kill()
        process.communicate()


def test_time_limits_by_size_and_the_others():
    limits = TimeLimits()
    assert limits.is_provisional(others_wait=True)
    assert limits.limit(10, others_wait=True) == 3600.0
    limits.put_off()
    assert limits.limit(10, others_wait=True) == 7200.0
    assert limits.limit(10, others_wait=False) == 86400.0
    for seconds in (10.0, 12.0, 100.0):
        limits.learn(10, seconds)
    assert limits.limit(10, True) == 300.0, "3 times the longest"
    limits.learn(10, 20.0)
    assert limits.limit(10, True) == 320.0, "20 times the median"
    assert limits.limit(20, True) == 8 * 320.0, "third power of the size"
    assert limits.limit(5, True) == 320.0, "small cells get no less"
    assert TimeLimits.within(None, 800.0).limit(10, True) == 100.0
    assert TimeLimits.within(7.0, 800.0).limit(10, True) == 7.0


def test_a_limit_of_months_is_no_longer_than_the_system_can_wait(label, cu_atoms):
    # limits by size may come to that too: one atom in 10 ms allows 256 atoms 39 days
    process, labelled, _ = label(cu_atoms(2, labelled=False), "--calculator", "emt", "--timeout", "1e7")
    assert process.returncode == 0, process.stderr
    assert len(labelled) == 2


def test_one_hanging_structure_costs_only_itself(cu_atoms, tmp_path, monkeypatch):
    """Without any limit by the user, one worker, the first structure hangs: the others have their turn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    frames = marked(cu_atoms, 0)
    limits = TimeLimits(least=2.0, first=2.0)
    outcomes = label_batch(frames, calculator_spec("faulty:Faulty", {"fault": "hang"}), limits=limits)
    assert [outcome.state for outcome in outcomes] == ["lost", *["labelled"] * 5]
    assert "no result after 2 s (default limit: 20 times the median" in outcomes[0].reason


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
