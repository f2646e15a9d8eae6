"""``aceal.fit``: fit the coefficients of a potential to labelled configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_aceal.calculations.job import AceJobCalculation, given_settings
from aiida_aceal.calculations.worker_base import check_labels
from aiida_aceal.jobs.fit import JOB


class AceFitCalculation(AceJobCalculation):
    """Fit a potential; the start potential gives the basis and, for nonlinear fits, the first coefficients.

    ``settings`` are those of :class:`aiida_aceal.fitting.FitSettings` (``method``, ``weights``, ``regularization``,
    ``reference_energies``, ...) and ``validation_fraction``; with ``ensemble``
    (:class:`aiida_aceal.fitting.ensemble_settings.EnsembleSettings`) an ensemble on the same data is another output.
    A nonlinear fit that runs out of time ends shortly before with exit code 306 and the potential it has.
    ``retrieved`` keeps a readable report, ``report.txt``, and labels and predictions for parity plots, ``parity.npz``
    (thinned).
    """

    JOB = JOB
    _PARSER = "aceal.fit"
    #: the WorkChain that campaigns run it under
    RESTART = "aceal.restart.fit"

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse what the resources of the job decide."""
        if "threads" in given_settings(inputs):
            return "settings: leave 'threads' out; it is the number of cores in metadata.options.resources"
        return super().check_settings(inputs)

    @classmethod
    def check_job(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also refuse sets without the labels that the fit needs."""
        message, settings = super().check_job(inputs), given_settings(inputs)
        if message:
            return message
        if settings.get("validation_fraction") is not None and inputs.get("validation") is not None:
            return "settings: give `validation_fraction` or the input `validation`, not both"
        weights = settings.get("weights") or {}
        needed = ["energy"]
        if weights.get("missing_forces") != "skip" and weights.get("kappa") != 0:
            needed.append("forces")
        return check_labels(inputs, *needed)
