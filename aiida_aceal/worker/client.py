"""The side of the console script: hands its command line, environment and open files to a warm server, and waits.

For the shell, the scheduler and whoever sends signals this process is the job.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from typing import Any

#: signals that are passed on
PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CONNECT_SECONDS = 5.0
#: length of the number in front of a request
HEAD = 8


def situation() -> dict[str, Any]:
    """What a process is and inherits beyond its environment; a server of another kind declines."""
    names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    return {
        "limits": {name: list(resource.getrlimit(getattr(resource, name))) for name in names},
        "nice": os.nice(0),
        "user": [os.getuid(), os.getgid()],
        "installation": [sys.prefix, sys.version, __file__],
    }


def run_there(address: str, program: str) -> None:
    """Have ``program`` run by the server at ``address`` and end with its exit status.

    Returns if there is no server, or if it declines: then nothing has happened yet.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(address)
            connection.settimeout(None)
            umask = os.umask(0)
            os.umask(umask)
            cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
            request = {
                "program": program, "arguments": sys.argv[1:], "folder": os.getcwd(), "umask": umask, "cores": cores,
                "environment": dict(os.environ), **situation(),
            }  # fmt: skip
            data = json.dumps(request).encode()
            socket.send_fds(connection, [f"{len(data):>{HEAD}}".encode()], [0, 1, 2])
            connection.sendall(data)
            lines = connection.makefile("r")
            answer = lines.readline()
        except OSError:
            return
        if not answer.startswith("runs "):
            return
        _wait(lines, int(answer.split()[1]))


def _wait(lines: Any, pid: int) -> None:
    def pass_on(number: int, _: Any) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(pid, number)

    for number in PASSED:
        signal.signal(number, pass_on)
    answer = lines.readline()
    if not answer.startswith("ended "):
        print("Killed (the warm server has gone)", file=sys.stderr, flush=True)
        os._exit(137)
    status = int(answer.split()[1])
    if status < 0:  # end in the same way, for the shell to see
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)
