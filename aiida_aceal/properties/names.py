"""Names of the properties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida_aceal.common.settings import nearest

#: in the order in which they are computed
ALL = ("eos", "elastic", "phonon", "vacancy", "interstitial", "antisite", "surface", "pairs", "md", "melting")
#: runs that each engine makes itself, which need no labels
DYNAMICS = ("md", "melting")
#: those that are computed if none is named
DEFAULT = ("eos", "elastic", "phonon", "vacancy", "surface", "pairs")


def property_names(value: str | Sequence[str]) -> tuple[str, ...]:
    """Names from text with commas or from a list, each once.

    :raises ValueError: no name, or an unknown one
    """
    words = value.split(",") if isinstance(value, str) else value
    names = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise ValueError(f"there is no property '{unknown[0]}': {nearest(unknown[0], ALL)}")
    if not names:
        raise ValueError("name at least one property")
    return names


def dynamics_names(value: str | Sequence[str]) -> tuple[str, ...]:
    """Names of properties that are runs. Raises `ValueError`: no name, or another one."""
    names = property_names(value)
    for name in names:
        if name not in DYNAMICS:
            raise ValueError(f"{name} is no run: {', '.join(DYNAMICS)}")
    return names


def property_bounds(value: Mapping[str, Any]) -> dict[str, float]:
    """Bounds of relative errors by property, as fractions, from ``{"elastic": "5 %"}`` or ``{"elastic": 0.05}``.

    :raises ValueError: an unknown property, or no positive number
    """
    found = {}
    for name, bound in value.items():
        (known,) = property_names([name])
        words = str(bound).strip()
        try:
            number = float(words.removesuffix("%")) / (100 if words.endswith("%") else 1)
        except ValueError:
            number = -1.0
        if isinstance(bound, bool) or not 0 < number < float("inf"):
            raise ValueError(f"{name}: must be a positive share, such as 5 % or 0.05, found {bound!r}")
        found[known] = number
    return found
