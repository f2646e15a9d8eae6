"""How good a potential is, in words: its errors beside the spread of the labels and the errors on what was fitted.

"Converged" says that exploration finds nothing unknown any more. It says nothing about errors; this does.

The limits were chosen on linear fits of 70 to 150 structures of mlearn's Si and Mo and of Cu-II (a usual basis: 15 to
19 % of the spread of the forces; pairs only: 30 to 71 %) and looked at on InP and ethanol (3 and 7 %; pairs only: 30
and 97 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: fraction of the spread of the labels up to which errors are small, and from which they are large
SMALL, LARGE = 0.1, 0.3
#: fraction from which nothing has been learnt: the mean of the labels would do as well
NOTHING = 0.8
#: eV/atom, eV/Angstrom: errors below are small whatever the spread; labels themselves are hardly more accurate
FINE = {"energy": 2e-3, "forces": 5e-3}
#: errors on other structures this many times those on the fitted ones: too few structures for the basis
OVERFITTED = 2.0
#: names of outliers shown
SHOWN = 3
LEVELS = ("small", "moderate", "large")
#: level -> colour in a terminal
COLOURS = {"small": "green", "moderate": "yellow", "large": "red"}
_UNITS = {"energy": "meV/atom", "forces": "meV/A"}
_STEM = "Errors: "


@dataclass(frozen=True)
class Judgement:
    """``level`` (one of `LEVELS`) and lines ``Name: text``: errors, training, outliers, what to do next."""

    level: str
    lines: tuple[str, ...]


def colour(line: str) -> str | None:
    """Colour of a line of results in a terminal: that of its level if it says one, yellow for outliers."""
    if line.startswith(_STEM):
        return COLOURS.get(line.removeprefix(_STEM).split()[0])
    return "yellow" if line.startswith("Outliers: ") else None


def judge(
    validation: Mapping[str, Any] | None,
    test: Mapping[str, Any] | None = None,
    fit: Mapping[str, Any] | None = None,
    improvement: float | None = None,
    validated: bool = False,
) -> Judgement | None:
    """The judgement; ``None`` if the reports do not have what it needs (they are of an older version, say).

    :param validation: report of `aceal-worker evaluate` on the validation set: ``energy``, ``forces``, ``spread``
    :param test: the same on the test set; it decides where there is one
    :param fit: report of the fit: ``train``, ``outliers``, ``far_off``
    :param improvement: first validation error over that of the potential returned; ``None`` if there is only one
    :param validated: whether properties of the potential have been computed
    """
    name, report = ("test", test) if test and test.get("spread") else ("validation", validation)
    if not report or not report.get("spread"):
        return None
    levels = {kind: _level(kind, report) for kind in ("energy", "forces") if (report.get(kind) or {}).get("rmse")}
    if not levels:
        return None
    level = max(levels.values(), key=LEVELS.index)
    numbers = "; ".join(_beside(kind, report) for kind in reversed(levels))
    lines = [f"{_STEM}{level} beside the labels of the {name} set: {numbers}"]
    train = (fit or {}).get("train") or {}
    ratios = {
        kind: report[kind]["rmse"] / train[kind]["rmse"] for kind in levels if (train.get(kind) or {}).get("rmse")
    }
    if ratios:
        text = ", ".join(f"{kind} {_number(train[kind]['rmse'])} {_UNITS[kind]}" for kind in reversed(ratios))
        times = " and ".join(f"{ratios[kind]:.2g}" for kind in reversed(ratios))
        lines.append(f"On the structures fitted: {text}; the errors of the {name} set are {times} times these")
    outliers = _outliers(validation, test, fit)
    if outliers:
        more = f"; {len(outliers) - SHOWN} more in the reports" if len(outliers) > SHOWN else ""
        lines.append(f"Outliers: {'; '.join(outliers[:SHOWN])}{more}")
    decisive = "forces" if "forces" in ratios else "energy"
    steps = _next(level, levels, ratios.get(decisive), bool(outliers), improvement, test is not None, validated)
    lines.append(f"Next: {'; '.join(steps)}")
    return Judgement(level, tuple(lines))


def _level(kind: str, report: Mapping[str, Any]) -> str:
    value, spread = report[kind]["rmse"], report["spread"].get(kind) or 0.0
    if value <= max(SMALL * spread, FINE[kind]):
        return "small"
    return "moderate" if value <= LARGE * spread else "large"


def _beside(kind: str, report: Mapping[str, Any]) -> str:
    value, spread = report[kind]["rmse"], report["spread"].get(kind) or 0.0
    text = f"{kind} {_number(value)} {_UNITS[kind]}"
    if spread <= 0.0:
        return f"{text}, where the labels do not differ at all"
    nothing = ", no better than the mean of the labels" if value >= NOTHING * spread and value > FINE[kind] else ""
    return f"{text}, {_number(0.1 * value / spread)} % of their spread ({_number(spread)}){nothing}"


def _number(value: float) -> str:
    value = 1000 * value
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _outliers(validation: Mapping | None, test: Mapping | None, fit: Mapping | None) -> list[str]:
    """What stands out, in words: labels that cannot be right first."""
    found = [str(line) for line in (fit or {}).get("outliers") or []]
    for where, report in (("training", fit), ("validation", validation), ("test", test)):
        for entry in (report or {}).get("far_off") or []:
            many = f", {entry['error'] / entry['usual']:.0f} times that of the others" if entry["usual"] else ""
            kind = entry["what"]
            found.append(f"{entry['name']} ({where} set): {kind} error {_number(entry['error'])} {_UNITS[kind]}{many}")
    return found


def _next(
    level: str,
    levels: Mapping[str, str],
    ratio: float | None,
    outliers: bool,
    improvement: float | None,
    tested: bool,
    validated: bool,
) -> Sequence[str]:
    steps = []
    if outliers:
        steps.append(
            "check the labels of the outliers: relabel or remove what is wrong, add structures like what is right"
        )
    if level == "small":
        steps += [] if tested else ["give a test set, which has chosen nothing"]
        steps.append(
            "look at the properties in the report" if validated else "compute properties: aiida-aceal validate"
        )
        return steps
    if outliers:
        return [*steps, "then run again, since wrong labels spoil all else"]
    if levels.get("forces") == "small":
        steps.append(
            "the forces are learnt, the energies are not: check that all energies are of one method and setting"
        )
    if improvement is not None and improvement < 1.05:
        steps.append("the campaign has not lowered the error: more generations of the same will not help")
    if ratio is not None and ratio > OVERFITTED:
        steps.append(
            "more structures like those of the validation set (wider temperatures and volumes, lower window.gamma_lo "
            "and gamma_stop), since the basis does better on what it has seen"
        )
    elif ratio is not None:
        steps.append(
            "a larger basis or cutoff, or fit.settings.method: nonlinear, since the fitted structures are hardly "
            "better; "
            "make sure that the labels are converged and of one method"
        )
    else:
        steps.append("a larger basis, more structures, or better labels")
    return steps
