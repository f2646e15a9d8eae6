"""Report of a comparison of indicators of uncertainty: table (terminal, Markdown, HTML) and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aiida_aceal.report.selection import _COLORS, _number, figure

HEADINGS = (
    "indicator",
    "threshold",
    "rank\ncorrelation",
    "missed\n(false neg.)",
    "false alarms\n(false pos.)",
    "ROC area\nof novelty",
    "calibration\nerror",
    "explained\nvariance",
    "grading\ns",
)


def rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the table, one line per indicator."""
    lines = []
    for name, entry in summary["indicators"].items():
        line = [name]
        line.append("" if entry["threshold"] is None else f"{entry['threshold']:.3g} {entry['unit']}".strip())
        line.append(f"{entry['spearman']:.2f}")
        line += [_share(entry.get(key)) for key in ("false_negative_rate", "false_positive_rate")]
        line.append("" if "novelty" not in entry else f"{entry['novelty']['auc']:.3f}")
        calibration = entry.get("calibration")
        line.append("" if calibration is None else f"{100 * calibration['mean_error']:.0f} %")
        line.append("" if calibration is None else f"{100 * calibration['skill']:.0f} %")
        line.append(f"{entry['seconds']:.2f}")
        lines.append(line)
    return lines


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def markdown_table(summary: Mapping[str, Any]) -> str:
    """The table in Markdown."""
    head = [name.replace("\n", " ") for name in HEADINGS]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows(summary)])


def rich_table(summary: Mapping[str, Any], title: str, width: int = 120) -> Any:
    """The table for a terminal; the same for every ``width``, rich folds its cells."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
    for k, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if k == 0 else "right")
    for line in rows(summary):
        table.add_row(*line)
    return table


def facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What stands at the top of the report."""
    errors = summary["test"]
    found = {
        "Sets": f"{summary['n_train']} structures learnt, {summary['n_structures']} graded",
        "Fit": f"test RMSE {_number(1000 * errors['energy']['rmse'])} meV/atom, "
        f"{_number(1000 * errors['forces']['rmse'])} meV/Å",
        "Outliers": f"largest force error of a structure above {_number(1000 * summary['outlier']['forces'])} meV/Å, "
        f"energy error above {_number(1000 * summary['outlier']['energy'])} meV/atom (Q3 + 1.5 IQR of the learnt set)",
        "Cost": ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary["seconds"].items())
        + f"; one evaluation of the graded set {summary['evaluation_seconds']:.2f} s",
    }
    if summary.get("groups") and summary.get("known"):
        novel = sum(group not in summary["known"] for group in summary["groups"])
        found["Kinds"] = f"learnt: {', '.join(summary['known'])}; {novel} graded structures are of other kinds"
    if summary.get("notes"):
        found["Notes"] = "; ".join(summary["notes"])
    return found


def figures(summary: Mapping[str, Any]) -> dict[str, bytes]:
    """Title -> PNG: error against each indicator, ROC curves, predicted against observed errors."""
    found = {}
    for k, (name, entry) in enumerate(summary["indicators"].items()):
        title = f"Error against {name}"
        found[title] = figure(_scatter(summary, name, entry, _COLORS[(k + 1) % len(_COLORS)]), title)
    if any("novelty" in entry for entry in summary["indicators"].values()):
        found["Detection of kinds that were not learnt"] = figure(
            _roc(summary), "Detection of kinds that were not learnt"
        )
    if any("calibration" in entry for entry in summary["indicators"].values()):
        found["Predicted and observed errors"] = figure(_calibration(summary), "Predicted and observed errors")
    return found


def _scatter(summary: Mapping[str, Any], name: str, entry: Mapping[str, Any], color: str) -> Callable[[Any], None]:
    quantity = "energy" if entry["unit"] == "eV/atom" else "forces"
    unit = "meV/atom" if quantity == "energy" else "meV/Å"

    def draw(axes: Any) -> None:
        x = np.maximum(np.asarray(entry["values"], dtype=float), 1e-12)
        y = 1000.0 * np.maximum(np.asarray(summary["errors"][quantity], dtype=float), 1e-9)
        scale = 1000.0 if entry["unit"] else 1.0
        groups, known = summary.get("groups"), summary.get("known")
        if groups and known:
            novel = np.array([group not in known for group in groups])
        else:
            novel = np.zeros(len(x), dtype=bool)
        for mask, marker, label in ((~novel, "o", "learnt kinds"), (novel, "^", "other kinds")):
            if mask.any():
                shade = color if marker == "o" else "#000000"
                axes.plot(scale * x[mask], y[mask], marker, color=shade, markersize=3, alpha=0.4, label=label)
        if entry["threshold"]:
            axes.axvline(scale * entry["threshold"], color="#e45756", linewidth=1, label="threshold")
        axes.axhline(
            1000.0 * summary["outlier"][quantity], color="#777777", linewidth=1, linestyle="--", label="outlier"
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"{name} ({unit})" if entry["unit"] else f"gamma, {name}")
        axes.set_ylabel(f"{'energy' if quantity == 'energy' else 'largest force'} error of a structure ({unit})")
        axes.legend(fontsize="x-small")

    return draw


def _roc(summary: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for k, (name, entry) in enumerate(summary["indicators"].items()):
            if "novelty" in entry:
                found = entry["novelty"]
                label = f"{name} ({found['auc']:.3f})"
                color = _COLORS[(k + 1) % len(_COLORS)]
                axes.plot(found["false_positive_rate"], found["true_positive_rate"], color=color, label=label)
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle="--")
        axes.set_xlabel("learnt kinds called new")
        axes.set_ylabel("other kinds found")
        axes.legend(fontsize="x-small")

    return draw


def _calibration(summary: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        values = []
        for k, (name, entry) in enumerate(summary["indicators"].items()):
            if "calibration" in entry and entry["unit"] != "eV/atom":
                found = entry["calibration"]
                x, y = ([1000.0 * max(v, 1e-9) for v in found[key]] for key in ("predicted", "observed"))
                axes.plot(x, y, "o-", color=_COLORS[(k + 1) % len(_COLORS)], markersize=4, label=name)
                values += x + y
        if values:
            ends = [min(values), max(values)]
            axes.plot(ends, ends, color="#bbbbbb", linewidth=1, linestyle="--")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("force error predicted from the indicator (meV/Å)")
        axes.set_ylabel("observed (meV/Å)")
        axes.legend(fontsize="x-small")

    return draw


_NOTE = (
    "Rank correlation: Spearman's, of the indicator with the error of the structure. Missed: share of outliers that "
    "the indicator calls certain at its threshold; false alarms: share of the others that it calls uncertain. "
    "Calibration error: mean |observed - predicted| / observed in ten groups, each fifth predicted from the other four."
)


def page(summary: Mapping[str, Any], title: str, more: Mapping[str, str] | None = None) -> str:
    """One HTML file that refers to nothing outside itself."""
    from aiida_aceal.report.html import comparison_page

    stated = {**(more or {}), **facts(summary)}
    return comparison_page(title, stated, HEADINGS, rows(summary), figures(summary), "Indicators", _NOTE)
