"""Settings of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiida_aceal.ace.errors import AceError

_NONLINEAR = ("weak", "strong")


@dataclass(frozen=True)
class EnsembleSettings:
    """How members differ.

    ``method``: ``weak`` (coefficients start from a normal distribution, radial functions fixed), ``strong`` (radial
    coefficients are randomised and optimised too): both nonlinear fits. For linear models, which have one minimum:
    ``subsample`` (each member sees ``fraction`` of the structures), ``weights`` (structures weighted by independent
    exponential numbers, the Bayesian bootstrap), ``posterior`` (coefficients drawn from the posterior of the Bayesian
    fit). ``auto``: weights for linear fits, weak for nonlinear ones. ``amplitude``: size of the random start relative
    to the error of the zero model; ``radial_amplitude``: of the radial coefficients, relative to their own size. A weak
    or strong member is optimised until the root of its loss is within the fraction ``within`` of that of the potential,
    for at most ``effort`` times ``nonlinear.evaluations``; the report names those that do not get there.
    """

    members: int = 8
    method: Literal["auto", "weak", "strong", "subsample", "weights", "posterior"] = "auto"
    fraction: float = 0.7
    amplitude: float = 0.02
    radial_amplitude: float = 0.3
    within: float = 0.1
    effort: int = 3
    use: Literal["forces", "energy"] = "forces"

    def __post_init__(self) -> None:
        if self.members < 2:
            raise AceError(f"ensemble.members: at least 2 are needed, found {self.members}")
        if not 0.0 < self.fraction < 1.0:
            raise AceError(f"ensemble.fraction: must lie between 0 and 1, found {self.fraction}")
        if self.within < 0.0:
            raise AceError(f"ensemble.within: must not be negative, found {self.within}")
        if self.effort < 1:
            raise AceError(f"ensemble.effort: must be at least 1, found {self.effort}")

    def method_for(self, fit_method: str) -> str:
        """The method in use with a ``linear`` or ``nonlinear`` fit.

        Raises
        ------
        AceError
            The method does not go with such a fit.
        """
        if self.method == "auto":
            return "weak" if fit_method == "nonlinear" else "weights"
        if (self.method in _NONLINEAR) != (fit_method == "nonlinear"):
            good = "weak or strong" if fit_method == "nonlinear" else "subsample, weights or posterior"
            raise AceError(f"ensemble.method: {self.method} does not go with method: {fit_method}; use {good}")
        return self.method
