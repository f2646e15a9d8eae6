"""The active set of one element: what grades, and what is known of where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .active_rows import FLOOR_ROW
from .emptiness import Emptiest

#: Environment label of an active row whose origin is not known (read from a file without our comment).
UNKNOWN_ROW = -2


@dataclass(frozen=True)
class ElementActiveSet:
    """Active rows of one element.

    :ivar inverse: [M, M] inverse of the active rows; rows are functions, columns active environments.
    :ivar environments: [M, 2] int64 (structure, atom) of each active row; (-1, -1) a floor row, (-2, -2) unknown.
    :ivar rank: number of active rows that are real environments.
    :ivar log_volume: ``log |det A|``.
    :ivar tolerance_reached: largest gamma of the environments the set was built from; NaN if unknown.
    :ivar n_environments: number of environments the set was built from; -1 if unknown.
    :ivar identifiers: [M] identity of the structure of each row ("" if it has none).
    :ivar swaps: swaps made.
    :ivar emptiest: the emptiest training environments; None if unknown, or not to be looked at.
    """

    inverse: np.ndarray = field(repr=False)
    environments: np.ndarray = field(repr=False)
    rank: int
    log_volume: float
    tolerance_reached: float = float("nan")
    n_environments: int = -1
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    swaps: int = 0
    emptiest: Emptiest | None = None

    @property
    def floor_rows(self) -> np.ndarray:
        """[M] bool, which active rows are floor rows."""
        return self.environments[:, 0] == FLOOR_ROW

    def active_rows(self) -> np.ndarray:
        """[M, M] the active rows (environments, functions), by inversion."""
        return np.linalg.inv(self.inverse)
