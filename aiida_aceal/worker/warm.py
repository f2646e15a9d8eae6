"""Warm server: a process that has imported everything and loaded all kernels, and forks for each job.

Starting Python, importing NumPy, SciPy and numba and loading the compiled kernels takes a job of a second longer than
its work. Campaigns that run in the command itself start this server; `aceal-worker` and `aceal-lmp`, called by the job
scripts of this machine, find it by an environment variable, hand over their command line, environment and open files,
and wait. A job is a fresh copy of the server and computes what it would compute alone; the server keeps nothing of it.

It listens on a socket in a folder that only its user can enter, and ends with the process that started it. It declines
whatever it cannot do exactly as a new process would (other resource limits, another thread library's settings, ...);
the job then starts by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from aiida_aceal.worker.client import HEAD, situation
from aiida_aceal.worker.start import ADDRESS

#: what libraries read from the environment when they are loaded; the number of threads we set ourselves
_READ_AT_LOAD = (
    "BLIS_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "NUMBA_", "NUMEXPR_", "OMP_", "OPENBLAS_", "PYTHON", "VECLIB_",
)  # fmt: skip
_THREADS = "OMP_NUM_THREADS"
#: what the server says: jobs that it declined, failures of its start
LOG_FILE = "aceal-warm.log"
#: longest path of a socket that all systems take
_LONGEST = 100
_MODULES = (
    "scipy.linalg", "scipy.optimize", "scipy.spatial", "ase.io.extxyz", "ase.build", "ase.calculators.emt",
    "ase.md.langevin", "ase.neighborlist", "threadpoolctl",
    *(f"aiida_aceal.{name}" for name in (
        "common.configurations", "common.extxyz", "common.archives", "ace", "ace.design", "ace.derivatives",
        "uncertainty", "uncertainty.build", "uncertainty.active_set", "fitting", "fitting.job", "fitting.linear",
        "selection", "selection.select", "exploration", "labels.pool", "labels.progress", "worker.main",
        "worker.command", "lammps.main", "lammps.library", "lammps.callback", "lammps.control", "lammps.pace",
    )),
)  # fmt: skip


# --- who starts it -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def warm_server() -> Iterator[None]:
    """Jobs that are started on this machine while the block runs find a warm server, as soon as it is warm.

    Without one, they start by themselves: nothing depends on it. A server that the environment names already is used.
    """
    if os.environ.get(ADDRESS) or not hasattr(socket, "send_fds"):
        yield
        return
    folder = tempfile.mkdtemp(prefix="aceal-warm-")  # only this user can enter it
    address = str(Path(folder) / "socket")
    server = None
    try:
        if len(address) <= _LONGEST:
            from aiida_aceal.common.threads import available_cores

            environment = {**os.environ, _THREADS: str(available_cores())}
            words = [sys.executable, "-m", "aiida_aceal.worker.warm", address]
            log = open(Path(folder) / LOG_FILE, "wb")  # noqa: SIM115 - closed below
            server = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True,
                cwd=folder,  # where no other copy of this package can be found before the installed one
            )  # fmt: skip
            log.close()
            os.environ[ADDRESS] = address
        yield
    finally:
        if server is not None:
            os.environ.pop(ADDRESS, None)
            with contextlib.suppress(OSError):
                server.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(3.0)  # a job that still runs is not ours to end
        shutil.rmtree(folder, ignore_errors=True)


# --- the server ----------------------------------------------------------------------------------------------------


def warm_up() -> None:
    """Import what jobs need, and load the kernels by using them: a small fit, its active set, an evaluation."""
    from aiida_aceal.jobs import find_job, own_names

    for name in own_names():
        find_job(name)
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            import_module(name)
    here = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="aceal-warm-") as folder:
        os.chdir(folder)
        try:
            _exercise()
        finally:
            os.chdir(here)


def _exercise() -> None:
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator
    from click.testing import CliRunner

    from aiida_aceal.ace import build_potential
    from aiida_aceal.common.configurations import write_configurations
    from aiida_aceal.worker.main import main

    frames = []
    for seed in range(4):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    write_configurations("data.extxyz", frames)
    description = {"elements": ["Cu"], "cutoff": 4.5, "nradmax_by_orders": [3, 2], "lmax_by_orders": [0, 1]}
    build_potential(description, seed=0).write("basis.yaml")
    Path("fit.yaml").write_text("potential: basis.yaml\ndata: data.extxyz\noutput: pot.yaml\nreport: fit.json\n")
    run = CliRunner().invoke
    for words in (
        ("fit", "fit.yaml"),
        ("active-set", "pot.yaml", "data.extxyz", "-o", "set.asi"),
        ("evaluate", "pot.yaml", "data.extxyz", "--asi", "set.asi", "--report", "report.json"),
    ):
        result = run(main, list(words))
        if result.exit_code:
            print(words[0], result.output, result.exception, file=sys.stderr, flush=True)


class Server:
    """Forks for each connection; a connection that is closed before its job has ended takes the job with it.

    :param address: path of the socket
    :param environment: what the process was started with
    """

    def __init__(self, address: str, environment: dict[str, str]) -> None:
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, socket.socket] = {}
        self.listener: socket.socket | None = socket.socket(socket.AF_UNIX)
        self.listener.bind(address)
        self.listener.listen(64)
        self.inherited = situation()
        self.environment = _decisive(environment)
        self.wakes, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for source in (self.listener, 0, self.wakes):
            self.selector.register(source, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until standard input ends, and the last job with it."""
        while self.listener is not None or self.jobs:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.accept()
                elif key.fileobj == 0:
                    if not os.read(0, 1024):
                        self.stop_listening()
                elif key.fileobj == self.wakes:
                    os.read(self.wakes, 1024)
                    self.reap()
                else:
                    self.abandoned(key.fileobj)

    def stop_listening(self) -> None:
        """The process that started us has ended."""
        self.selector.unregister(0)
        if self.listener is not None:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None

    def accept(self) -> None:
        """Fork, or decline."""
        connection, _ = self.listener.accept()
        connection.settimeout(5.0)
        files: list[int] = []
        try:
            head, files, _, _ = socket.recv_fds(connection, HEAD, 3)
            request = json.loads(_read(connection, int(head)))
            if not self.can_do(request, files):
                connection.sendall(b"no\n")
                connection.close()
                return
            connection.settimeout(None)
            pid = os.fork()
            if pid == 0:
                run_forked(request, files)
            self.jobs[pid] = connection
            self.selector.register(connection, selectors.EVENT_READ)
            connection.sendall(f"runs {pid}\n".encode())
        except (OSError, ValueError, KeyError):
            if connection not in self.jobs.values():
                connection.close()
        finally:
            for number in files:
                os.close(number)

    def can_do(self, request: dict[str, Any], files: list[int]) -> bool:
        """Whether a copy of this process would be as good as a new one."""
        differ = [name for name, value in self.inherited.items() if request[name] != value]
        theirs = _decisive(request["environment"])
        differ += sorted(dict(theirs.items() ^ self.environment.items()))
        if len(files) != 3 or request["program"] not in _PROGRAMS:
            differ.append("request")
        if threading.active_count() > 1:
            differ.append("threads of this process")
        if differ:
            print(f"declined {request['program']}: {', '.join(differ)}", file=sys.stderr, flush=True)
        return not differ

    def reap(self) -> None:
        """Tell those who wait how their jobs ended."""
        for pid, connection in list(self.jobs.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.jobs[pid]
                with contextlib.suppress(KeyError):
                    self.selector.unregister(connection)
                with contextlib.suppress(OSError):
                    connection.sendall(f"ended {os.waitstatus_to_exitcode(status)}\n".encode())
                connection.close()

    def abandoned(self, connection: Any) -> None:
        """Who waited was killed: so is the job."""
        self.selector.unregister(connection)
        for pid, one in self.jobs.items():
            if one is connection:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)


