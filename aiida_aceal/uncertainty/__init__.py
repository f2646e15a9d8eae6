"""Extrapolation grades: MaxVol, active sets, local D-optimality. Knows ``aiida_aceal.ace`` only."""

from .active_set import ActiveSet, from_rows
from .build import build_active_set, update_active_set
from .element_set import ElementActiveSet
from .local import LocalActiveSet
from .local_build import build_local_active_set
from .maxvol import MaxVolResult, maxvol

__all__ = [
    "ActiveSet",
    "ElementActiveSet",
    "LocalActiveSet",
    "MaxVolResult",
    "build_active_set",
    "build_local_active_set",
    "from_rows",
    "maxvol",
    "update_active_set",
]
