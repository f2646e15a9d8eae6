"""Rules that choose the gamma window of a generation from the numbers of the generations before.

A policy is a function ``policy(settings, history) -> Window``. The campaign looks it up by the name of its entry point
in the group ``aiida_aceal.window_policies``; another package adds its own by naming it there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Any

from pydantic import model_validator

from aiida_aceal.common.settings import Settings, build, nearest, setting

GROUP = "aiida_aceal.window_policies"
DEFAULT_POLICY = "fixed"


class WindowSettings(Settings):
    """The window of grades, and when the campaign is done.

    Usual values for the linear grade: Lysogorskiy et al., Phys. Rev. Materials 7, 043801 (2023), Appendix E.
    """

    heading = "Campaign: `window` of policy fixed"

    gamma_lo: float = setting(2.0, "Structures with a larger grade are candidates.", gt=0)
    gamma_hi: float = setting(10.0, "A run halts when the grade exceeds this.", gt=0)
    gamma_stop: float | None = setting(
        None, "The campaign has converged when complete runs stay at or below this; null: gamma_lo.", gt=0
    )

    @model_validator(mode="after")
    def _rising(self) -> WindowSettings:
        if self.gamma_lo >= self.gamma_hi:
            raise ValueError(f"gamma_lo {self.gamma_lo} must be below gamma_hi {self.gamma_hi}")
        return self


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
    given = build(WindowSettings, settings, "window")
    low, high = given.gamma_lo, given.gamma_hi
    window = Window(low, high, low if given.gamma_stop is None else given.gamma_stop, "fixed")
    if window.gamma_stop < low:  # runs would neither converge nor give candidates
        raise ValueError(f"window: gamma_stop {window.gamma_stop} must lie between gamma_lo {low} and gamma_hi {high}")
    return window


def choose_window(settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]] = ()) -> Window:
    """Window of the next generation.

    :param settings: ``policy`` (name, default ``fixed``) and the policy's own keys
    :param history: reports of the generations before, oldest first
    :raises ValueError: unknown policy or key (the nearest known one is named), or numbers that make no window
    """
    name = settings.get("policy", DEFAULT_POLICY)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise ValueError(f"window: unknown policy '{name}'; {nearest(name, found)}")
    own = {key: value for key, value in settings.items() if key != "policy"}
    return found[name].load()(own, history)
