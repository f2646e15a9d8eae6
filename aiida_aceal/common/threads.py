"""How many threads a process may use."""

from __future__ import annotations

import os

from .errors import AceError


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int | None = None) -> int:
    """``threads`` if given, else ``OMP_NUM_THREADS``, else the cores this process may run on.

    OpenMP takes a list for nested levels (``4,2``); ours is the outermost level, the first number. What is no positive
    number does not count, as with OpenMP.

    :raises AceError: ``threads`` is less than 1.
    """
    if threads is None:
        text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        return int(text) if text.isdecimal() and int(text) > 0 else available_cores()
    if int(threads) < 1:
        raise AceError(f"threads = {threads} must be at least 1")
    return int(threads)
