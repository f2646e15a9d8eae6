"""How many threads heavy loops may use."""

from __future__ import annotations

import os

from aiida_aceal.ace.errors import AceError


def thread_count(threads: int | None = None) -> int:
    """``threads`` if given, else OMP_NUM_THREADS, else the cores this process may run on."""
    if threads is None:
        text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        if text.isdigit() and int(text) > 0:
            return int(text)
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if int(threads) < 1:
        raise AceError(f"threads = {threads} must be at least 1")
    return int(threads)
