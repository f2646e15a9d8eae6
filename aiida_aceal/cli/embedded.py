"""Runs a process of AiiDA in this process of the operating system, and ends it in good order.

Everything happens in one thread: a coroutine beside the process on the runner's own event loop reads the graph, so no
data base session is shared between threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

POLL_SECONDS = 0.3
#: what is granted to cancelled tasks
LAST_SECONDS = 5.0
#: exit status of a command that a second Ctrl-C ends
AT_ONCE = 130


class Interrupts:
    """Ctrl-C and SIGTERM: the first asks for a good end, the second ends at once.

    A signal arrives anywhere, also within a transaction of the data base, so the handler itself touches nothing: the
    event loop stops when it next has the word.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reason: str | None = None

    def end(self, reason: str) -> None:
        """Stop the loop; the first reason counts."""
        self.reason = self.reason or reason
        self.loop.stop()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Both signals come to us in this context."""
        before = {number: signal.signal(number, self._arrived) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _arrived(self, number: int, _: Any) -> None:
        if self.reason is not None:
            os.write(2, b"\nEnded at once; aiida-aceal resume tidies up and goes on.\n")
            os._exit(AT_ONCE)
        self.reason = "interrupted by the user" if number == signal.SIGINT else "terminated by a signal"
        os.write(2, b"\nEnding all jobs (a second Ctrl-C ends at once) ...\n")
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process has ended
            self.loop.call_soon_threadsafe(self.loop.stop)


def run_watched(
    builder: Any,
    look: Callable[[ProcessNode], str | None],
    say: Callable[[str], None] = lambda text: None,
    started: Callable[[ProcessNode], None] = lambda node: None,
) -> ProcessNode:
    """Run a process in this interpreter, calling ``look`` with its node a few times per second.

    On Ctrl-C, or if ``look`` returns a reason, the process ends with all its children and their jobs, and the nodes say
    why. ``started`` is called with the node when it exists, ``say`` with what the user should know.
    """
    from aiida.engine.utils import loop_scope
    from aiida.manage import get_manager

    from aiida_aceal.cli.engine import EmbeddedRunner
    from aiida_aceal.worker.warm import warm_server
    from aiida_aceal.workflows.stopping import end, sign

    get_manager().reset_runner()  # closes its loop, which is that of the thread
    runner = EmbeddedRunner()
    get_manager().set_runner(runner)
    interrupts = Interrupts(runner.loop)
    with warm_server(), loop_scope(runner.loop), interrupts.caught():
        process = runner.instantiate_process(builder)
        node = process.node
        sign(node)
        started(node)

        async def watch() -> None:
            while not process.has_terminated():
                reason = look(node)
                if reason:
                    interrupts.end(reason)
                await asyncio.sleep(POLL_SECONDS)

        task = runner.loop.create_task(watch())
        with contextlib.suppress(Exception):  # how it ended stands in the node
            process.execute()
        if interrupts.reason is None:
            task.cancel()
            with contextlib.suppress(BaseException):
                runner.loop.run_until_complete(task)
        else:
            for line in end(node, interrupts.reason)[1]:
                say(line)
            _forget(runner)
        look(node)
        return node


def _forget(runner: Any) -> None:
    """Let what still waits on the loop come to its end: it belongs to processes that are closed already."""
    from aiida.manage import get_manager

    tasks = asyncio.all_tasks(runner.loop)
    logging.disable(logging.CRITICAL)  # their last words are that the nodes are closed
    runner.loop.set_exception_handler(lambda loop, context: None)
    try:
        for task in tasks:
            task.cancel()
        if tasks:
            runner.loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_SECONDS))
    finally:
        logging.disable(logging.NOTSET)
    get_manager().reset_runner()
