"""Full active sets, where elements have different numbers of densities, in the form that other engines read.

ML-PACE and python-ace tell a full set from a linear one by its size, the same for all elements, and take elements of
one density for linear ones. So each element gets as many densities as the one with most
(`AcePotential.with_equal_densities`). A density of weight zero has dE/dc = 0, so its rows and columns may be those of
the unit matrix: no grade changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from aiida_aceal.common.errors import AceError

from .active_rows import FLOOR_ROW
from .active_set import ActiveSet
from .element_set import ElementActiveSet


def differ(n_densities: Mapping[str, int]) -> bool:
    """Whether elements have different numbers of densities."""
    return len(set(n_densities.values())) > 1


def with_equal_densities(
    active_set: ActiveSet, n_functions: Mapping[str, int], n_densities: Mapping[str, int]
) -> ActiveSet:
    """The set for the potential of equal densities; the same object where nothing is to be done.

    Only full global sets change: element -> inverse [P K, P K] with the largest P. Other engines read no local ones.
    """
    if type(active_set) is not ActiveSet or active_set.kind != "full" or not differ(n_densities):
        return active_set
    most = max(n_densities.values())
    sets = {el: _pad(one, most * n_functions[el]) for el, one in active_set.sets.items()}
    return ActiveSet(sets, "full", tolerance=active_set.tolerance, floor=active_set.floor, extra=dict(active_set.extra))


def _pad(one: ElementActiveSet, size: int) -> ElementActiveSet:
    more = size - len(one.inverse)
    if more <= 0:
        return one
    inverse = np.eye(size)
    inverse[:-more, :-more] = one.inverse
    return replace(
        one,
        inverse=inverse,
        environments=np.vstack([one.environments, np.full((more, 2), FLOOR_ROW, dtype=np.int64)]),
        identifiers=(*one.identifiers, *[""] * more) if one.identifiers else (),
    )


def without_padding(one: ElementActiveSet, size: int, where: str) -> ElementActiveSet:
    """The part of a padded set that belongs to the densities there are.

    Raises
    ------
    AceError
        The rest is no unit matrix: the set belongs to a potential with more densities.
    """
    if len(one.inverse) == size:
        return one
    rest = one.inverse.copy()
    rest[:size, :size] = np.eye(size)
    if not np.array_equal(rest, np.eye(len(rest))):
        raise AceError(f"{where} was made for a potential with more densities: build it anew for this potential")
    return replace(
        one,
        inverse=np.ascontiguousarray(one.inverse[:size, :size]),
        environments=one.environments[:size],
        identifiers=one.identifiers[:size],
    )
