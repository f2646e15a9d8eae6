"""From gamma to the expected force error: what each generation learns about its own grades, and a policy that uses it.

The pairs are honest predictions: new configurations graded and evaluated with the potential that had not learnt them,
and the hold-out set with the same potential.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida_aceal.workflows.policies import Window, check_keys, fixed

#: points that the stored map is kept at
POINTS = 40
#: keys of :meth:`aiida_aceal.fitting.calibration.Calibration.propose`
_PROPOSE = ("error_lo", "error_hi", "factor_lo", "factor_hi", "lo_bounds", "hi_bounds")
_KNOWN = ("gamma_lo", "gamma_hi", "gamma_stop", "min_count", *_PROPOSE)
MIN_COUNT = 200


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
        f"gamma_lo {last['gamma_lo']:.3g}, gamma_hi {last['gamma_hi']:.3g} (policy: calibrated accepts it); expected "
        f"force error {1000 * last['base_error']:.3g} meV/A where gamma <= 1, from {found[-1]['count']} environments"
    )


def calibrated(settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Window:
    """The window that the last calibration proposes; ``gamma_lo`` and ``gamma_hi`` as given until there is one.

    ``error_lo``, ``error_hi`` (eV/Angstrom): expected force errors at which to select and to halt; default: 2 and 10
    times (``factor_lo``, ``factor_hi``) that of known environments. ``lo_bounds``, ``hi_bounds``: limits of the
    proposals, [1.5, 5] and [5, 25] by default. ``min_count``: labelled environments that a calibration must rest on.
    ``gamma_stop``: never exceeded, by ``gamma_lo`` neither; without it the stop criterion is ``gamma_lo``, and the
    reason names every change of it.
    """
    from aiida_aceal.fitting import Calibration

    check_keys(settings, _KNOWN)
    start = fixed({key: settings[key] for key in ("gamma_lo", "gamma_hi", "gamma_stop") if key in settings}, ())
    least = settings.get("min_count", MIN_COUNT)
    maps = [row["calibration"] for row in history if row.get("calibration")]
    usable = [found for found in maps if found["count"] >= least]
    options = {key: settings[key] for key in _PROPOSE if key in settings}
    if not usable:
        line = {"gamma": [0.0, 1.0], "error": [0.0, 0.1], "quantile": [0.0, 0.1], "count": 2, "spearman": 1.0}
        _propose(Calibration.from_dict(line), options)  # wrong options show at submission
        reason = f"calibrated: no generation with {least} graded environments yet"
        return Window(start.gamma_lo, start.gamma_hi, start.gamma_stop, reason)
    found = _propose(Calibration.from_dict(usable[-1]), options)
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
        return low, high, low, said + (", state gamma_stop to bound it" if low > before else "")
    if low > given:
        return given, high, given, f"; gamma_lo only {given:g}, since gamma_stop {given:g} bounds it"
    if given > high:
        return low, high, high, f"; gamma_stop {high:.3g} instead of {given:g}, not above gamma_hi"
    return low, high, given, ""


def _propose(found: Any, options: Mapping[str, Any]) -> Any:
    for key in ("lo_bounds", "hi_bounds"):
        value = options.get(key)
        if value is not None and not (
            isinstance(value, (list, tuple)) and len(value) == 2 and 0 < float(value[0]) <= float(value[1])
        ):
            raise ValueError(f"window: {key} must be two positive ascending numbers, found {value!r}")
    return found.propose(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
