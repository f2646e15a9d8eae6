"""``aiida-aceal setup-computer``: what it writes is what `verdi` and the schedulers take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aiida.cmdline.commands.cmd_verdi import verdi
from aiida.plugins import SchedulerFactory

from aiida_aceal.inputs.cluster import SCHEDULERS
from aiida_aceal.inputs.schema import check_campaign

WORDS = ("--hostname", "login.example.org", "--worker", "/opt/aceal/bin/aceal-worker", "--lammps", "/opt/lmp")


def options_of(*names):
    """Keys that a command of verdi takes from its --config."""
    command = verdi
    for name in names:
        command = command.get_command(None, name)
    return {param.name for param in command.params}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_files_and_lines(cli, scheduler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = cli(
        "setup-computer", *WORDS, "--scheduler", scheduler, "--label", "hpc", "--vasp", "/opt/vasp", "--queue", "short"
    )
    files = {path.name: yaml.safe_load(path.read_text()) for path in Path("hpc").iterdir()}
    assert sorted(files) == [
        "code-aceal-worker.yaml", "code-lmp.yaml", "code-vasp.yaml", "computer.yaml", "transport.yaml",
    ]  # fmt: skip
    assert set(files["computer.yaml"]) <= options_of("computer", "setup")
    assert set(files["transport.yaml"]) <= options_of("computer", "configure", "core.ssh_async")
    assert set(files["code-vasp.yaml"]) <= options_of("code", "create", "core.code.installed")
    assert files["code-vasp.yaml"]["with_mpi"] is True
    assert "with_mpi" not in files["code-lmp.yaml"]
    assert "srun" in files["computer.yaml"]["mpirun_command"] or scheduler != "slurm"
    # the lines for the input are what the scheduler accepts, with the campaign's own defaults below them
    lines = text.partition("For the input of a campaign:")[2].partition("Then:")[0]
    data = yaml.safe_load(lines)
    campaign = check_campaign({**data, "dataset": ["x"], "label": "none"})
    options = campaign.job_options()
    resource = SchedulerFactory(SCHEDULERS[scheduler][0]).create_job_resource(**options["resources"])
    assert resource.get_tot_num_mpiprocs() in (1, 16)
    assert options["queue_name"] == "short"
    assert campaign.codes.lammps == "lmp@hpc"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --hostname"),
        (("--hostname", "x", "--worker", "aceal-worker", "--lammps", "/lmp"), "absolute path"),
        (("--hostname", "x", "--worker", "/w"), "give --lammps"),
    ],
)
def test_what_is_missing_is_named(cli, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in cli("setup-computer", *words, code=2)


@pytest.mark.long
def test_apply(tmp_path, aiida_profile):
    """The commands make computer and codes in a fresh profile."""
    folder = Path(sys.executable).parent
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("verdi", "presto", "-n", "--no-broker", "--profile-name", "fresh")
    words = ("--worker", folder / "aceal-worker", "--lammps", folder / "aceal-lmp", "--work-dir", tmp_path / "work")
    run(
        "aiida-aceal", "setup-computer", "-p", "fresh", "--label", "here", "--transport", "core.local",
        "--scheduler", "direct", "--cores", "1", "--poll", "2", "--safe-interval", "0", *map(str, words), "--apply",
    )  # fmt: skip
    assert {"aceal-worker@here", "lmp@here"} <= set(run("verdi", "-p", "fresh", "code", "list", "-r").split())
    assert "all 6 tests succeeded" in run("verdi", "-p", "fresh", "computer", "test", "here")
    script = tmp_path / "poll.py"
    asking = "print(load_computer('here').get_minimum_job_poll_interval())"
    script.write_text(f"from aiida.orm import load_computer\n{asking}\n")
    assert run("verdi", "-p", "fresh", "run", str(script)).split()[-1] == "2.0"
