"""The warm server: jobs through it compute what they compute alone, end as they would, and never outlive anybody."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import bulk

from aiida_aceal.ace import build_potential
from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.worker.start import ADDRESS
from aiida_aceal.worker.warm import LOG_FILE, warm_server

WORKER = str(Path(sys.executable).parent / "aceal-worker")
SLEEPER = """
import os, time
from pathlib import Path
from ase.calculators.emt import EMT
class Sleeper(EMT):
    def calculate(self, *args, **kwargs):
        Path(os.environ["PIDS"]).write_text(f"{os.getppid()} {os.getpid()}")
        time.sleep(600)
"""


def until(condition, seconds=240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("warm")
    (path / "sleeper.py").write_text(SLEEPER)
    frames = []
    for seed in range(3):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    write_configurations(path / "data.extxyz", frames)
    description = {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 2]}
    build_potential(description, seed=0).write(path / "pot.yaml")
    return path


@pytest.fixture(scope="module")
def server(folder):
    """Environment of a process that finds the server, which is warm."""
    before = dict(os.environ)
    os.environ.update(PYTHONPATH=str(folder), PIDS=str(folder / "pids"))
    try:
        with warm_server():
            environment = dict(os.environ)
            until(Path(environment[ADDRESS]).exists)
            yield environment
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert not Path(environment[ADDRESS]).parent.exists()


def log_of(server):
    return (Path(server[ADDRESS]).parent / LOG_FILE).read_text()


def run(folder, environment, *words, **kwargs):
    return subprocess.run(
        [WORKER, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, **kwargs
    )


def evaluate(folder, environment, **kwargs):
    words = ("evaluate", "pot.yaml", "data.extxyz", "-o", "out.extxyz", "--report", "report.json")
    done = run(folder, environment, *words, **kwargs)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    took = {name: report.pop(name) for name in ("cost", "seconds")}
    return report, (folder / "out.extxyz").read_text(), done, took


def test_a_job_through_the_server_computes_the_same(folder, server):
    alone = {key: text for key, text in server.items() if key != ADDRESS}
    expected = evaluate(folder, alone)
    found = evaluate(folder, server)
    assert found[:2] == expected[:2]
    assert found[2].stdout == expected[2].stdout
    assert found[2].stderr == expected[2].stderr
    assert "declined" not in log_of(server)
    # what a process does that works by itself: it loads numpy
    words = [sys.executable, "-X", "importtime", WORKER, "evaluate", "pot.yaml", "data.extxyz"]
    for environment, imports in ((server, False), (alone, True)):
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0
        assert ("numpy.linalg" in done.stderr) == imports


def test_labels_through_the_server_are_the_same(folder, server):
    alone = {key: text for key, text in server.items() if key != ADDRESS}
    texts = []
    for environment in (alone, server):
        words = ("label", "data.extxyz", "-o", "labelled.extxyz", "--calculator", "emt", "--workers", "2")
        done = run(folder, environment, *words, "--progress", f"{len(texts)}.jsonl")
        assert done.returncode == 0, done.stderr
        texts.append((folder / "labelled.extxyz").read_text())
    assert texts[0] == texts[1]


def test_what_goes_wrong_is_said_as_without_it(folder, server):
    alone = {key: text for key, text in server.items() if key != ADDRESS}
    for words in (("evaluate", "no.yaml", "data.extxyz"), ("evaluate",), ("--time-limit", "0.001", "label", "x")):
        through, by_itself = run(folder, server, *words), run(folder, alone, *words)
        assert through.returncode == by_itself.returncode != 0
        assert through.stderr == by_itself.stderr


def test_a_job_with_other_limits_starts_by_itself(folder, server):
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (500, 500))

    expected = evaluate(folder, server)
    found = evaluate(folder, server, preexec_fn=limit)
    assert found[:2] == expected[:2]
    assert log_of(server).splitlines()[-1] == "declined aceal-worker: limits"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_ends_with_the_process_that_stands_for_it(folder, server, number):
    (folder / "pids").unlink(missing_ok=True)
    words = [WORKER, "label", "data.extxyz", "-o", "labelled.extxyz", "--calculator", "sleeper:Sleeper"]
    stands = subprocess.Popen(words, cwd=folder, env=server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pids = until(lambda: (folder / "pids").is_file() and (folder / "pids").read_text().split())
    assert all(alive(pid) for pid in pids)
    stands.send_signal(number)
    stands.wait(60)
    assert stands.returncode != 0
    until(lambda: not any(alive(pid) for pid in pids), 60)


def test_without_a_server_a_job_starts_by_itself(folder, tmp_path):
    report = evaluate(folder, {**os.environ, ADDRESS: str(tmp_path / "nobody")})[0]
    assert report["n_structures"] == 3
