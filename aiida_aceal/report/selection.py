"""Report of a comparison of selection strategies: table (terminal, Markdown, HTML) and figures."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

TITLES = {
    "forces_rmse": "force RMSE",
    "forces_max": "largest force error",
    "energy_rmse": "energy RMSE",
    "energy_max": "largest energy error",
}
UNITS = {"forces_rmse": "meV/Å", "forces_max": "meV/Å", "energy_rmse": "meV/atom", "energy_max": "meV/atom"}
_COLORS = ("#777777", "#4c78a8", "#e45756", "#54a24b", "#f58518", "#b279a2", "#9d755d", "#72b7b2", "#ff9da6", "#000000")
HEADINGS = (
    "strategy",
    "struct.",
    "atoms",
    "force RMSE\nmeV/Å [95 %]",
    "largest\nforce error\nmeV/Å [95 %]",
    "energy RMSE\nmeV/atom [95 %]",
    "largest\nforce error\n÷ baseline [95 %]\np, seeds won",
    "labels\n(atoms)\nsaved",
    "choice\ns",
)


def _entries(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Strategies with their numbers, the baseline first."""
    return [(name, summary["strategies"][name]) for name in summary["order"]]


def rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Cells of the table, one line per strategy, at the largest size; the baseline first.

    The ratio and p are those over all sizes but the start (paired t-test of logarithms, Holm-corrected). Labels saved:
    for the force RMSE that the baseline reaches at its last size.
    """
    lines = []
    for label, entry in _entries(summary):
        last = entry["points"][-1]
        line = [label, f"{last['n_structures']:.0f}", f"{last['n_atoms']:.0f}"]
        line += [_interval(last[metric], 1000.0) for metric in ("forces_rmse", "forces_max", "energy_rmse")]
        if "overall" in entry:
            test = entry["overall"]["forces_max"]
            line.append(f"{_interval(test['ratio'], 1.0)}{_p(test['p_holm'])}, {test['wins']}/{test['n']} seeds")
            line.append(_saving(entry["needed"]["forces_rmse"][0]))
        else:
            line += ["baseline", ""]
        line.append(f"{entry['seconds']['select']:.1f}")
        lines.append(line)
    return lines


def _interval(value: Mapping[str, float | None], scale: float) -> str:
    text = _number(scale * value["mean"])
    if value["low"] is not None:
        text += f" [{_number(scale * value['low'])}, {_number(scale * value['high'])}]"
    return text


def _number(value: float) -> str:
    """Three digits, and no powers of ten where they only hide the size."""
    return f"{value:.0f}" if 999.5 <= value < 1e6 else f"{value:.3g}"


def _p(value: float | None) -> str:
    return "" if value is None else f", p {value:.2g}" if value >= 1e-4 else ", p < 1e-4"


def _saving(needed: Mapping[str, Any]) -> str:
    if needed["saving_structures"] is None:
        return "not reached"
    atoms = "" if needed["saving_atoms"] is None else f" ({100 * needed['saving_atoms']:+.0f} %)"
    return f"{100 * needed['saving_structures']:+.0f} %{atoms}"


def markdown_table(summary: Mapping[str, Any]) -> str:
    """The table in Markdown."""
    head = [name.replace("\n", " ") for name in HEADINGS]
    lines = [head, ["---"] * len(head), *rows(summary)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _upper(title: str) -> str:
    return title[0].upper() + title[1:]


def rich_table(summary: Mapping[str, Any], title: str, width: int = 120) -> Any:
    """The table for a terminal; a narrow one does without energies and times, which stand in the report."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold", padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
    # intervals below their means: the table stays narrow
    cells = [
        [line[0], *(re.sub(r" (?=[\[(])|, (?=p |\d+/)", "\n", cell) for cell in line[1:])] for line in rows(summary)
    ]
    dropped = () if width >= 110 else (5, 8)
    kept = [k for k in range(len(HEADINGS)) if k not in dropped]
    for k in kept:
        heading = HEADINGS[k].replace(" [95", "\n[95")
        longest = max(len(part) for text in (heading, *(line[k] for line in cells)) for part in text.split("\n"))
        if k == 0:
            table.add_column(heading, overflow="fold", min_width=min(longest, 8))
        else:
            table.add_column(heading, justify="right", no_wrap=True, min_width=longest)
    for line in cells:
        table.add_row(*(line[k] for k in kept))
    return table


def facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What stands at the top of the report."""
    return {
        "Pool": f"{summary['n_pool']} labelled structures; test set {summary['n_test']}",
        "Sizes": f"{', '.join(str(size) for size in summary['sizes'])} {summary['unit']}, the first drawn at random",
        "Seeds": f"{', '.join(str(seed) for seed in summary['seeds'])} (each seed has the same start for all "
        "strategies)",
        "Baseline": summary["baseline"],
        "Means": f"geometric, with {100 * summary['level']:g} % intervals (Student's t on logarithms) over the seeds",
        "Significance": summary["test"],
    }


# --- figures -----------------------------------------------------------------------------------------------------


def figure(draw: Callable[[Any], None], title: str) -> bytes:
    """PNG of one figure. Uses no global state of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = canvas.add_subplot()
    draw(axes)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(buffer)
    return buffer.getvalue()


