"""Window policy ``regimes``: the three regimes of the water study (PRM 7, 043801, Sec. V.B and Fig. 7).

A narrow window with gamma at every step while the runs end early; then a wider one; then, step by step, lower
``gamma_lo``, until every run reaches its full length. How far the shortest run of a generation got decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida_aceal.common.settings import build, setting
from aiida_aceal.workflows.windows.policies import Window, WindowSettings


class RegimesSettings(WindowSettings):
    """Windows of three regimes; ``gamma_lo`` and ``gamma_hi`` are the last one."""

    heading = "Campaign: `window` of policy regimes"

    narrow: tuple[float, float] | None = setting(
        None, "[lower, upper] of the first regime; null: 0.4 and 0.6 of gamma_hi.", gt=0,
        allowed="[lower, upper], two positive numbers",
    )  # fmt: skip
    wide: tuple[float, float] | None = setting(
        None, "[lower, upper] of the second regime; null: 0.4 and 1 times gamma_hi.", gt=0,
        allowed="[lower, upper], two positive numbers",
    )  # fmt: skip
    lowered: tuple[float, ...] | None = setting(
        None,
        "Falling values of gamma_lo in the third regime; null: 0.2 gamma_hi, then gamma_lo.",
        gt=0,
        items=(1, None),
    )
    widen_at: float = setting(
        0.5, "Fraction of the MD length that the shortest run must reach before the first regime ends.", gt=0, le=1
    )
    lower_at: float = setting(0.5, "The same for the second regime.", gt=0, le=1)
    max_narrow: int = setting(12, "Largest number of generations in the first regime.", ge=1)
    max_wide: int = setting(6, "Largest number of generations in the second regime.", ge=1)
    narrow_interval: int | None = setting(
        1, "Steps between checks of gamma in the narrow regime; null: as set for the explorer.", ge=1
    )


def regimes(settings: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Window:
    """Narrow window, wide window, then lowered ``gamma_lo``: by the MD length that the runs reached.

    Settings: :class:`RegimesSettings`. With ``gamma_hi: 25`` the windows are 10...15, 10...25, 5...25, 2...25. Within
    the third regime gamma_lo is lowered when all runs reach their full length.

    A generation without candidates moves on, too; complete runs skip all windows that lie above the largest grade seen.

    :raises ValueError: unknown keys, or numbers that make no windows
    """
    given = build(RegimesSettings, settings, "window").to_dict()
    stages = _stages(given)
    limits = _limits(given)
    stage, used, why = 0, 0, "start"
    for row in history:
        reached, total = row.get("md_steps_reached"), row.get("md_steps_total")
        if not total or reached is None:
            continue  # generation 0, or no run at all
        used += 1
        after, reason = _next_stage(stage, used, reached / total, row, stages, limits)
        if after != stage:
            stage, used, why = after, 0, f"generation {row.get('generation', '?')} {reason}"
    name, low, high = stages[stage]
    return Window(
        low,
        high,
        given["gamma_stop"] or given["gamma_lo"],
        f"regimes: {name} ({why})",
        gamma_interval=given["narrow_interval"] if stage == 0 else None,
    )


def _next_stage(
    stage: int,
    used: int,
    share: float,
    row: Mapping[str, Any],
    stages: Sequence[tuple[str, float, float]],
    limits: Sequence[tuple[float, int | None]],
) -> tuple[int, str]:
    """Stage after a generation whose shortest run reached ``share`` of its length, and the reason of a change."""
    last = len(stages) - 1
    if stage == last:
        return stage, ""
    gamma = row.get("max_gamma")
    at, most = limits[stage]
    if share >= 1 and gamma is not None and gamma <= stages[stage][1]:
        after = stage + 1
        while after < last and gamma <= stages[after][1]:
            after += 1
        return after, f"ran its full length with gamma <= {gamma:.3g}"
    if share >= at:
        return stage + 1, f"reached {100 * share:.0f} % of the MD length; {100 * at:g} % are required"
    if row.get("status") == "no_candidates":
        return stage + 1, "found no candidate"
    if most is not None and used >= most:
        return stage + 1, f"was the last of {most} in its regime"
    return stage, ""


def _stages(given: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """(name, gamma_lo, gamma_hi) of all windows."""
    low, high = given["gamma_lo"], given["gamma_hi"]
    narrow = _pair("narrow", given["narrow"] or [max(low, 0.4 * high), max(0.6 * high, low + 0.4 * (high - low))])
    wide = _pair("wide", given["wide"] or [narrow[0], high])
    if wide[1] < narrow[1]:
        raise ValueError(f"window: wide {list(wide)} must reach as high as narrow {list(narrow)}")
    lowered = given["lowered"]
    if lowered is None:
        lowered = [value for value in (0.2 * high,) if low < value < wide[0]] + [low]
    steps = list(lowered)
    if steps != sorted(set(steps), reverse=True) or steps[0] > wide[0]:
        raise ValueError(f"window: lowered must fall from below the lower limit of wide, {wide[0]:g}; found {steps}")
    return [
        ("narrow", *narrow),
        ("wide", *wide),
        *((f"lowered gamma_lo {value:g}", value, wide[1]) for value in steps),
    ]


def _limits(given: Mapping[str, Any]) -> list[tuple[float, int | None]]:
    """(share of the MD length, generations at most) that end each stage but the last."""
    full = [(1.0, None)] * max(1, len(given["lowered"] or [0, 0]))
    return [(given["widen_at"], given["max_narrow"]), (given["lower_at"], given["max_wide"]), *full]


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"window: {key} must be a positive number, found {value!r}")
    return value


def _pair(key: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"window: {key} must be [lower, upper], found {value!r}")
    low, high = (_number(key, item) for item in value)
    if not low < high:
        raise ValueError(f"window: {key} [{low}, {high}] must rise")
    return low, high
