"""A campaign survives the death of the daemon's workers, and computes nothing twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).with_name("daemon_campaign.py")


@pytest.mark.timeout(600)
def test_workers_killed_in_the_middle(tmp_path):
    environment = {
        **os.environ,
        "AIIDA_PATH": str(tmp_path),
        # the workers import the test's module for nothing but must find the same packages
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["killed"] >= 2
    assert result["state"] == "finished", result
    assert result["exit_status"] in (0, 410), result
    assert result["twice"] == []
    assert result["unfinished"] == []
    assert len(result["rows"]) == 2
