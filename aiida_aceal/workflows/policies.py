"""Rules that choose the gamma window of a generation from the numbers of the generations before.

A policy is a function ``policy(settings, history) -> Window``. The campaign looks it up by the name of its entry point
in the group ``aiida_aceal.window_policies``; another package adds its own by naming it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

GROUP = "aiida_aceal.window_policies"
#: usual values for the linear grade (Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Appendix E)
DEFAULTS = {"policy": "fixed", "gamma_lo": 2.0, "gamma_hi": 10.0}


@dataclass(frozen=True)
class Window:
    """Grades that matter in one generation.

    :param gamma_lo: structures above it are candidates
    :param gamma_hi: a run halts above it
    :param gamma_stop: the campaign is done when complete runs stay below it
    :param reason: why these numbers, for people
    :param gamma_interval: steps between checks of gamma in MD, instead of what the explorer says
    """

    gamma_lo: float
    gamma_hi: float
    gamma_stop: float
    reason: str
    gamma_interval: int | None = None

    def __post_init__(self) -> None:
        numbers = (self.gamma_lo, self.gamma_hi, self.gamma_stop)
        if not all(isinstance(value, (int, float)) and math.isfinite(value) and value > 0 for value in numbers):
            raise ValueError(f"window: gamma_lo, gamma_hi and gamma_stop must be positive numbers, found {numbers}")
        if not self.gamma_lo < self.gamma_hi:
            raise ValueError(f"window: gamma_lo {self.gamma_lo} must be below gamma_hi {self.gamma_hi}")
        if not self.gamma_stop <= self.gamma_hi:
            raise ValueError(f"window: gamma_stop {self.gamma_stop} must not be above gamma_hi {self.gamma_hi}")

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping for a node."""
        return {key: value for key, value in asdict(self).items() if value is not None}


Policy = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], Window]


def fixed(settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Window:
    """The same window in every generation; ``gamma_stop`` is ``gamma_lo`` unless stated."""
    check_keys(settings, ("gamma_lo", "gamma_hi", "gamma_stop"))
    low = settings.get("gamma_lo", DEFAULTS["gamma_lo"])
    high = settings.get("gamma_hi", DEFAULTS["gamma_hi"])
    window = Window(low, high, settings.get("gamma_stop", low), "fixed")
    if window.gamma_stop < low:  # runs would neither converge nor give candidates
        raise ValueError(f"window: gamma_stop {window.gamma_stop} must lie between gamma_lo {low} and gamma_hi {high}")
    return window


def choose_window(settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]] = ()) -> Window:
    """Window of the next generation.

    :param settings: ``policy`` (name, default ``fixed``) and the policy's own keys
    :param history: reports of the generations before, oldest first
    :raises ValueError: unknown policy or key (the nearest known one is named), or numbers that make no window
    """
    name = settings.get("policy", DEFAULTS["policy"])
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ValueError(f"window: unknown policy '{name}'; {nearest(name, found)}")
    own = {key: value for key, value in settings.items() if key != "policy"}
    return found[name].load()(own, history)


def nearest(name: Any, known: Any) -> str:
    """ "did you mean 'x'?" for the nearest known name, else the list of them."""
    names = sorted(str(item) for item in known)
    near = get_close_matches(str(name), names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"


def check_keys(settings: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse keys that a policy does not know. Raises ``ValueError``, with the nearest known key."""
    for key in settings:
        if key not in known:
            raise ValueError(f"window: unknown key '{key}'; {nearest(key, ('policy', *known))}")
