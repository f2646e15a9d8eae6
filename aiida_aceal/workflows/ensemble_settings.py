"""Settings of the ensemble of a campaign, and their checks at submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from aiida import orm
from pydantic import model_validator

from aiida_aceal.common.settings import check, setting
from aiida_aceal.fitting.ensemble_settings import EnsembleSettings
from aiida_aceal.workflows.steps import step_class


class EnsembleSection(EnsembleSettings):
    """An ensemble beside the potential: each fit makes one, and it scores the candidates of the next generation."""

    heading = "Campaign: `ensemble`"

    members: int = setting(0, "Number of members; 0 means no ensemble.", ge=0)
    candidates: Literal["gamma", "ensemble"] = setting("gamma", "What decides which structures are candidates.")
    selection: Literal["gamma", "ensemble"] = setting("gamma", "What the selection is based on.")
    factor: float = setting(1.0, "Factor on the ensemble's threshold, which gives its limit.", gt=0)

    @model_validator(mode="after")
    def _enough(self) -> EnsembleSection:
        if self.members == 1:
            raise ValueError("members: an ensemble has at least 2 members (0 for none), found 1")
        if not self.members and "ensemble" in (self.candidates, self.selection):
            raise ValueError("give the number of members")
        return self


_OWN = ("candidates", "selection", "factor")
#: what a WorkChain reads of `ensemble`, with the defaults
ENSEMBLE: dict[str, Any] = {
    key: EnsembleSection.model_fields[key].default for key in ("members", "candidates", "selection", "factor")
}


def fit_keys(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of the settings that is `ensemble` of the fit; ``None`` without members."""
    if not settings.get("members"):
        return None
    return {key: value for key, value in settings.items() if key not in _OWN}


def check_ensemble(settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings, or ``None``."""
    return check(EnsembleSection, settings, "ensemble")


def check_fitter(inputs: Mapping[str, Any]) -> str | None:
    """Whether the fitter makes the ensemble that is asked for; ``None`` if so."""
    own = fit_keys(inputs["ensemble"].get_dict()) if inputs.get("ensemble") is not None else None
    fitter = inputs.get("fitter") or {}
    if own is None or "entry_point" not in fitter:
        return None
    cls = step_class(fitter["entry_point"].value)
    if "ensemble" not in cls.spec().outputs:
        return f"ensemble: {fitter['entry_point'].value} cannot make ensembles; use aceal.fit, or leave `members` at 0"
    settings = fitter["settings"].get_dict() if "settings" in fitter else {}
    return cls.check_settings({"settings": orm.Dict({**settings, "ensemble": own})})
