"""From gamma to the expected force error: what each generation learns about its own grades, and a policy that uses it.

The pairs are honest predictions: new configurations graded and evaluated with the potential that had not learnt them,
and the hold-out set with the same potential.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from aiida_aceal.common.settings import build, setting
from aiida_aceal.fitting.calibration import Calibration
from aiida_aceal.workflows.windows.policies import Window, WindowSettings, fixed

#: points that the stored map is kept at
POINTS = 40
#: defaults of the proposal, declared by the calibration itself
_DEFAULTS = inspect.signature(Calibration.propose).parameters
_PROPOSE = tuple(name for name in _DEFAULTS if name != "self")


class CalibratedSettings(WindowSettings):
    """The window that the calibration proposes; ``gamma_lo`` and ``gamma_hi`` hold until there is one."""

    heading = "Campaign: `window` of policy calibrated"

    error_lo: float | None = setting(
        None, "Expected force error from which environments are selected; null: factor_lo times that of known "
            "environments.",
        unit="eV/A", gt=0,
    )  # fmt: skip
    error_hi: float | None = setting(
        None, "Expected force error at which runs halt; null: factor_hi times that of known environments.",
        unit="eV/A", gt=0,
    )  # fmt: skip
    factor_lo: float = setting(_DEFAULTS["factor_lo"].default, "See error_lo.", gt=0)
    factor_hi: float = setting(_DEFAULTS["factor_hi"].default, "See error_hi.", gt=0)
    lo_bounds: tuple[float, float] = setting(_DEFAULTS["lo_bounds"].default, "Bounds of gamma_lo.", gt=0)
    hi_bounds: tuple[float, float] = setting(_DEFAULTS["hi_bounds"].default, "Bounds of gamma_hi.", gt=0)
    min_count: int = setting(200, "Smallest number of labelled environments that a calibration may rest on.", ge=1)

    @model_validator(mode="after")
    def _ascending(self) -> CalibratedSettings:
        for name in ("lo_bounds", "hi_bounds"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be two positive ascending numbers, found {[low, high]}")
        for low, high in (("error_lo", "error_hi"), ("factor_lo", "factor_hi")):
            first, last = getattr(self, low), getattr(self, high)
            if first is not None and last is not None and first > last:
                raise ValueError(f"{low} ({first:g}) must not exceed {high} ({last:g})")
        return self


def has_pairs(reports: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the evaluation reports hold grades with force errors that a map can be made from."""
    return sum(len((report.get("graded_errors") or {}).get("gamma", ())) for report in reports) >= 2


def calibration_of(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The map (``gamma``, ``error``, ``quantile``, ``count``, ``spearman``) and the ``proposal`` it leads to.

    :param reports: of ``aceal.evaluate`` with an active set and labels
    :raises AceError: fewer than two pairs
    """
    from aiida_aceal.fitting import calibrate

    pairs = [report["graded_errors"] for report in reports if report.get("graded_errors")]
    gamma = [value for part in pairs for value in part["gamma"]]
    found = calibrate(gamma, [value for part in pairs for value in part["error"]], points=POINTS)
    return {**found.to_dict(), "proposal": found.propose().to_dict()}


def proposal_text(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What the last calibration of a campaign proposes, for people; ``None`` if there is none."""
    found = [row["calibration"] for row in rows if row.get("calibration")]
    if not found:
        return None
    last = found[-1]["proposal"]
    return (
        f"gamma_lo {last['gamma_lo']:.3g}, gamma_hi {last['gamma_hi']:.3g} (the policy `calibrated` accepts it); "
        "expected "
        f"force error {1000 * last['base_error']:.3g} meV/A where gamma <= 1, from {found[-1]['count']} environments"
    )


def calibrated(settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Window:
    """The window that the last calibration proposes; ``gamma_lo`` and ``gamma_hi`` as given until there is one.

    Settings: :class:`CalibratedSettings`.
    ``gamma_stop``: never exceeded, by ``gamma_lo`` neither; without it the stop criterion is ``gamma_lo``, and the
    reason names every change of it.
    """
    given = build(CalibratedSettings, settings, "window")
    start = fixed({key: settings[key] for key in ("gamma_lo", "gamma_hi", "gamma_stop") if key in settings}, ())
    least = given.min_count
    maps = [row["calibration"] for row in history if row.get("calibration")]
    usable = [found for found in maps if found["count"] >= least]
    options = {key: getattr(given, key) for key in _PROPOSE}
    if not usable:
        reason = f"calibrated: no generation with {least} graded environments yet"
        return Window(start.gamma_lo, start.gamma_hi, start.gamma_stop, reason)
    found = Calibration.from_dict(usable[-1]).propose(**options)
    low, high, stop, changes = _stop_criterion(settings.get("gamma_stop"), start.gamma_stop, found)
    beyond = "" if found.hi_reached else ", not reached in the data"
    return Window(
        low,
        high,
        stop,
        f"calibrated on {usable[-1]['count']} environments: expected force error {1000 * found.base_error:.3g} meV/A "
        f"where gamma <= 1; {1000 * found.error_lo:.3g} at gamma_lo {found.gamma_lo:.3g}, "
        f"{1000 * found.error_hi:.3g} at gamma_hi{beyond}{changes}",
    )


def _stop_criterion(given: float | None, before: float, found: Any) -> tuple[float, float, float, str]:
    """gamma_lo, gamma_hi, gamma_stop in force, and what changed the stop criterion, in words.

    A ``gamma_stop`` of the user's is the largest there will be, and ``gamma_lo`` stays at or below it: between the two
    runs would neither converge nor give candidates. Without one the stop criterion is ``gamma_lo``, also a calibrated.
    """
    low, high = found.gamma_lo, found.gamma_hi
    if given is None:
        said = "" if low == before else f"; gamma_stop follows gamma_lo: {low:.3g} instead of {before:g}"
        return low, high, low, said + ("; state gamma_stop to bound it" if low > before else "")
    if low > given:
        return given, high, given, f"; gamma_lo only {given:g}, since gamma_stop {given:g} bounds it"
    if given > high:
        return low, high, high, f"; gamma_stop {high:.3g} instead of {given:g}, not above gamma_hi"
    return low, high, given, ""
