"""What a value must be to fill a typed setting: plain values made fit, bounds, models inside a type."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

#: types that a list fills
LISTS = (tuple, list, Sequence)
#: largest integer that arrays hold
_LARGEST = 2**63 - 1
#: numbers that YAML 1.1 reads as text: those with an exponent and without a dot or a sign of the exponent
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def sections_in(hint: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Models inside a type, with what stands between the key and theirs."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield "", hint
        return
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        yield from sections_in(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from sections_in(argument)
    elif origin in LISTS:
        for suffix, kind in sections_in(arguments[0]):
            yield "[]" + suffix, kind
    elif is_mapping(origin) and len(arguments) == 2:
        for suffix, kind in sections_in(arguments[1]):
            yield ".<name>" + suffix, kind


def extra_of(field: Any) -> Mapping[str, Any]:
    """What :func:`~aiida_aceal.common.settings.setting` noted, and bounds of a plain ``pydantic.Field``."""
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    found = {}
    for item in field.metadata:
        for name in ("gt", "ge", "lt", "le"):
            if getattr(item, name, None) is not None:
                found[name] = getattr(item, name)
        low, high = getattr(item, "min_length", None), getattr(item, "max_length", None)
        if low is not None or high is not None:
            before = number_of_items(found.get("items", (0, None)))
            found["items"] = (before[0] if low is None else low, before[1] if high is None else high)
    return {**found, **extra}


def is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def coerced(hint: Any, value: Any) -> Any:
    """What YAML, JSON, nodes and NumPy write otherwise than pydantic's strict mode reads; anything else unchanged."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        value = value.item()
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return coerced(arguments[0], value)
    if origin in (typing.Union, types.UnionType):
        for argument in arguments:
            fits = _fits(argument, value)
            if fits:
                return coerced(argument, value)
        for argument in arguments:
            changed = coerced(argument, value)
            if changed is not value:
                return changed
        return value
    if hint is float:
        return _float(value)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return {} if value is None else dict(value) if isinstance(value, Mapping) else value
    if origin in LISTS and not isinstance(value, (str, bytes, Mapping)) and hasattr(value, "__len__"):
        kinds = arguments[:1] if len(arguments) < 2 or arguments[1] is Ellipsis or origin is list else arguments
        items = [coerced(kinds[min(k, len(kinds) - 1)] if kinds else Any, item) for k, item in enumerate(value)]
        return tuple(items) if origin is tuple else list(items)
    if (is_mapping(origin) or hint is dict) and isinstance(value, Mapping):
        kind = arguments[1] if len(arguments) == 2 else Any
        return {key: coerced(kind, item) for key, item in value.items()}
    return value


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value has a type (or is one of its literals) as it stands."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _fits(arguments[0], value)
    if hint is None or hint is type(None):
        return value is None
    if origin is Literal:
        return any(value == item and type(value) is type(item) for item in arguments)
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return isinstance(value, (hint, Mapping))
    if origin in LISTS:
        return isinstance(value, (list, tuple))
    if is_mapping(origin):
        return isinstance(value, Mapping)
    return isinstance(hint, type) and type(value) is hint


def _float(value: Any) -> Any:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)  # YAML reads 1e-8 as text
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf  # refused as not finite
    return value


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, Mapping):
        for item in value.values():  # AiiDA stores 1e300 as an integer
            yield from (_float(number) for number in _numbers(item))


def within_bounds(value: Any, extra: Mapping[str, Any]) -> bool:
    for number in _numbers(value):
        if abs(number) > _LARGEST if isinstance(number, int) else not math.isfinite(number):
            return False
        for name, good in (("gt", number.__gt__), ("ge", number.__ge__), ("lt", number.__lt__), ("le", number.__le__)):
            if name in extra and not good(type(number)(extra[name])):
                return False
    if "items" in extra and isinstance(value, (list, tuple, Mapping)):
        low, high = number_of_items(extra["items"])
        if len(value) < low or (high is not None and len(value) > high):
            return False
    if "choices" in extra:
        names = set(extra["choices"]())
        given = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
        return all(item in names for item in given if isinstance(item, str))
    return True


def number_of_items(items: Any) -> tuple[int, int | None]:
    low, high = (items, items) if isinstance(items, int) else items
    return low or 0, high
