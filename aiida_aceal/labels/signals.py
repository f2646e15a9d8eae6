"""The end in good order: a signal that asks a process to end is noted, and what is there is written first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: what schedulers, `kill` and Ctrl-C send; sent again, it ends the process at once
ENDING = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether the process was asked to end. ``pipe`` can be waited for; it becomes readable then."""

    def __init__(self) -> None:
        self.pipe, self._write = os.pipe()
        self.signal: str | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.signal = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)
        os.write(self._write, b"x")

    def close(self) -> None:
        """Close both ends of the pipe."""
        os.close(self.pipe)
        os.close(self._write)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Note signals of `ENDING` while the block runs; outside of the main thread, where that cannot be, none comes."""
    stop = Stop()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in ENDING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()
