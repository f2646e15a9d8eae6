"""Values of potential files, checked: what is no number, no integer or not finite is refused with its place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from aiida_aceal.common.errors import AceError, NotFiniteError

from .limits import MAX_NUMBER


def mapping(where: str, value: Any) -> Mapping:
    """The value, if it is a mapping; an empty one for null."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise AceError(f"{where}: a mapping is expected, found {value!r:.60}")
    return value


def number(where: str, value: Any, least: float = -MAX_NUMBER) -> float:
    """A finite number of at least ``least``; text such as ``1e-8`` counts."""
    try:
        if isinstance(value, bool):
            raise TypeError
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        raise AceError(f"{where}: expected a finite number, found {value!r:.60}") from None
    if not math.isfinite(result):
        raise NotFiniteError(f"{where}: expected a finite number, found {value!r:.60}")
    if abs(result) > MAX_NUMBER or result < least:
        raise AceError(f"{where}: {result:g} lies outside {least:g} to {MAX_NUMBER:g}")
    return result


def integer(where: str, value: Any, least: int = 0, most: int = 10_000) -> int:
    """An integer from ``least`` to ``most``; 2.0 counts, 1.7 does not."""
    result = number(where, value, -float("inf"))
    if result != int(result) or not least <= result <= most:
        raise AceError(f"{where}: expected an integer from {least} to {most}, found {value!r:.60}")
    return int(result)


def sequence(where: str, value: Any) -> list:
    """A list."""
    if not isinstance(value, (list, tuple)):
        raise AceError(f"{where}: expected a list, found {value!r:.60}")
    return list(value)


def numbers(where: str, value: Any) -> tuple[float, ...]:
    """Finite numbers: a list, or one alone."""
    if not isinstance(value, (list, tuple)):
        value = [value]
    return tuple(number(where, x) for x in value)


def integers(where: str, value: Any, least: int = 0) -> tuple[int, ...]:
    """Integers of a list."""
    return tuple(integer(where, x, least) for x in sequence(where, value))


def boolean(where: str, value: Any) -> bool:
    """true or false, no text."""
    if not isinstance(value, bool):
        raise AceError(f"{where}: expected true or false, found {value!r:.60}")
    return value


def text(where: str, value: Any) -> str:
    """Text; lists and mappings are refused."""
    if isinstance(value, (list, tuple, Mapping)) or value is None:
        raise AceError(f"{where}: expected text, found {value!r:.60}")
    return str(value)


def array(where: str, value: Any) -> np.ndarray:
    """Nested lists of equal lengths as float64 array, all finite."""
    try:
        result = np.array(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise AceError(f"{where}: expected nested lists of numbers of equal lengths") from None
    if not np.isfinite(result).all() or (np.abs(result) > MAX_NUMBER).any():
        raise NotFiniteError(f"{where} hold a value that is not finite or beyond {MAX_NUMBER:g}")
    return result


def check_symbols(elements: tuple[str, ...]) -> None:
    """AceError unless all are chemical elements, each once, and at least one."""
    alien = [el for el in elements if el not in atomic_numbers or el == "X"]
    if alien or not elements:
        raise AceError(f"{alien[0]!r:.40} is not a chemical element" if alien else "no chemical element is named")
    if len(set(elements)) != len(elements):
        raise AceError(f"an element occurs twice in {list(elements)}")
