"""Names of the properties."""

from __future__ import annotations

from collections.abc import Sequence

from aiida_aceal.common.settings import nearest

#: in the order in which they are computed
ALL = ("eos", "elastic", "phonon", "vacancy", "interstitial", "antisite", "surface", "pairs", "md")
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
