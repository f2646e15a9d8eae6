"""Threads over blocks of rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from aiida_aceal.common.threads import thread_count

from . import kernels


class Team:
    """Python threads over row blocks, each with BLAS held to one thread.

    Two threads of our own scale better than those of BLAS on a busy machine (which wait by spinning), and the result
    does not depend on their number.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = thread_count(threads)

    def __enter__(self) -> Team:
        self._limits = threadpool_limits(1, user_api="blas")
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._limits.restore_original_limits()

    def map(self, function: Callable, items: Iterable) -> Iterator:
        """As ``map``, by the threads."""
        return map(function, items) if self._pool is None else self._pool.map(function, items)

    def matmul(self, a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``a @ b`` by blocks of rows."""
        out = np.empty((len(a), b.shape[1])) if out is None else out
        self.each(lambda begin, end: np.matmul(a[begin:end], b, out=out[begin:end]), len(a))
        return out

    def each(self, function: Callable[[int, int], None], n: int, smallest: int = 512) -> None:
        """``function(begin, end)`` on blocks of [0, n)."""
        parts = max(1, min(self.threads, n // smallest))
        edges = [n * p // parts for p in range(parts + 1)]
        if parts == 1 or self._pool is None:
            function(0, n)
            return
        for done in [self._pool.submit(function, a, b) for a, b in itertools.pairwise(edges)]:
            done.result()


def row_blocks(n: int, k: int, megabytes: float = 64.0) -> Iterator[slice]:
    """Slices of [0, n) whose [rows, k] float64 block stays below ``megabytes``."""
    step = max(1, int(megabytes * 2**20 / (8 * k)))
    for begin in range(0, n, step):
        yield slice(begin, min(n, begin + step))


def largest_coefficients(c: np.ndarray, team: Team) -> np.ndarray:
    """[n] ``max_j |c[i, j]|``."""
    out = np.empty(len(c))
    team.each(lambda a, b: kernels.row_maxima(c[a:b], out[a:b]), len(c))
    return out
