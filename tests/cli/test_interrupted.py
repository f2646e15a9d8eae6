"""Campaigns that are interrupted, killed, stopped, resumed and extended, in processes of their own, as by a user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
import yaml
from aiida import orm
from aiida.manage.caching import enable_caching
from small_campaign import builder_for, small

from aiida_aceal.cli.embedded import run_watched
from aiida_aceal.cli.resume import _apply, _check
from aiida_aceal.workflows.stopping import STOP

pytestmark = pytest.mark.long

AT_MOST = 300.0


class User:
    """Someone at a terminal with an AiiDA configuration of his own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "AIIDA_PATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def start(self, *words: str) -> subprocess.Popen:
        command = [str(Path(sys.executable).parent / "aiida-aceal"), *words]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def say(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=AT_MOST)
        assert process.returncode == code, out + err
        assert "Traceback" not in err, err
        return out + err

    def jobs(self) -> list[str]:
        """Command lines of jobs that run in the user's folder."""
        import psutil

        found = []
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words = process.info["cmdline"] or []
            if str(self.folder) in (process.info["cwd"] or "") and any("aceal-" in word for word in words):
                found.append(" ".join(words))
        return [line for line in found if "aceal-worker" in line or "aceal-lmp" in line]

    def wait_for_jobs(self) -> None:
        until = time.monotonic() + AT_MOST
        while not self.jobs():
            assert time.monotonic() < until, "no job was started"
            time.sleep(0.2)


@pytest.fixture
def user(tmp_path):
    data = small(loop={"max_generations": 0}, validation={"steps": 2000}, initial=small()["initial"])
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(data))
    return User(tmp_path)


@pytest.mark.timeout(900)
def test_interrupted_and_killed_campaigns_go_on(user):
    # Ctrl-C while a job runs
    process = user.start("run", "input.yaml")
    user.wait_for_jobs()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=AT_MOST)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "Ending all jobs" in err
    assert "Stopped (killed): Killed: interrupted by the user" in err
    pk = out.split("Campaign ", 1)[1].split()[0]
    assert f"aiida-aceal resume {pk}" in out
    assert user.jobs() == []
    assert "killed" in user.say("list")

    # a power cut while it goes on
    process = user.start("resume", pk)
    user.wait_for_jobs()
    process.kill()
    out, _ = process.communicate()
    second = out.split("Campaign ", 1)[1].split()[0]
    text = user.say("status")
    assert f"Campaign {second}: waiting" in text
    assert f"has gone: aiida-aceal resume {second} goes on" in text
    assert "process has gone" in user.say("list")

    # resumed with less to do, whatever the lost process left is closed
    text = user.say("resume", second, "--set", "fit.regularization.method=ridge", code=1)
    assert f"Campaign {second}: " in text
    assert "closed" in text
    assert "Changed: fit.regularization.method from its default to ridge" in text
    assert "Not converged (exit status 410)" in text
    assert "For more generations: aiida-aceal extend" in text
    states = user.say("list")
    assert states.count("killed") == 2
    assert states.count("generations used up") == 1
    assert user.jobs() == []

    # more generations, with all jobs of the first from the cache
    third = states.splitlines()[2].split()[0]
    text = user.say("extend", third, "-n", "1", code=1)
    assert "Changed: loop.max_generations from 0 to 1" in text
    fourth = int(user.say("list").splitlines()[2].split()[0])
    script = (
        "import sys; from aiida import load_profile, orm; load_profile('aceal-demo'); "
        "from aiida_aceal.report.rows import rows_of; rows = rows_of(orm.load_node(int(sys.argv[1]))); "
        "print(len(rows), rows[0]['n_jobs'] - rows[0]['n_jobs_from_cache'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(fourth)], env=user.environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["2", "0"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("loop.max_generations=many", "must be a non-negative integer, found 'many'"),
        ("fit.metod=linear", "did you mean 'method'"),
        ("seed=3", "expected one of"),
        ("explore.nobody.steps=3", "expected one of"),
    ],
)
def test_changes_that_cannot_be_made_are_refused(codes, change, words):
    builder = builder_for(small(), codes)
    _check(builder)

    def lay_over():
        _apply(builder, change)
        _check(builder)

    with pytest.raises(click.ClickException) as caught:
        lay_over()
    assert words in caught.value.message


@pytest.mark.timeout(300)
def test_stopped_after_a_generation(codes):
    def stop(node: orm.ProcessNode) -> None:
        node.base.extras.set(STOP, True)

    with enable_caching():
        node = run_watched(builder_for(small(), codes), lambda node: None, started=stop)
    assert node.exit_status == 413
    assert node.exit_message == "Stopped on request after generation 0; it can be resumed."
    assert "potential" in node.outputs
    assert node.outputs.summary["n_generations"] == 1


def test_an_output_that_cannot_be_written_is_found_first(user):
    (user.folder / "file").write_text("")
    text = user.say("run", "input.yaml", "-o", "file/out", code=2)
    assert "file/out: nothing can be written there" in text
    assert "-o" in text
    assert not (user.folder / ".aiida").exists()