def figures(summary: Mapping[str, Any]) -> dict[str, bytes]:
    """Title -> PNG: every error against structures and atoms, labels needed, wall time."""
    found = {}
    for metric, title in TITLES.items():
        for amount, of in (("n_structures", "labels"), ("n_atoms", "atoms")):
            name = f"{_upper(title)} against {of}"
            found[name] = figure(_learning(summary, metric, amount), name)
    found["Labels needed"] = figure(_needed(summary), "Labels needed for the last force RMSE of the baseline")
    found["Time"] = figure(_time(summary), "Wall time of one curve, mean over the seeds")
    return found


def _learning(summary: Mapping[str, Any], metric: str, amount: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for k, (label, entry) in enumerate(_entries(summary)):
            x = [point[amount] for point in entry["points"]]
            y = [1000 * point[metric]["mean"] for point in entry["points"]]
            style = "--" if label == summary["baseline"] else "-"
            color = _COLORS[k % len(_COLORS)]
            axes.plot(x, y, "o" + style, color=color, label=label, markersize=4)
            if entry["points"][0][metric]["low"] is not None:
                low = [1000 * point[metric]["low"] for point in entry["points"]]
                high = [1000 * point[metric]["high"] for point in entry["points"]]
                axes.fill_between(x, low, high, color=color, alpha=0.08, linewidth=0)
        # wide intervals of the small start must not squeeze the curves
        means = [1000 * p[metric]["mean"] for e in summary["strategies"].values() for p in e["points"]]
        axes.set_ylim(0.6 * min(means), 1.6 * max(means))
        axes.set_xscale("log")
        ticks = [round(p[amount]) for p in summary["strategies"][summary["baseline"]]["points"]]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_yscale("log")
        axes.set_xlabel("labelled structures" if amount == "n_structures" else "atoms in labelled structures")
        axes.set_ylabel(f"{TITLES[metric]} ({UNITS[metric]})")
        axes.legend(fontsize="x-small")

    return draw


def _bars(axes: Any, labels: list[str], values: list[float], notes: list[str], xlabel: str) -> None:
    places = range(len(labels))
    axes.barh(places, values, color=[_COLORS[k % len(_COLORS)] for k in places])
    axes.set_yticks(list(places), labels)
    axes.invert_yaxis()
    for place, value, note in zip(places, values, notes):
        axes.text(value, place, f" {note}", va="center", fontsize="x-small")
    axes.set_xlabel(xlabel)


def _needed(summary: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        labels, values, notes = [], [], []
        for label, entry in _entries(summary):
            needed = entry["needed"]["forces_rmse"][0]
            labels.append(label)
            values.append(needed["structures"] or 0.0)
            notes.append("not reached" if needed["structures"] is None else f"{needed['structures']:.0f}")
        _bars(axes, labels, values, notes, "labelled structures")
        axes.margins(x=0.15)

    return draw


def _time(summary: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        entries = dict(_entries(summary))
        total = [entry["seconds"]["total"] for entry in entries.values()]
        notes = [f"{entry['seconds']['select']:.1f} s of it for the selection" for entry in entries.values()]
        _bars(axes, list(entries), total, notes, "seconds")
        axes.margins(x=0.35)

    return draw


_NOTE = (
    "Ratio and p: over all sizes except the start. Labels saved: to reach the force RMSE of the baseline at its "
    "last size, "
    "read off the mean curves (negative: more labels are needed)."
)


def page(summary: Mapping[str, Any], title: str, more: Mapping[str, str] | None = None) -> str:
    """One HTML file that refers to nothing outside itself."""
    from aiida_aceal.report.html import comparison_page

    details = "<h2>All sizes</h2>\n" + "".join(_size_table(summary, metric) for metric in TITLES)
    stated = {**(more or {}), **facts(summary)}
    table = (HEADINGS, rows(summary))
    return comparison_page(title, stated, *table, figures(summary), "At the largest size", _NOTE, details)


def _size_table(summary: Mapping[str, Any], metric: str) -> str:
    head = "".join(f"<th>{size}</th>" for size in summary["sizes"])
    lines = []
    for label, entry in _entries(summary):
        cells = []
        for point in entry["points"]:
            against = point[metric].get("vs")
            p = "" if against is None else _p(against["p_t"])
            cells.append(f"<td>{html.escape(_interval(point[metric], 1000.0) + p)}</td>")
        lines.append(f"<tr><td>{html.escape(label)}</td>{''.join(cells)}</tr>")
    return (
        f"<h3>{_upper(TITLES[metric])}, {UNITS[metric]}</h3>"
        f"<div class='scroll'><table><thead><tr><th>strategy</th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )
