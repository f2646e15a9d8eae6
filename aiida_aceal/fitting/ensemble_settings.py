"""Settings of an ensemble."""

from __future__ import annotations

from typing import Literal

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, setting

_NONLINEAR = ("weak", "strong")


class EnsembleSettings(Settings):
    """How the members of an ensemble differ.

    ``weak`` (coefficients start from a normal distribution, radial functions fixed) and ``strong`` (radial coefficients
    are randomised and optimised too) are nonlinear fits. For linear models, which have one minimum: ``subsample`` (each
    member sees ``fraction`` of the structures), ``weights`` (structures weighted by independent exponential numbers,
    the Bayesian bootstrap), ``posterior`` (coefficients drawn from the posterior of the Bayesian fit).
    """

    heading = "Ensembles"

    members: int = setting(8, "Number of members.", ge=2)
    method: Literal["auto", "weak", "strong", "subsample", "weights", "posterior"] = setting(
        "auto", "auto: weights for linear fits, weak for nonlinear ones."
    )
    fraction: float = setting(0.7, "Fraction of the structures that each member sees (subsample).", gt=0, lt=1)
    amplitude: float = setting(0.02, "Size of the random start relative to the error of the zero model.", ge=0)
    radial_amplitude: float = setting(
        0.3, "Size of the random start of the radial coefficients, relative to their own size.", ge=0
    )
    within: float = setting(
        0.1, "A weak or strong member is optimised until the root of its loss is within this fraction of that of the "
        "potential; the report names those that do not get there.", ge=0,
    )  # fmt: skip
    effort: int = setting(3, "Largest number of evaluations for a member, in multiples of nonlinear.evaluations.", ge=1)
    use: Literal["forces", "energy"] = setting("forces", "Deviation used as the indicator: dF or dE.")

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
