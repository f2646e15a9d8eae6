"""Sizes of memory, as users write them."""

from __future__ import annotations

import math
import re

from .errors import AceError

_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS.update({f"{_letter}b": 10 ** (3 * _power), f"{_letter}ib": 2 ** (10 * _power), _letter: 2 ** (10 * _power)})

#: Less than this (bytes) is refused: a number without its unit was meant as MiB or GiB.
LEAST_MEMORY = 2**20


def parse_memory(memory: str | int | float) -> int:
    """Bytes of a size such as ``2GiB``, ``500 MB``, ``2G`` (as ``2GiB``) or a plain number of bytes (``1e9``).

    Units with ``i`` and bare letters count by 1024, ``kB``, ``MB``, ``GB``, ``TB`` by 1000; upper and lower case are
    the same.

    :raises AceError: no number, an unknown unit, not finite, or less than 1 MiB.
    """
    match = None
    if not isinstance(memory, bool):
        match = re.fullmatch(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*", str(memory), flags=re.ASCII)
    if match is None or match[2].lower() not in _UNITS:
        raise AceError(f"memory: {memory!r} is not a size; write a number with a unit, such as 2GiB or 500MB")
    size = float(match[1]) * _UNITS[match[2].lower()]
    if not math.isfinite(size) or size < LEAST_MEMORY:
        raise AceError(
            f"memory: {memory!r} is {size:.6g} bytes; at least 1 MiB is needed; "
            "write a number with a unit, such as 2GiB or 500MB"
        )
    return int(size)
