"""Emptiness: a floor under the grade of environments that are emptier than any that was learnt.

All projections of an atom without neighbours vanish, and so does its gamma; those of a crystal stretched far beyond
its bonds are small. Such environments lie between the origin and the active rows, which D-optimality calls
interpolation although nothing like them was learnt. Their smooth coordination number tells them: with z that of the
environment and z_min the smallest of all *training* environments of its element that have neighbours,

    emptiness = MARGIN z_min / z    (at most LARGEST),        gamma = max(gamma, emptiness) where emptiness > 1.

Within the margin, and so for every training environment, the grade is what it was. The rule is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Part of the smallest learnt coordination number at which the floor begins to act.
MARGIN = 0.8
#: Emptiness of an atom without neighbours: above any window, and finite.
LARGEST = 1000.0
#: What reports and structures say of such an environment.
REASON = "emptier than any learnt environment"


@dataclass(frozen=True)
class Emptiest:
    """The emptiest environments of one element that were learnt.

    :ivar coordination: smallest smooth coordination number of those with neighbours; None if there was none.
    :ivar isolated: whether there was one without neighbours. It is not extrapolation then; what lies between it and
        ``coordination`` is.
    """

    coordination: float | None = None
    isolated: bool = False

    @classmethod
    def of(cls, coordination: np.ndarray) -> Emptiest:
        """From the coordination numbers [n] of training environments."""
        filled = coordination[coordination > 0.0]
        return cls(float(filled.min()) if filled.size else None, bool((coordination <= 0.0).any()))

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any] | None) -> Emptiest | None:
        """What a report says; None if it says nothing."""
        if not isinstance(facts, Mapping) or "isolated" not in facts:
            return None
        z = facts.get("coordination")
        return cls(None if z is None else float(z), bool(facts["isolated"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"coordination": self.coordination, "isolated": self.isolated}

    def joined(self, other: Emptiest) -> Emptiest:
        """The emptiest of two training sets together."""
        known = [z for z in (self.coordination, other.coordination) if z is not None]
        return Emptiest(min(known, default=None), self.isolated or other.isolated)

    def emptiness(self, coordination: np.ndarray) -> np.ndarray:
        """[n] emptiness of environments by their coordination numbers; above 1 they are emptier than what was learnt.

        Where only isolated atoms were learnt (or nothing at all), environments with neighbours are not judged: there
        is nothing that they could be emptier than, and their gamma is large.
        """
        z = np.asarray(coordination, dtype=np.float64)
        alone = z <= 0.0
        found = np.zeros(len(z))
        if self.coordination is not None:
            found[~alone] = np.minimum(LARGEST, MARGIN * self.coordination / z[~alone])
        found[alone] = 0.0 if self.isolated else LARGEST
        return found


def mark(info: dict[str, Any], emptiness: np.ndarray | None) -> bool:
    """Write into the info of a structure that atoms of it are emptier than what was learnt; whether there are any.

    :param emptiness: [n] of its atoms, None if unknown. What an earlier grading wrote is removed.
    """
    info.pop("gamma_reason", None)
    info.pop("n_emptier", None)
    count = 0 if emptiness is None else int((emptiness > 1.0).sum())
    if count:
        info.update(gamma_reason=REASON, n_emptier=count)
    return count > 0


def missing_note(records: Mapping[str, Emptiest | None], switched_off: bool = False) -> str | None:
    """One line that says why atoms that leave are not graded by emptiness; None if they are."""
    without: Sequence[str] = [element for element, record in records.items() if record is None]
    if not without:
        return None
    why = "it was built with emptiness off" if switched_off else "build it with this version to record that"
    return (
        "atoms that leave their neighbours are not flagged: the active set does not record how empty its "
        "environments of "
        f"{', '.join(without)} were ({why})"
    )
