"""Ends a process with all that was started below it, when nothing runs it any more; and says what runs it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida.orm import CalcJobNode, ProcessNode
from plumpy.process_states import ProcessState

if TYPE_CHECKING:
    from aiida.orm import AuthInfo

#: extra of a campaign: the process of the operating system that runs it, if it is not the daemon that does
RUNS_IN = "aceal_runs_in"
#: extra of a campaign that is to end after the generation under way
STOP = "aceal_stop"


def sign(node: ProcessNode) -> None:
    """Note that this process of the operating system runs the node."""
    node.base.extras.set(RUNS_IN, {"host": socket.gethostname(), "pid": os.getpid(), "since": _since(os.getpid())})


def runs_in(node: ProcessNode) -> dict[str, Any] | None:
    """The process of the operating system that ran the node and whether it is ``alive`` (``None``: on another host).

    ``None`` for a node that the daemon runs.
    """
    while node.caller is not None:
        node = node.caller
    noted = node.base.extras.get(RUNS_IN, None)
    if not noted:
        return None
    alive = _since(noted["pid"]) == noted["since"] if noted["host"] == socket.gethostname() else None
    return {**noted, "alive": alive}


def _since(pid: int) -> float | None:
    """When a process began, which tells it from a later one of the same number; ``None`` if there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time(), 2)
    except psutil.Error:
        return None


def end(process: ProcessNode, reason: str) -> tuple[int, list[str]]:
    """Close a process and everything below it that has not terminated; jobs are taken from their scheduler.

    Only for processes that nothing runs any more: a runner that still holds them would go on.

    :returns: number of processes ended, and what went wrong with jobs of computers that cannot be reached
    """
    nodes = [node for node in [process, *process.called_descendants] if not node.is_terminated]
    problems = []
    for jobs in _by_computer(nodes).values():
        problems += _cancel(jobs)
    for node in reversed(nodes):  # children first
        node.set_process_state(ProcessState.KILLED)
        node.set_process_status(f"Killed: {reason}")
        node.delete_checkpoint()
        if not node.is_sealed:
            node.seal()
    return len(nodes), problems


def _by_computer(nodes: list[ProcessNode]) -> dict[str, list[CalcJobNode]]:
    found: dict[str, list[CalcJobNode]] = {}
    for node in nodes:
        if isinstance(node, CalcJobNode) and node.get_job_id() is not None:
            found.setdefault(node.computer.uuid, []).append(node)
    return found


def _cancel(jobs: list[CalcJobNode]) -> list[str]:
    """Take jobs of one computer from its scheduler."""
    from aiida.engine.daemon.execmanager import kill_calculation

    problems = []
    try:
        with _transport(jobs[0].get_authinfo()) as transport:
            for job in jobs:
                try:
                    kill_calculation(job, transport)
                except Exception as error:  # of the scheduler's plugin; the next job may do better
                    if not _is_gone(error):
                        problems.append(f"{job.process_label}<{job.pk}> (job {job.get_job_id()}): {error}")
    except Exception as error:  # of the transport's plugin
        problems.append(f"{jobs[0].computer.label}: {type(error).__name__}: {error}")
    return problems


@contextlib.contextmanager
def _transport(authinfo: AuthInfo) -> Iterator[Any]:
    transport = authinfo.get_transport()
    with transport:
        yield transport


def _is_gone(error: Exception) -> bool:
    """core.direct asks for the children of a process that may have ended already."""
    import psutil

    return isinstance(error, psutil.NoSuchProcess)
