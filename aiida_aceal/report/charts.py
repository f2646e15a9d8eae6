"""What the charts of a campaign's report show: numbers, axes and limits, for the script of the page to draw.

A chart has ``choices``, of which the page shows one: ``x`` and ``y`` (label, log, integer), ``series`` (name, kind,
x, y, and text for each point), ``hlines`` and ``vlines`` (limits), ``diagonal``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida_aceal.workflows.costs import REST, STAGES

Rows = Sequence[Mapping[str, Any]]
Chart = dict[str, Any]

GENERATION = {"label": "generation", "integer": True}
_LIMITS = (("gamma_lo", "γ_lo"), ("gamma_hi", "γ_hi"), ("gamma_stop", "γ_stop"))
_ERRORS = (("forces", "meV/Å", "force"), ("energy", "meV/atom", "energy"))
_MEASURES = (("rmse", "RMSE"), ("max", "largest error"))
_COLOURS = {"md": "#2f6db5", "selection": "#8e5ea2", "labels": "#e4572e", "fits": "#3a9d5d", "validation": "#c99700"}


def series(rows: Rows, key: str, name: str, kind: str = "both", scale: float = 1.0, **more: Any) -> dict[str, Any]:
    """Values of a column against the generation, where there are any."""
    found = [(int(row["generation"]), scale * float(row[key])) for row in rows if row.get(key) is not None]
    return {"name": name, "kind": kind, "x": [x for x, _ in found], "y": [y for _, y in found], **more}


def errors(rows: Rows) -> Chart:
    """Errors on the new structures before and after the refit, and on the validation set: four views of one chart."""
    choices = []
    for quantity, unit, word in _ERRORS:
        for measure, title in _MEASURES:
            names = (
                (f"new_{quantity}_{measure}_before", "new structures, before refit", {"dash": True}),
                (f"new_{quantity}_{measure}_after", "new structures, after refit", {}),
                (f"holdout_{quantity}_{measure}", "validation set", {}),
            )
            drawn = [series(rows, key, name, scale=1000.0, **more) for key, name, more in names]
            y = {"label": f"{word} {title} ({unit})", "log": True}
            choices.append({"name": f"{word} {title}", "x": GENERATION, "y": y, "series": drawn})
    return {"id": "errors", "title": "Errors", "choices": choices, "start": 0}


def max_gamma(rows: Rows) -> Chart:
    """Largest extrapolation grade met in each generation, and the limits of the window in force."""
    explored = [row for row in rows if row.get("max_gamma") is not None]
    drawn = [series(explored, "max_gamma", "max γ")]
    drawn += [series(explored, key, name, "line", dash=True) for key, name in _LIMITS]
    y = {"label": "extrapolation grade γ", "log": True}
    return _one("gamma", "Extrapolation grade", GENERATION, y, drawn)


def lengths(rows: Rows) -> Chart:
    """Steps that the shortest run of each generation reached."""
    totals = [row["md_steps_total"] for row in rows if row.get("md_steps_total")]
    lines = [{"name": "full length", "value": max(totals)}] if totals else []
    drawn = [series(rows, "md_steps_reached", "shortest run", "bars")]
    return _one("lengths", "Length of the runs", GENERATION, {"label": "MD steps reached"}, drawn, hlines=lines)


def sizes(rows: Rows) -> Chart:
    """Structures that the potential is fitted to."""
    drawn = [series(rows, "n_training", "training structures")]
    return _one("training", "Training set", GENERATION, {"label": "structures", "integer": True}, drawn)


def costs_chart(costs: Mapping[str, Any]) -> Chart:
    """Wall and core time of each generation by stage, one on top of the other."""
    choices = []
    for key, name in (("wall_seconds", "wall time"), ("core_seconds", "core time")):
        tables = {int(number): table for number, table in costs["generations"].items()}
        base = dict.fromkeys(tables, 0.0)
        drawn = []
        parts = {stage: (title, _COLOURS[stage]) for stage, title in STAGES.items()}
        if key == "wall_seconds":
            parts[REST] = ("no job at work", "#b8bcc4")
        for stage, (title, colour) in parts.items():
            values = {n: (table[REST] if stage == REST else table["stages"][stage])[key] for n, table in tables.items()}
            drawn.append(
                {"name": title, "kind": "bars", "color": colour, "x": list(values), "y": list(values.values()),
                 "base": [base[n] for n in values]}
            )  # fmt: skip
            base = {n: base[n] + value for n, value in values.items()}
        choices.append({"name": name, "x": GENERATION, "y": {"label": f"{name} (s)"}, "series": drawn})
    return {"id": "cost", "title": "Cost by stage", "choices": choices, "start": 0}


def calibration(rows: Rows) -> Chart | None:
    """Expected force error against gamma by the last calibration, and the window it proposes."""
    found = [row["calibration"] for row in rows if row.get("calibration")]
    if not found:
        return None
    last = found[-1]
    names = (("error", "expected"), ("quantile", "9 in 10 below"))
    drawn = [
        {"name": name, "kind": "line", "x": list(last["gamma"]), "y": [1000.0 * v for v in last[key]]}
        for key, name in names
    ]
    lines = [{"name": f"proposed {name}", "value": last["proposal"][key]} for key, name in _LIMITS[:2]]
    x, y = {"label": "extrapolation grade γ", "log": True}, {"label": "force error of an atom (meV/Å)", "log": True}
    return _one("calibration", "Calibration of γ", x, y, drawn, vlines=lines)


def walkers_chart(runs: Sequence[Mapping[str, Any]], rows: Rows) -> Chart | None:
    """Gamma against the MD step of every walker, by generation: halts are crosses, selected structures rings.

    :param runs: ``generation``, ``name``, ``steps``, ``gamma`` and ``halt`` (step, gamma; or ``None``), ``selected``
        (list of step, gamma, words)
    """
    if not runs:
        return None
    limits = {int(row["generation"]): row for row in rows}
    choices = []
    for number in sorted({run["generation"] for run in runs}):
        drawn: list[dict[str, Any]] = []
        own = [run for run in runs if run["generation"] == number]
        for run in own:
            drawn.append({"name": run["name"], "kind": "line", "x": run["steps"], "y": run["gamma"]})
        halts = [run["halt"] for run in own if run["halt"]]
        chosen = [point for run in own for point in run["selected"]]
        drawn.append(
            {"name": "halted", "kind": "cross", "color": "#b3261e", "x": [h[0] for h in halts],
             "y": [h[1] for h in halts]}
        )  # fmt: skip
        drawn.append(
            {"name": "selected", "kind": "ring", "color": "#111827", "x": [p[0] for p in chosen],
             "y": [p[1] for p in chosen], "text": [p[2] for p in chosen]}
        )  # fmt: skip
        row = limits.get(number, {})
        lines = [{"name": name, "value": row[key]} for key, name in _LIMITS if row.get(key) is not None]
        axes = {"x": {"label": "MD step"}, "y": {"label": "largest γ of the structure", "log": True}}
        choices.append({"name": f"generation {number}", **axes, "series": drawn, "hlines": lines})
    return {"id": "walkers", "title": "γ along the runs", "choices": choices}


def parity_chart(pairs: Mapping[str, Any]) -> Chart | None:
    """Labels and predictions of the potential that is returned: ``train_energy``, ``validation_forces``, ... [n, 2]."""
    choices = []
    for quantity, unit, word in (("forces", "eV/Å", "force component"), ("energy", "eV/atom", "energy")):
        drawn = []
        for part, name in (("train", "fitted"), ("validation", "validation set")):
            values = pairs.get(f"{part}_{quantity}")
            if values is not None and len(values):
                x, y = ([float(f"{value:.6g}") for value in column] for column in zip(*values))
                drawn.append({"name": name, "kind": "points", "x": x, "y": y})
        if drawn:
            axes = {"x": {"label": f"label: {word} ({unit})"}, "y": {"label": f"ACE: {word} ({unit})"}}
            choices.append({"name": word, **axes, "series": drawn, "diagonal": True})
    return {"id": "parity", "title": "Parity", "choices": choices, "start": 0} if choices else None


def campaign_charts(
    rows: Rows, costs: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], pairs: Mapping[str, Any]
) -> list[Chart]:
    """All charts of a campaign's report, those without numbers left out."""
    found = [
        errors(rows), walkers_chart(runs, rows), parity_chart(pairs), max_gamma(rows), lengths(rows), sizes(rows),
        costs_chart(costs), calibration(rows),
    ]  # fmt: skip
    return [chart for chart in found if chart is not None]


def _one(name: str, title: str, x: Mapping, y: Mapping, drawn: Sequence, **more: Any) -> Chart:
    return {"id": name, "title": title, "choices": [{"name": title, "x": x, "y": y, "series": list(drawn), **more}]}
