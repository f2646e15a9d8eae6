"""Inputs that several jobs have, spelled once."""

from __future__ import annotations

from .declaration import Input

POTENTIAL = Input("potential", "potential", "ACE potential, which need not be fitted.", key="potential")
ACTIVE_SET = Input("active_set", "active_set", "Active set of the potential.", metavar="asi", key="active_set")
ENSEMBLE = Input(
    "ensemble", "ensemble",
    "If given, dE (eV/atom) and dF (eV/A) of each configuration are computed: info entries `dE`, `dF`.",
    required=False, option="--ensemble",
)  # fmt: skip
