"""How long one configuration may take if the user did not say: judged by its size and by the times of the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class TimeLimits:
    """Time limit for each configuration, which learns from those that are done.

    A time t of n' atoms stands for t max(1, n/n')^3 with n atoms: DFT grows with the third power of the size at most,
    and a smaller cell is not expected to be faster. The limit is the largest of ``least`` seconds, ``median_factor``
    times the median and ``longest_factor`` times the longest of these times.

    Before ``n_known`` times are known there is nothing to judge by. While others wait, a configuration is ended then
    after ``first`` seconds and put off to the end of the queue, the next one after twice as long, and so on, each at
    most once. Without others that wait, one known time is enough, and with none the limit is ``last``.

    :param fixed: the user's own limit in seconds; nothing else counts then
    """

    fixed: float | None = None
    least: float = 60.0
    median_factor: float = 20.0
    longest_factor: float = 3.0
    n_known: int = 3
    first: float = 3600.0
    last: float = 86400.0
    times: list[tuple[int, float]] = field(default_factory=list)
    _waits: int = 0

    @classmethod
    def within(cls, fixed: float | None, budget: float | None) -> TimeLimits:
        """Limits for a batch that has ``budget`` seconds: an eighth of it at most passes before others have a turn."""
        return cls(fixed) if budget is None else cls(fixed, first=min(cls.first, budget / 8))

    def learn(self, n_atoms: int, seconds: float) -> None:
        """Note the time of a configuration that is done."""
        self.times.append((max(1, n_atoms), seconds))

    def limit(self, n_atoms: int, others_wait: bool) -> float:
        """Seconds that a configuration of ``n_atoms`` atoms may take, by what is known now."""
        if self.fixed is not None:
            return self.fixed
        if len(self.times) >= (self.n_known if others_wait else 1):
            scaled = [seconds * max(1.0, n_atoms / size) ** 3 for size, seconds in self.times]
            return max(self.least, self.median_factor * median(scaled), self.longest_factor * max(scaled))
        return min(self.last, self.first * 2.0**self._waits) if others_wait else self.last

    def is_provisional(self, others_wait: bool) -> bool:
        """Whether the limit says only that others should have their turn."""
        return self.fixed is None and others_wait and len(self.times) < self.n_known

    def put_off(self) -> None:
        """Note that one was put off: the next one gets twice the time."""
        self._waits += 1

    def reason(self, seconds: float) -> str:
        """Why a configuration was given up after ``seconds``."""
        if self.fixed is not None:
            return f"no result after {seconds:g} s"
        return f"no result after {seconds:.3g} s ({self.words()}; set `timeout` to allow more)"

    def words(self) -> str:
        """The rule in force, in words."""
        if self.fixed is not None:
            return f"limit of {self.fixed:g} s for each configuration"
        return (
            f"default limit: {self.median_factor:g} times the median and {self.longest_factor:g} times the longest of "
            f"the others, at least {self.least:g} s"
        )

    def report(self) -> dict[str, Any]:
        """For the report: the rule, and the limit for a configuration of the largest size seen."""
        largest = max((size for size, _ in self.times), default=None)
        limit = self.limit(largest, False) if largest else (self.fixed or math.nan)
        return {"rule": self.words(), "n_atoms": largest, "seconds": None if math.isnan(limit) else limit}
