"""Settings of a selection: of the job, of a campaign, and of the strategies themselves."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from aiida_aceal.common.settings import Settings, build, from_function, memory_size, setting

from .select import load_strategy, strategy_names

#: arguments of a strategy that are no settings
_GIVEN = ("pool", "wanted", "rng")


def strategy_settings(name: str) -> type[Settings]:
    """The model of a strategy's options: its attribute ``settings``, else made from its signature.

    :raises AceError: no such strategy
    """
    function = load_strategy(name)
    return getattr(function, "settings", None) or from_function(function, _GIVEN)


class SelectSettings(Settings):
    """Which candidates are chosen, and how many: the first limit that is met ends the selection."""

    heading = "Selection"

    strategy: str = setting("d_optimal", "Name of a selection strategy.", choices=strategy_names)
    count: int | None = setting(None, "Largest number of structures.", ge=1)
    max_atoms: int | None = setting(None, "Largest total number of atoms.", ge=1)
    max_cost: float | None = setting(None, "Largest total label cost: sum of n_atoms ** cost_power.", gt=0)
    cost_power: float = setting(
        3.0, "Exponent with which the cost of a label grows with its number of atoms.", ge=0, le=10
    )
    descriptor: Literal["projections", "composition"] = setting("projections", "Descriptors that measure diversity.")
    duplicate_distance: float = setting(
        1e-3, "Candidates closer than this to a chosen one are dropped as near-duplicates; 0 keeps all.", ge=0
    )
    memory: str | int | float = memory_size("1GiB", "Memory that MaxVol may use in addition.")
    options: dict[str, Any] = setting({}, "Arguments of the strategy itself.")

    @model_validator(mode="after")
    def _complete(self) -> SelectSettings:
        build(strategy_settings(self.strategy), self.options, "options")
        if self.count is None and self.max_atoms is None and self.max_cost is None:
            raise ValueError("state how much to select: count, max_atoms or max_cost")
        return self
