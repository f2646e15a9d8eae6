"""Extrapolation grades: MaxVol, active sets, local D-optimality. Knows ``aiida_aceal.ace`` only."""

from .active_set import ActiveSet, ElementActiveSet, from_rows
from .maxvol import MaxVolResult, maxvol

__all__ = ["ActiveSet", "ElementActiveSet", "MaxVolResult", "from_rows", "maxvol"]
