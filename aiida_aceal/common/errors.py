"""The exceptions of the numerics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class AceError(ValueError):
    """Bad input: the message names the file, the value and the remedy."""


class NotFiniteError(AceError):
    """Numbers that were read or computed are not finite (nan, inf)."""


def refuse_not_finite(value: Any, place: str) -> None:
    """Look through a JSON value; ``place`` is what the message calls it.

    :raises NotFiniteError: the first number that is nan or inf, with its place
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise NotFiniteError(f"{place} is {value}, which is not a finite number")
    numbered = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, inner in value.items() if isinstance(value, Mapping) else numbered:
        refuse_not_finite(inner, f"{place}[{key}]" if isinstance(key, int) else f"{place}.{key}")
