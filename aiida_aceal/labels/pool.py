"""Labels of many configurations in parallel processes: one that fails, hangs or crashes costs only itself."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
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
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from aiida_aceal.common.errors import AceError
from aiida_aceal.labels.calculators import CalculatorSpec, compute_labels
from aiida_aceal.labels.limits import TimeLimits
from aiida_aceal.labels.signals import Stop

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
#: how processes are started; copies of the warm server (`aiida_aceal.worker.warm`) fork, others would copy threads
start_method = "spawn"
#: processes that end before they are ready, after which the whole batch is given up
_MAX_FALSE_STARTS = 3
#: seconds; the system cannot be told to wait for more than 24 days at once
_LONGEST_WAIT = 3600.0
#: exit codes of a calculator's process that somebody else ended: the kernel for want of memory, a user, the scheduler
_KILLED = tuple(-number for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGXCPU, signal.SIGHUP))
#: words of failures that may pass
_PASSING = re.compile(
    r"licen[cs]e|cannot allocate memory|no space left|stale file|resource temporarily|connection (reset|refused)", re.I
)


@dataclass
class Outcome:
    """What became of one configuration: ``labels`` or the ``reason`` why there are none; its cost in seconds.

    ``state``: ``failed`` says that the calculator cannot, ``lost`` that it was prevented for a reason that may pass
    (time, memory, a licence, a kill). ``interrupted`` was under way when the batch ended, ``waiting`` never begun;
    neither is a failure.
    """

    index: int
    state: Literal["labelled", "failed", "lost", "interrupted", "waiting"] = "labelled"
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

    @property
    def seconds(self) -> float:
        """How long it has been at it."""
        return time.monotonic() - self.started


def label_batch(
    configurations: Sequence[Any],
    spec: CalculatorSpec,
    workers: int = 1,
    threads: int = 1,
    limits: TimeLimits | None = None,
    budget: float | None = None,
    progress: Callable[[Outcome], None] | None = None,
    started: Callable[[int], None] | None = None,
    stop: Stop | None = None,
    **options: Any,
) -> list[Outcome]:
    """Label all configurations; outcomes come in their order.

    :param workers: processes that work side by side; each gets ``threads`` threads.
    :param limits: when one configuration is given up, or put off so that others have their turn.
    :param budget: seconds after which the batch ends with what is done.
    :param progress: called with each outcome of a configuration that was tried, as soon as it is there.
    :param started: called with the index of a configuration that is begun.
    :param stop: ends the batch as the budget does.
    :param options: of :func:`aiida_aceal.labels.calculators.compute_labels`.
    :raises AceError: the processes do not start.
    """
    deadline = None if budget is None else time.monotonic() + budget
    limits = limits or TimeLimits()
    outcomes: dict[int, Outcome] = {}
    waiting = deque(range(len(configurations)))
    put_off: set[int] = set()
    folder = Path(tempfile.mkdtemp(prefix="label-", dir=os.getcwd()))
    # a fork of a process with threads may hang; the time limit of the worker is one
    method = start_method if threading.active_count() == 1 else "spawn"
    context = multiprocessing.get_context(method)
    pool: list[_Process] = []
    false_starts = 0

    def start() -> None:
        number = f"{len(list(folder.iterdir()))}"
        (folder / number).mkdir()
        ours, theirs = context.Pipe()
        words = (theirs, str(folder / number), spec, options, threads if method == "fork" else None)
        process = context.Process(target=_serve, args=words)
        with _environment(threads):
            process.start()
        theirs.close()
        pool.append(_Process(process, ours, folder / number / "log"))

    def finish(outcome: Outcome) -> None:
        outcomes[outcome.index] = outcome
        if progress is not None and outcome.state not in ("interrupted", "waiting"):
            progress(outcome)

    def end(one: _Process, state: Any, reason: str) -> None:
        wall = one.seconds
        pool.remove(one)
        _kill(one)
        if one.index is not None:
            # the CPU time of a process that is gone is not known: it worked all the while
            finish(Outcome(one.index, state, None, reason, wall, wall))

    def end_all(reason: str) -> None:
        for one in list(pool):
            end(one, "interrupted", f"{reason}: under way")
        for index in waiting:
            begun = index in put_off
            words = "under way" if begun else "not started"
            finish(Outcome(index, "interrupted" if begun else "waiting", None, f"{reason}: {words}"))
        waiting.clear()

    def others_wait() -> bool:
        return any(index not in put_off for index in waiting)

    def limit_of(one: _Process) -> float:
        return limits.limit(len(configurations[one.index]), others_wait())

    def give_up_late() -> None:
        for one in [one for one in pool if one.index is not None]:
            limit = limit_of(one)
            if one.seconds <= limit:
                continue
            index = one.index
            if limits.is_provisional(others_wait()) and index not in put_off:
                put_off.add(index)
                limits.put_off()
                waiting.append(index)
                one.index = None
            end(one, "lost", limits.reason(limit))

    def pause() -> float | None:
        """Seconds until the next limit is reached, ``None`` if there is none."""
        times = [] if deadline is None else [deadline]
        times += [one.started + limit_of(one) for one in pool if one.index is not None]
        return min(max(0.0, min(times) - time.monotonic()) + 0.01, _LONGEST_WAIT) if times else None

    try:
        while waiting or any(one.index is not None for one in pool):
            if deadline is not None and time.monotonic() > deadline:
                end_all("out of time")
                break
            if stop is not None and stop.signal:
                end_all(f"ended by {stop.signal}")
                break
            give_up_late()
            busy = sum(one.index is not None for one in pool)
            if not (busy or waiting):
                break
            while len(pool) < min(workers, busy + len(waiting)):
                start()
            ready = wait([*([stop.pipe] if stop else []), *(one.pipe for one in pool)], timeout=pause())
            if stop is not None and stop.signal:
                continue  # what ended together with us is no failure
            for pipe in ready:
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
                    state = "lost" if code in _KILLED else "failed"
                    end(one, state, f"the calculator's process ended: {_how(code)}{_tail(one)}")
                    continue
                one.ready = True
                if isinstance(message, Outcome):
                    one.index = None
                    if message.labels is not None:
                        limits.learn(len(configurations[message.index]), message.wall_seconds)
                    finish(message)
                if waiting and one.index is None:
                    one.index, one.started = waiting.popleft(), time.monotonic()
                    if started is not None and one.index not in put_off:
                        started(one.index)
                    pipe.send((one.index, _bare(configurations[one.index])))
    finally:
        for one in pool:
            _kill(one)
        shutil.rmtree(folder, ignore_errors=True)
    return [outcomes[index] for index in range(len(configurations))]


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


def _serve(
    pipe: Connection, folder: str, spec: CalculatorSpec, options: dict[str, Any], threads: int | None = None
) -> None:
    """Label what comes through the pipe until it is closed.

    :param threads: of libraries that were loaded before this process was forked
    """
    os.setpgid(0, 0)  # so that a program started by the calculator can be ended with it
    if threads is not None:
        threadpool_limits(threads)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who is asked to end is our parent, and it ends us
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
        outcome.reason, outcome.state = "out of memory", "lost"
    except Exception as error:
        first = " ".join(str(error).split())[:300]
        outcome.reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if outcome.reason is not None and outcome.state != "lost":
        outcome.state = "lost" if _PASSING.search(outcome.reason) else "failed"
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
