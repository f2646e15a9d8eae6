"""Checked reading of nested settings: unknown keys name the nearest known one, values of the wrong type are refused."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from aiida_aceal.ace.errors import AceError

T = TypeVar("T")
_PLAIN = {float: "a finite number", int: "an integer", bool: "true or false", str: "text"}


def unknown_key(key: object, known: typing.Iterable[str], where: str) -> AceError:
    """The error for a key that is not in ``known``."""
    known = sorted(known)
    near = get_close_matches(str(key), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return AceError(f"{where}: unknown key {key!r}; {hint}")


def build(kind: type[T], data: object, where: str = "settings") -> T:
    """Instance of the dataclass ``kind`` from a mapping (or ``kind`` itself, or None for all defaults).

    Raises
    ------
    AceError
        Unknown key, wrong type, or a value that the class's ``check`` method refuses.
    """
    if isinstance(data, kind):
        return data
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise AceError(f"{where}: expected a mapping of keys, found {type(data).__name__} {data!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    values = {}
    for key, value in data.items():
        if key not in fields:
            raise unknown_key(key, fields, where)
        values[key] = _convert(hints[key], value, f"{where}.{key}")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        converted, done = _try(option, value, where)
        if done:
            return converted
    raise AceError(f"{where}: expected {_describe(options)}, found {value!r}")


def _try(hint: Any, value: Any, where: str) -> tuple[Any, bool]:
    origin = typing.get_origin(hint)
    if hint is type(None):
        return None, value is None
    if dataclasses.is_dataclass(hint):
        fits = value is None or isinstance(value, (Mapping, hint))
        return (build(hint, value, where), True) if fits else (None, False)
    if origin is typing.Literal:
        return value, value in typing.get_args(hint) and not isinstance(value, bool)
    if hint is bool:
        return value, isinstance(value, bool)
    if hint is int:
        return value, isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None, False
        try:
            number = float(value)  # YAML reads 1e-8 as text
        except ValueError:
            return None, False
        return number, math.isfinite(number)
    if hint is str:
        return value, isinstance(value, str)
    if origin is dict:
        if not isinstance(value, Mapping):
            return None, False
        kinds = typing.get_args(hint)
        return {str(k): _convert(kinds[1], v, f"{where}.{k}") for k, v in value.items()}, True
    if origin in (tuple, list):
        if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
            return None, False
        kind = typing.get_args(hint)[0]
        return tuple(_convert(kind, v, f"{where}[{k}]") for k, v in enumerate(value)), True
    raise TypeError(f"{where}: no rule for the type {hint}")


def _describe(options: typing.Iterable[Any]) -> str:
    names = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            names += [repr(v) for v in typing.get_args(option)]
        elif dataclasses.is_dataclass(option) or typing.get_origin(option) is dict:
            names.append("a mapping")
        elif typing.get_origin(option) in (tuple, list):
            names.append("a list")
        else:
            names.append(_PLAIN.get(option, "null"))
    return " or ".join(names)
