"""Settings of the ensemble of a campaign, and their checks at submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_aceal.common.settings import nearest
from aiida_aceal.workflows.steps import step_class

#: settings of `ensemble` with their defaults; 0 members: no ensemble
ENSEMBLE: dict[str, Any] = {"members": 0, "candidates": "gamma", "selection": "gamma", "factor": 1.0}
_OWN = ("candidates", "selection", "factor")
_INDICATORS = ("gamma", "ensemble")


def fit_keys(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of the settings that is `ensemble` of the fit; ``None`` without members."""
    if not settings.get("members"):
        return None
    return {key: value for key, value in settings.items() if key not in _OWN}


def check_ensemble(settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings, or ``None``."""
    from aiida_aceal.ace.errors import AceError
    from aiida_aceal.fitting.ensemble_settings import EnsembleSettings
    from aiida_aceal.fitting.schema import build

    known = {**ENSEMBLE, **EnsembleSettings.__dataclass_fields__}
    for key in settings:
        if key not in known:
            return f"ensemble: unknown key '{key}'; {nearest(key, known)}"
    given = {**ENSEMBLE, **settings}
    for key in ("candidates", "selection"):
        if given[key] not in _INDICATORS:
            return f"ensemble: `{key}` must be gamma or ensemble, found {given[key]!r}"
    factor = given["factor"]
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0:
        return f"ensemble: `factor` must be a positive number, found {factor!r}"
    try:
        own = fit_keys(given)
        if own is not None:
            build(EnsembleSettings, own, "ensemble")
        elif "ensemble" in (given["candidates"], given["selection"]):
            return "ensemble: say how many `members` it has"
    except AceError as error:
        return str(error)
    return None


def check_fitter(inputs: Mapping[str, Any]) -> str | None:
    """Whether the fitter makes the ensemble that is asked for; ``None`` if so."""
    own = fit_keys(inputs["ensemble"].get_dict()) if inputs.get("ensemble") is not None else None
    fitter = inputs.get("fitter") or {}
    if own is None or "entry_point" not in fitter:
        return None
    cls = step_class(fitter["entry_point"].value)
    if "ensemble" not in cls.spec().outputs:
        return f"ensemble: {fitter['entry_point'].value} makes no ensembles; use aceal.fit, or leave `members` at 0"
    settings = fitter["settings"].get_dict() if "settings" in fitter else {}
    return cls.check_settings({"settings": orm.Dict({**settings, "ensemble": own})})
