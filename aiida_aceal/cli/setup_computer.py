"""``aiida-aceal setup-computer``: a cluster and its codes, as files for ``verdi``."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from aiida_aceal.cli.params import PROFILE

#: option -> question, default
QUESTIONS: dict[str, tuple[str, Any]] = {
    "label": ("Name of the cluster in AiiDA", "cluster"),
    "hostname": ("Host, as in your ssh configuration", None),
    "scheduler": ("Scheduler", "slurm"),
    "work_dir": ("Folder for jobs on the cluster", "/scratch/{username}/aiida"),
    "worker": ("Path of aceal-worker on the cluster", None),
    "lammps": ("Path of aceal-lmp, or of LAMMPS with ML-PACE, on the cluster", None),
}


@click.command()
@PROFILE
@click.option("--label", help="Name of the cluster in AiiDA [default: cluster].")
@click.option("--hostname", help="Host, as in your ssh configuration.")
@click.option("--scheduler", type=click.Choice(["slurm", "pbspro", "torque", "sge", "direct"]), help="Its scheduler.")
@click.option(
    "--transport", type=click.Choice(["core.ssh_async", "core.ssh", "core.local"]), default="core.ssh_async",
    show_default=True, help="How AiiDA gets there.",
)  # fmt: skip
@click.option("--work-dir", help="Folder for jobs on the cluster.")
@click.option("--worker", help="Path of aceal-worker there.")
@click.option("--lammps", help="Path of aceal-lmp there, or of LAMMPS with ML-PACE.")
@click.option("--vasp", help="Path of VASP there.")
@click.option("--pw", help="Path of pw.x there.")
@click.option("--cores", type=click.IntRange(min=1), default=16, show_default=True, help="Cores of a job on one node.")
@click.option(
    "--mpirun", help="How MPI programs start [default: srun -n {tot_num_mpiprocs} with Slurm, else mpirun -np ...]."
)  # fmt: skip
@click.option("--prepend", default="", help="Shell lines before every job, such as module load ...")
@click.option("--queue", help="Queue or partition, for the lines of the input.")
@click.option(
    "--login-shell/--no-login-shell", default=True, show_default=True,
    help="Whether jobs and commands read the files of a login shell. Without, nothing that they print is in the way.",
)  # fmt: skip
@click.option("--poll", type=click.FloatRange(min=0), default=30.0, show_default=True,
              help="Seconds between two looks at the queue.")  # fmt: skip
@click.option(
    "--safe-interval", type=click.FloatRange(min=0), default=5.0, show_default=True,
    help="Seconds between two connections.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder for the files [default: "
              "the name of the cluster].")  # fmt: skip
@click.option("--apply", is_flag=True, help="Run the commands of verdi at once.")
def command(profile, output, apply, **given) -> None:
    """Describe a cluster to AiiDA: write YAML for `verdi computer` and `verdi code`, and show the commands.

    What is not given as an option is asked for, if there is a terminal.
    """
    from aiida_aceal.common.atomic import require_folder, write_text
    from aiida_aceal.inputs.cluster import Cluster

    paths = {"aceal-worker": "worker", "lmp": "lammps", "vasp": "vasp", "pw": "pw"}
    given = _ask(given)
    executables = {code: given.pop(option) for code, option in paths.items()}
    for name, path in executables.items():
        if path and not path.startswith("/"):
            raise click.UsageError(f"--{paths[name]} {path}: give the absolute path on the cluster")
    mpirun = (
        given.pop("mpirun") or ("srun -n" if given["scheduler"] == "slurm" else "mpirun -np") + " {tot_num_mpiprocs}"
    )
    cluster = Cluster(executables={name: path for name, path in executables.items() if path}, mpirun=mpirun, **given)
    folder = output or Path(cluster.label)
    folder.mkdir(parents=True, exist_ok=True)
    require_folder(folder, "choose another folder with -o")
    for name, text in cluster.files().items():
        write_text(folder / name, text)
    commands = cluster.commands(str(folder), profile)
    click.echo(f"Files for verdi: {folder}/. " + ("" if apply else "The commands:"))
    for words in commands:
        if apply:
            _run(words)
        else:
            click.echo(f"  {shlex.join(words)}")
    if apply:
        _set_poll(profile, cluster.label, cluster.poll)
    else:
        click.echo("or all of them: the same command with --apply, which also sets how often the queue is looked at.")
    click.echo(f"For the input of a campaign:\n\n{cluster.input_lines()}\n")
    option = f" --profile {profile}" if profile else ""
    click.echo(f"Then: aiida-aceal check --remote input.yaml{option}")


def _ask(given: dict[str, Any]) -> dict[str, Any]:
    """What is missing, asked for on a terminal."""
    found = dict(given)
    for name, (question, default) in QUESTIONS.items():
        if found[name] is not None:
            continue
        if sys.stdin.isatty():
            found[name] = click.prompt(question, default=default)
        elif default is not None:
            found[name] = default
        elif name == "hostname" and found["transport"] == "core.local":
            found[name] = "localhost"
        else:
            raise click.UsageError(f"give --{name}: {question[0].lower()}{question[1:]}")
    return found


def _run(words: list[str]) -> None:
    """Run a command of the verdi beside this Python.

    :raises click.ClickException: it failed, with its words
    """
    verdi = str(Path(sys.executable).with_name(words[0]))
    done = subprocess.run([verdi, *words[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    click.echo(f"  {shlex.join(words)}")
    if done.returncode:
        raise click.ClickException((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])


def _set_poll(profile: str | None, label: str, seconds: float) -> None:
    from aiida.manage.configuration import load_profile
    from aiida.orm import load_computer

    load_profile(profile, allow_switch=True)
    load_computer(label).set_minimum_job_poll_interval(seconds)
