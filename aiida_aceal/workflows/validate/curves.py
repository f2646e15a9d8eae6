"""Curves of properties as arrays of a node, and back: nested mappings and ragged lists under joined names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from aiida import orm


def curves_data(sides: Mapping[str, Any]) -> orm.ArrayData | None:
    """Unstored node of all ``curves`` in the numbers of a property, None if there are none.

    The names of the arrays are counted, since those of surfaces and phases may hold any character; ``paths`` (an
    attribute) says what each is: ``[["reference", "fcc", "volume_A3_per_atom"], ...]``, integers for items of lists.
    """
    node, paths = orm.ArrayData(), []
    for side, data in sides.items():
        for path, values in _curves(data, [side]):
            node.set_array(f"curve_{len(paths):04d}", values)
            paths.append(path)
    if not paths:
        return None
    node.base.attributes.set("paths", paths)
    return node


def _curves(data: Any, path: list[Any]) -> Iterator[tuple[list[Any], np.ndarray]]:
    if not isinstance(data, Mapping):
        return
    for key, value in data.items():
        if key == "curves":
            yield from _arrays(value, path)
        else:
            yield from _curves(value, [*path, key])


def _arrays(value: Any, path: list[Any]) -> Iterator[tuple[list[Any], np.ndarray]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _arrays(part, [*path, key])
        return
    try:
        array = np.array([np.nan if x is None else x for x in value] if isinstance(value, list) else value)
        if array.dtype != object:
            yield path, array
            return
    except ValueError:  # ragged
        pass
    for k, part in enumerate(value):
        yield from _arrays(part, [*path, k])


def curves_of(node: orm.ArrayData) -> dict[str, Any]:
    """``reference`` and ``potential``: nested mappings of arrays, without the level ``curves``; lists become mappings
    of numbers."""
    result: dict[str, Any] = {}
    for k, path in enumerate(node.base.attributes.get("paths")):
        place = result
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = node.get_array(f"curve_{k:04d}")
    return result