def _decisive(environment: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in environment.items() if key.startswith(_READ_AT_LOAD) and key != _THREADS}


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(min(1 << 16, length - len(data)))
        if not part:
            raise OSError("cut off")
        data += part
    return data


# --- the job -------------------------------------------------------------------------------------------------------


def _worker(program: str) -> None:
    from aiida_aceal.worker.main import main

    main(prog_name=program)


def _lammps(program: str) -> None:
    from aiida_aceal.lammps.main import main

    main()


_PROGRAMS = {"aceal-worker": _worker, "aceal-lmp": _lammps}


def run_forked(request: dict[str, Any], files: list[int]) -> None:
    """Become the process that was asked for; does not return."""
    from aiida_aceal.labels import pool

    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.closerange(3, 1024)
        os.chdir(request["folder"])
        os.umask(request["umask"])
        if request["cores"] is not None:
            os.sched_setaffinity(0, request["cores"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.environ.pop(ADDRESS, None)
        sys.argv = [request["program"], *request["arguments"]]
        pool.start_method = "fork"  # what its processes would import is there already
        _set_threads()
        _PROGRAMS[request["program"]](request["program"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status & 0xFF)


def _set_threads() -> None:
    """The libraries have read the number of threads of the server when they were loaded."""
    from threadpoolctl import threadpool_info, threadpool_limits

    from aiida_aceal.common.threads import thread_count

    if threadpool_info():
        threadpool_limits(thread_count())


def _tidy(address: Path) -> None:
    """Remove what `warm_server` made, nothing else: somebody may have named a socket in a folder of his own."""
    with contextlib.suppress(OSError):
        address.unlink()
        (address.parent / LOG_FILE).unlink()
        address.parent.rmdir()


if __name__ == "__main__":
    given = dict(os.environ)  # libraries add to it
    try:
        warm_up()
        Server(sys.argv[1], given).serve()
    finally:  # who started us may have been killed, and cannot tidy up
        _tidy(Path(sys.argv[1]))
