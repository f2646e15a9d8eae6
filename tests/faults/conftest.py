"""A Slurm of this machine's own, and codes behind it."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "workflows")]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """Slurm with two cores, or a plain reason why there is none."""
    from small_slurm import SmallSlurm, why_not

    reason = why_not()
    if reason:
        pytest.skip(reason)
    with SmallSlurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def slurm_codes(slurm, aiida_profile, tmp_path):
    """Executable -> code on a computer with ``core.slurm``."""
    from aiida.orm import Computer, InstalledCode

    computer = Computer(
        label="small-slurm", hostname="localhost", transport_type="core.local", scheduler_type="core.slurm",
        workdir=str(tmp_path / "work"),
    ).store()  # fmt: skip
    computer.set_minimum_job_poll_interval(1.0)
    computer.set_default_mpiprocs_per_machine(1)
    computer.configure(safe_interval=0, use_login_shell=False)
    found = {}
    for name, plugin in (("aceal-worker", "aceal.evaluate"), ("aceal-lmp", "aceal.lammps")):
        path = Path(sys.executable).parent / name
        found[name] = InstalledCode(
            label=name, computer=computer, filepath_executable=str(path), default_calc_job_plugin=plugin
        )
        found[name].with_mpi = False
        found[name].store()
    return found
