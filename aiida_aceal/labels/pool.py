"""Labels of many configurations in parallel processes: one that fails, hangs or crashes costs only itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from aiida_aceal.ace.errors import AceError
from aiida_aceal.labels.calculators import CalculatorSpec, compute_labels

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
#: processes that end before they are ready, after which the whole batch is given up
_MAX_FALSE_STARTS = 3


@dataclass
class Outcome:
    """What became of one configuration: ``labels`` or the ``reason`` why there are none; its cost in seconds."""

    index: int
    labels: dict[str, Any] | None = None
    reason: str | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class _Process:
    process: Any
    pipe: Connection
    log: Path
    ready: bool = False
    index: int | None = None
    started: float = field(default_factory=time.monotonic)


def label_batch(
    configurations: Sequence[Any],
    spec: CalculatorSpec,
    workers: int = 1,
    threads: int = 1,
    timeout: float | None = None,
    budget: float | None = None,
    progress: Callable[[Outcome], None] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Label all configurations; outcomes come in their order.

    :param workers: processes that work side by side; each gets ``threads`` threads.
    :param timeout: seconds after which one configuration is given up.
    :param budget: seconds after which all that is not done is given up (what is done is kept).
    :param options: of :func:`aiida_aceal.labels.calculators.compute_labels`.
    :raises AceError: the processes do not start.
    """
    deadline = None if budget is None else time.monotonic() + budget
    outcomes: dict[int, Outcome] = {}
    waiting = deque(range(len(configurations)))
    folder = Path(tempfile.mkdtemp(prefix="label-", dir=os.getcwd()))
    context = multiprocessing.get_context("spawn")
    pool: list[_Process] = []
    false_starts = 0

    def start() -> None:
        number = f"{len(list(folder.iterdir()))}"
        (folder / number).mkdir()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, str(folder / number), spec, options))
        with _environment(threads):
            process.start()
        theirs.close()
        pool.append(_Process(process, ours, folder / number / "log"))

    def finish(outcome: Outcome) -> None:
        outcomes[outcome.index] = outcome
        if progress is not None:
            progress(outcome)

    def give_up(one: _Process, reason: str) -> None:
        wall = time.monotonic() - one.started
        pool.remove(one)
        _kill(one)
        if one.index is not None:
            # the CPU time of a process that is gone is not known: it worked all the while
            finish(Outcome(one.index, None, reason, wall, wall))

    try:
        while waiting or any(one.index is not None for one in pool):
            now = time.monotonic()
            if deadline is not None and now > deadline:
                for one in list(pool):
                    give_up(one, "out of time: the batch as a whole took too long")
                while waiting:
                    finish(Outcome(waiting.popleft(), None, "out of time: not started"))
                break
            for one in list(pool):
                if one.index is not None and timeout is not None and now - one.started > timeout:
                    give_up(one, f"no result after {timeout:g} s")
            busy = sum(one.index is not None for one in pool)
            while len(pool) < min(workers, busy + len(waiting)):
                start()
            for pipe in wait([one.pipe for one in pool], timeout=_pause(pool, timeout, deadline)):
                one = next(o for o in pool if o.pipe is pipe)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    one.process.join(1.0)
                    code = one.process.exitcode
                    if not one.ready:
                        false_starts += 1
                        if false_starts >= _MAX_FALSE_STARTS:
                            raise AceError(f"the labelling processes do not start: {_how(code)}{_tail(one)}") from None
                    give_up(one, f"the calculator's process ended: {_how(code)}{_tail(one)}")
                    continue
                one.ready = True
                if isinstance(message, Outcome):
                    one.index = None
                    finish(message)
                if waiting and one.index is None:
                    one.index, one.started = waiting.popleft(), time.monotonic()
                    pipe.send((one.index, _bare(configurations[one.index])))
    finally:
        for one in pool:
            _kill(one)
        shutil.rmtree(folder, ignore_errors=True)
    return [outcomes[index] for index in range(len(configurations))]


def _pause(pool: list[_Process], timeout: float | None, deadline: float | None) -> float | None:
    """Seconds until the next limit is reached, ``None`` if there is none."""
    limits = [] if deadline is None else [deadline]
    if timeout is not None:
        limits += [one.started + timeout for one in pool if one.index is not None]
    return max(0.0, min(limits) - time.monotonic()) + 0.01 if limits else None


def _bare(atoms: Any) -> Any:
    """Copy with nothing but what a calculator may use."""
    copy = atoms.copy()
    copy.info, copy.calc = {}, None
    return copy


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Thread counts for a process about to start: libraries read them when they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _kill(one: _Process) -> None:
    """End the process and whatever programs it started."""
    with contextlib.suppress(OSError):
        if one.process.pid and os.getpgid(one.process.pid) == one.process.pid:
            os.killpg(one.process.pid, signal.SIGKILL)
    one.process.kill()
    one.process.join()
    one.pipe.close()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _tail(one: _Process, limit: int = 300) -> str:
    """Last words of the process."""
    try:
        lines = one.log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    words = " / ".join(line.strip() for line in lines if line.strip())[-limit:]
    return f" ({words})" if words else ""


# --- in the child ------------------------------------------------------------------------------------------------


def _serve(pipe: Connection, folder: str, spec: CalculatorSpec, options: dict[str, Any]) -> None:
    """Label what comes through the pipe until it is closed."""
    os.setpgid(0, 0)  # so that a program started by the calculator can be ended with it
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.chdir(folder)
    # what calculators print must not be taken for words of the worker
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    spec.create()  # imports are not part of the first configuration's time
    pipe.send("ready")
    while True:
        try:
            index, atoms = pipe.recv()
        except (EOFError, OSError):
            return
        os.makedirs("work", exist_ok=True)
        os.chdir("work")
        outcome = label_one(index, atoms, spec, options)
        os.chdir(folder)
        shutil.rmtree("work", ignore_errors=True)
        pipe.send(outcome)


def label_one(index: int, atoms: Any, spec: CalculatorSpec, options: dict[str, Any]) -> Outcome:
    """Outcome of one configuration, computed in this process; any exception of the calculator is a reason."""
    outcome = Outcome(index)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    try:
        outcome.labels = compute_labels(atoms, spec.create(), **options)
    except AceError as error:
        outcome.reason = str(error)
    except MemoryError:
        outcome.reason = "out of memory"
    except Exception as error:
        first = " ".join(str(error).split())[:300]
        outcome.reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    outcome.wall_seconds, outcome.cpu_seconds = time.perf_counter() - wall, _cpu_seconds() - cpu
    return outcome


def _cpu_seconds() -> float:
    """CPU time of this process and of the programs it started and waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)
