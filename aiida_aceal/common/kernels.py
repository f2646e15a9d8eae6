"""``njit`` of numba whose cache on disk may be damaged or full: the kernel is compiled anew, the work goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile


class _ForgivingCache(IndexDataCacheFile):
    """Index and data of one kernel; files that cannot be read count as absent and are written anew."""

    def load(self, key: Any) -> Any:
        try:
            return super().load(key)
        except Exception:  # a truncated pickle raises anything
            return None

    def save(self, key: Any, data: Any) -> None:
        try:
            try:
                super().save(key, data)
            except OSError:
                raise
            except Exception:  # the index is damaged
                self.flush()
                super().save(key, data)
        except OSError as error:
            warnings.warn(
                f"a compiled kernel is not kept ({error.strerror or error}): {self._index_path}", stacklevel=2
            )


def njit(signature: Callable | str | None = None, **options: Any) -> Callable:
    """:func:`numba.njit`, bare, with options or with a signature; ``cache=True``: a damaged file is thrown away."""
    if callable(signature):
        return njit(**options)(signature)

    def decorate(function: Callable) -> Callable:
        compiled = numba.njit(**options)(function)
        if options.get("cache"):
            compiled._cache._cache_file.__class__ = _ForgivingCache
        if signature is not None:  # compiled at once, as numba does it, but from our cache
            compiled.compile(signature)
            compiled.disable_compile()
        return compiled

    return decorate
