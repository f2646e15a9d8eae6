"""``aceal.compare_uncertainty``: active sets and ensembles grade a labelled set, side by side."""

from __future__ import annotations

from typing import Any

from aiida_aceal.calculations.learning_curve import ComparisonCalculation


class AceCompareUncertaintyCalculation(ComparisonCalculation):
    """Fit to ``train``, grade ``test`` with all indicators; the output ``report`` is the comparison.

    ``settings`` are those of :class:`aiida_aceal.selection.indicators.IndicatorSettings`: ``indicators``, ``clusters``,
    ``gamma_threshold``, ``fit``, ``ensemble``, ...
    """

    _SUBCOMMAND = "compare-uncertainty"
    _PARSER = "aceal.compare_uncertainty"
    _SET = ("train", "Labelled configurations from which the fit, the active sets and the ensemble are made.")
    _SETTINGS_HELP = "`indicators`, `clusters`, `gamma_threshold`, `fit`, `ensemble`, ..."

    @classmethod
    def settings_class(cls) -> Any:
        """Settings of a comparison of indicators."""
        from aiida_aceal.selection.indicators import IndicatorSettings

        return IndicatorSettings
