"""Campaigns under a daemon: the death of its workers, and the cache; nothing is computed twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unproven

HERE = Path(__file__).parent


def run_script(name: str, folder: Path) -> dict:
    """Run a script of this folder with an AiiDA configuration of its own; the JSON of its last line."""
    environment = {
        **os.environ,
        "AIIDA_PATH": str(folder),
        # the workers import the test's module for nothing but must find the same packages
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    done = subprocess.run([sys.executable, HERE / name], capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(600)
def test_workers_killed_in_the_middle(tmp_path):
    result = run_script("daemon_campaign.py", tmp_path)
    assert result["killed"] >= 2
    assert result["state"] == "finished", result
    assert result["exit_status"] in (0, 410), result
    assert result["twice"] == []
    assert result["unfinished"] == []
    assert len(result["rows"]) == 2


@pytest.mark.timeout(600)
def test_waiting_for_any_job_survives_the_workers(tmp_path):
    result = run_script("daemon_any.py", tmp_path)
    assert result["killed"] >= 1
    assert result["exit"] == 0, result
    assert result["labels"] == [f"job_{index}" for index in range(5)]
    assert result["states"] == [0] * 5


@pytest.mark.timeout(600)
def test_a_daemon_follows_the_choice_of_caching(tmp_path):
    result = run_script("daemon_cache.py", tmp_path)
    assert result["exit"] == [None, 410, 410, None], result
    assert result["labelled"] >= 1
    assert result["taken"] >= result["labelled"], "labels of the campaign that was stopped are not made again"
    assert result["again"] == [], "the same input, run again, computes nothing"
    assert result["anew"]
    assert not any(result["anew"]), "--no-cache reaches the daemon"
