"""``aceal.active_set``: the MaxVol active set of a training set, for sets of any size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_aceal.calculations.job import AceJobCalculation, given_settings
from aiida_aceal.calculations.worker_base import check_labels
from aiida_aceal.jobs.active_set import JOB


class AceActiveSetCalculation(AceJobCalculation):
    """Build or update an active set.

    ``settings``: :class:`aiida_aceal.uncertainty.settings.ActiveSetSettings`; an update takes its ``kind`` from
    ``previous``. Local active sets (``clusters`` or ``group_key``) are always built anew.
    """

    JOB = JOB
    _PARSER = "aceal.active_set"

    @classmethod
    def check_job(cls, inputs: Mapping[str, Any]) -> str | None:
        """Also: a previous set of another basis or kind, outliers without forces."""
        message = super().check_job(inputs)
        settings, previous = given_settings(inputs), inputs.get("previous")
        if message is None and settings.get("exclude_outliers"):
            message = check_labels(inputs, "forces", names=("dataset",))
        if message or previous is None:
            return message
        if previous.local is not None:
            return "previous: it is a local active set, which cannot be updated: leave `previous` out to build one anew"
        problem = previous.check_potential(inputs["potential"]) if inputs.get("potential") is not None else None
        if problem:
            return f"previous: {problem}"
        if settings.get("kind", previous.kind) != previous.kind:
            return f"previous: it is {previous.kind}, but settings.kind is {settings['kind']}"
        return None

    def worker_settings(self) -> dict[str, Any]:
        """An update keeps the kind."""
        kind = {"kind": self.inputs.previous.kind} if "previous" in self.inputs else {}
        return {**kind, **super().worker_settings()}
