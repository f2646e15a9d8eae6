"""Bases of published potentials by name, for `aiida_aceal.ace.describe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from aiida_aceal.common.errors import AceError

#: keys of a description that say which functions there are: a preset says it all
SIZES = ("functions", "nradmax_by_orders", "lmax_by_orders", "lmin_by_orders", "number_of_functions_per_element")


@dataclass(frozen=True)
class Preset:
    """A basis as a description without its elements.

    :ivar elements: those of the publication; others of the same number may be named instead.
    :ivar counts: functions of each rank and element, as published.
    :ivar settings: what `read_description` takes.
    """

    elements: tuple[str, ...]
    counts: tuple[int, ...]
    settings: Mapping[str, Any] = field(repr=False)


def _orders(nradmax: list[int], lmax: list[int]) -> dict[str, list[int]]:
    return {"nradmax_by_orders": nradmax, "lmax_by_orders": lmax}


def _preset(elements: str, counts: tuple[int, ...], **functions: Any) -> Preset:
    return Preset(tuple(elements.split()), counts, {"cutoff": 7.0, "radbase": "SBessel", "functions": functions})


#: Y. Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Table 1. What the table leaves out was chosen such
#: that its numbers of functions come out: for Al-Ni the limit of 150 functions per element, for water lmax 1 at rank 4
#: in the blocks of two elements.
PRESETS = {
    "Cu": _preset(
        "Cu", (15, 60, 160, 300, 144, 50, 3), ALL=_orders([15, 5, 4, 3, 3, 2, 1], [0, 3, 2, 2, 1, 1, 1])
    ),
    "Al-Ni": _preset(
        "Al Ni",
        (21, 51, 55, 21, 2),
        number_of_functions_per_element=150,
        ALL=_orders([13, 3, 2, 2, 1], [0, 2, 2, 1, 1]),
    ),
    "Water": _preset(
        "H O",
        (30, 108, 490, 245, 476, 50),
        ALL=_orders([15, 4, 3, 2, 2, 1], [0, 2, 2, 2, 1, 1]),
        BINARY={"lmax_by_orders": [0, 2, 2, 1, 1, 1]},
    ),
    "Li": _preset("Li", (15, 50, 137, 75, 30, 1), ALL=_orders([15, 4, 3, 2, 2, 1], [0, 4, 3, 2, 1, 0])),
}  # fmt: skip


def find_preset(name: Any) -> Preset:
    """The preset of this name; case does not matter.

    Raises
    ------
    AceError
        No such name; the nearest one is named.
    """
    plain = {known.lower(): known for known in PRESETS}
    wanted = str(name).lower()
    if wanted not in plain:
        near = get_close_matches(wanted, plain, n=1, cutoff=0.0)[0]
        raise AceError(f"preset: unknown name {name!r}; nearest known: {plain[near]!r}; known: {', '.join(PRESETS)}")
    return PRESETS[plain[wanted]]
