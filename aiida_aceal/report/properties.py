"""Report of properties beside their reference: table (terminal, HTML), curves laid over one another."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aiida_aceal.properties.compare import has_ratio, is_principal
from aiida_aceal.report.selection import figure

HEADINGS = ("property", "quantity", "reference", "potential", "difference", "%", "γ max")
#: added where there is an ensemble
SPREAD = "mean ± s.d. of members"
#: up to how many per cent a difference is small, and up to how many middling
LIMITS = (2.0, 10.0)
_REFERENCE, _POTENTIAL = {"color": "#222222"}, {"color": "#e45756"}
_SIDES = ("reference", "potential")


def number(value: Any) -> str:
    """Four significant digits."""
    if value is None:
        return "-"
    return ("yes" if value else "no") if isinstance(value, (bool, np.bool_)) else f"{value:.4g}"


def has_members(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there was an ensemble."""
    return any("members" in row for row in rows)


def cells(row: Mapping[str, Any], members: bool = False) -> list[str]:
    """Cells of one row, in the order of :data:`HEADINGS`."""
    percent = row["relative_percent"] if has_ratio(row) else None
    line = [
        row["property"], row["quantity"], number(row["reference"]), number(row["potential"]),
        row.get("error") or number(row["difference"]), "" if percent is None else f"{percent:+.1f}",
        number(row["gamma_max"]),
    ]  # fmt: skip
    if members:
        line.append(f"{number(row['mean'])} ± {number(row['standard_deviation'])}" if "members" in row else "")
    return line


def grade(row: Mapping[str, Any]) -> str:
    """``good``, ``fair``, ``poor`` by the relative difference, ``failed`` without numbers, else nothing."""
    if row.get("error"):
        return "failed"
    if not has_ratio(row):
        return ""
    size = abs(row["relative_percent"])
    return "good" if size <= LIMITS[0] else "fair" if size <= LIMITS[1] else "poor"


def rich_table(rows: Sequence[Mapping[str, Any]], title: str, width: int = 120) -> Any:
    """The principal rows for a terminal; rich folds the cells to its ``width``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    members = has_members(rows)
    table = Table(title=title, title_justify="left", header_style="bold", padding=(0, 1, 0, 0), box=SIMPLE_HEAD)
    for k, heading in enumerate([*HEADINGS, SPREAD] if members else HEADINGS):
        table.add_column(heading, justify="left" if k < 2 else "right", overflow="fold")
    colours = {"good": "green", "fair": "yellow", "poor": "red", "failed": "dim"}
    last = ""
    for row in filter(is_principal, rows):
        line = cells(row, members)
        line[0], last = ("" if line[0] == last else line[0]), row["property"]
        table.add_row(*line, style=colours.get(grade(row)))
    return table


def load(node: Any) -> dict[str, Any]:
    """``rows``, ``curves`` (by property), ``summary`` of a finished ``aceal.validate``; rows are empty without any."""
    from aiida_aceal.workflows.base import output
    from aiida_aceal.workflows.validate.curves import curves_of

    summary = output(node, "summary")
    found: dict[str, Any] = {"rows": [], "curves": {}, "summary": summary.get_dict() if summary is not None else {}}
    for name in found["summary"].get("properties", ()):
        found["rows"] += output(node, f"numbers__{name}").get_dict()["rows"]
        curves = output(node, f"curves__{name}")
        if curves is not None:
            found["curves"][name] = curves_of(curves)
    return found


def last_validation(node: Any) -> Any:
    """The last validation of a campaign that has numbers, ``None`` if there is none."""
    from aiida_aceal.workflows.base import output

    found = [child for child in node.called if child.process_label == "ValidateWorkChain"]
    return max((child for child in found if output(child, "summary")), key=lambda child: child.pk, default=None)


# --- HTML ------------------------------------------------------------------------------------------------------------

_STYLE = """<style>
td.good { background: #d9f0d9 !important; } td.fair { background: #fdf0c4 !important; }
td.poor { background: #f8d0cd !important; } td.failed { color: #888; text-align: left; }
table.properties td:nth-child(-n+2), table.properties th:nth-child(-n+2) { text-align: left; }
table.properties td:last-child, table.properties th:last-child { text-align: right; }
</style>"""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """HTML table with a colour for the difference."""
    members = has_members(rows)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in ([*HEADINGS, SPREAD] if members else HEADINGS))
    lines = []
    for row in rows:
        words = [html.escape(text) for text in cells(row, members)]
        kind = grade(row)
        tags = [f'<td class="{kind}">' if k in (4, 5) and kind else "<td>" for k in range(len(words))]
        marked = [f"{tag}{word}</td>" for tag, word in zip(tags, words)]
        lines.append(f"<tr>{''.join(marked)}</tr>")
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table class="properties"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
        "</div>\n"
    )


def section(found: Mapping[str, Any]) -> str:
    """Headings, tables and figures, for a page of any kind."""
    from aiida_aceal.report.figures import embedded

    rows = found["rows"]
    drawn = "".join(
        f'<figure><img alt="{html.escape(name)}" src="{embedded(png)}"></figure>\n'
        for name, png in figures(found).items()
    )
    low, high = LIMITS
    note = (
        f"Difference: potential minus reference, both from the same structures. Green: up to {low:g} %, yellow: up to "
        f"{high:g} %, red: more. γ max: largest extrapolation grade of the structures behind a number. Surfaces and "
        "defects are relaxed with the potential; the force that the reference finds there is listed as "
        "max_force_eV_per_A."
    )
    if has_members(rows):
        note += " Members: the same number from each potential of the ensemble, in the same structures."
    return (
        f"{_STYLE}<h2>Properties</h2>\n{table([row for row in rows if is_principal(row)])}<p>{note}</p>\n"
        f'<h2>Curves</h2>\n<div class="figures">\n{drawn}</div>\n'
        f"<details><summary>All numbers</summary>\n{table(rows)}</details>\n"
    )


def facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What stands at the top."""
    found = {}
    worst = summary.get("worst")
    if worst:
        found["Worst"] = worst_text(worst)
    found["Structures"] = f"{summary.get('n_structures', 0)}"
    found["Labels"] = (
        f"{summary.get('n_labelled', 0)} made ({summary.get('label_core_seconds', 0):.1f} core seconds), "
        f"{summary.get('n_reused', 0)} reused, {summary.get('n_unlabelled', 0)} failed"
    )
    guesses = summary.get("left_as_given")
    if guesses:
        found["Lattice"] = "as given: " + "; ".join(guesses.values())
    else:
        words = {"reference": "at the volume of lowest energy of the reference", "given": "as given"}
        found["Lattice"] = words.get(summary.get("lattice", ""), "")
    intervals = summary.get("intervals")
    if intervals:
        found["Error bars"] = (
            f"the ensemble's intervals of {100 * intervals['level']:g} % hold the reference in "
            f"{intervals['inside']} of {intervals['numbers']} numbers"
        )
    return found


def worst_text(row: Mapping[str, Any]) -> str:
    """``elastic independent_GPa.C44: 80.1 for 89.9 (-11 %)``."""
    return (
        f"{row['property']} {row['quantity']}: {number(row['potential'])} for {number(row['reference'])} "
        f"({row['relative_percent']:+.1f} %)"
    )


def page(found: Mapping[str, Any], title: str, more: Mapping[str, str] | None = None) -> str:
    """One HTML file that refers to nothing outside itself."""
    from aiida_aceal.report.html import plain_page

    return plain_page(title, {**(more or {}), **facts(found["summary"])}, section(found))


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Title -> PNG: of what there is."""
    drawings: dict[str, Callable[[Any], None]] = {}
    if any("members" in row and row["reference"] for row in found["rows"]):
        drawings["Differences and error bars"] = _error_bars(found["rows"])
    curves = found["curves"]
    if "eos" in curves:
        drawings["Equations of state"] = _eos(curves["eos"])
    if "phonon" in curves:
        drawings["Phonon bands"] = _bands(curves["phonon"])
        drawings["Phonon density of states"] = _lines(
            curves["phonon"], "dos", "frequency_THz", "states_per_THz", "frequency (THz)", "states per THz"
        )
    if "surface" in curves:
        drawings["Stacking fault"] = _lines(
            curves["surface"], "stacking_fault", "displacement", "energy_mJ_per_m2", "displacement (partial Burgers "
            "vectors)", "energy (mJ/m²)",
        )  # fmt: skip
    for kind, title in (("dimer", "Dimers"), ("crystal", "An atom pushed into its neighbour")):
        if any(kind in pair for pair in curves.get("pairs", {}).get("potential", {}).values()):
            drawings[title] = _pairs(curves["pairs"], kind)
    if "vacancy" in curves:
        drawings["Migration of vacancies"] = _paths(curves["vacancy"])
    if "md" in curves:
        drawings["Radial distribution"] = _lines(curves["md"], "rdf", "distance_A", "g", "distance (Å)", "g(r)")
        drawings["Mean square displacement"] = _lines(curves["md"], "msd", "time_ps", "A2", "time (ps)", "msd (Å²)")
    if "melting" in curves:
        drawings["Melting: temperature of solid and liquid side by side"] = _lines(
            curves["melting"], "coexistence", "time_ps", "temperature_K", "time (ps)", "temperature (K)"
        )
    return {title: figure(draw, title) for title, draw in drawings.items()}


def _each(curves: Mapping[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Side, its curves, how it is drawn; the potential on top."""
    for side, look in zip(_SIDES, (_REFERENCE, _POTENTIAL)):
        if side in curves:
            yield side, curves[side], look


def _lines(curves: Mapping[str, Any], name: str, x: str, y: str, x_title: str, y_title: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for side, data, look in _each(curves):
            if name in data:
                axes.plot(data[name][x], data[name][y], label=side, linewidth=1.2, **look)
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        axes.legend(fontsize="small")

    return draw


def _eos(curves: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        styles = ("-", "--", ":", "-.")
        for side, phases, look in _each(curves):
            energies = [data["energy_eV_per_atom"].min() for data in phases.values()]
            for k, (phase, data) in enumerate(phases.items()):
                y = 1000 * (data["energy_eV_per_atom"] - min(energies))
                marker = {"marker": "o", "markersize": 3} if side == "reference" else {}
                axes.plot(data["volume_A3_per_atom"], y, styles[k % 4], label=f"{phase}, {side}", **look, **marker)
        axes.set_xlabel("volume (Å³/atom)")
        axes.set_ylabel("energy above the lowest (meV/atom)")
        axes.legend(fontsize="x-small")

    return draw


def _parts(value: Any) -> list[Any]:
    """Items of a list that may have been ragged."""
    return [value[key] for key in sorted(value, key=int)] if isinstance(value, Mapping) else list(value)


def _bands(curves: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for side, data, look in _each(curves):
            bands = data["bands"]
            for x, y in zip(_parts(bands["distances"]), _parts(bands["frequencies_THz"])):
                for branch in np.asarray(y).T:
                    axes.plot(x, branch, linewidth=1, **look)
            axes.plot([], [], label=side, **look)
            ticks, labels = _ticks(bands)
            axes.set_xticks(ticks, labels)
        axes.axhline(0.0, color="#999999", linewidth=0.8)
        axes.set_ylabel("frequency (THz)")
        axes.legend(fontsize="small")

    return draw


def _ticks(bands: Mapping[str, Any]) -> tuple[list[float], list[str]]:
    """Places and names of the special points: where the path jumps, two names at one place."""
    segments = _parts(bands["distances"])
    names = [_symbol(str(name)) for name in bands["labels"]]
    ticks, labels = [float(segments[0][0])], names[:1]
    k = 1
    for part, connected in zip(segments, bands["connected"]):
        ticks.append(float(part[-1]))
        if connected or k + 1 >= len(names):
            labels.append(names[k] if k < len(names) else "")
            k += 1
        else:
            labels.append(f"{names[k]}|{names[k + 1]}")
            k += 2
    return ticks, labels


def _symbol(name: str) -> str:
    if "gamma" in name.lower() or name == "G":
        return "Γ"
    return name.replace("$\\mathrm{", "").replace("}$", "")


def _pairs(curves: Mapping[str, Any], kind: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        styles = ("-", "--", ":", "-.")
        top = 10.0 / 3
        for side, pairs, look in _each(curves):
            for k, (pair, kinds) in enumerate(pairs.items()):
                if kind in kinds:
                    y = kinds[kind]["energy_eV"]
                    top = max(top, -3 * float(y.min()))
                    axes.plot(kinds[kind]["distance_A"], y, styles[k % 4], label=f"{pair}, {side}", **look)
        axes.set_ylim(-1.1 * top / 3, min(3 * top, 40.0))
        axes.set_xlabel("distance (Å)")
        axes.set_ylabel("energy (eV)")
        axes.legend(fontsize="x-small")

    return draw


def _paths(curves: Mapping[str, Any]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for side, sites, look in _each(curves):
            for site, data in sites.items():
                axes.plot(data["migration"]["energy_eV"], "o-", label=f"{site}, {side}", markersize=3, **look)
        axes.set_xlabel("image")
        axes.set_ylabel("energy (eV)")
        axes.legend(fontsize="small")

    return draw


def _error_bars(rows: Sequence[Mapping[str, Any]]) -> Callable[[Any], None]:
    """Relative differences with the spread of the members (one standard deviation)."""
    shown = [row for row in rows if "members" in row and row["reference"] and grade(row) and is_principal(row)]

    def draw(axes: Any) -> None:
        names = [f"{row['property']} {'.'.join(row['quantity'].split('.')[-2:])}" for row in shown]
        places = np.arange(len(shown))[::-1]
        scale = np.array([100 / abs(row["reference"]) for row in shown])
        middle = np.array([row["mean"] - row["reference"] for row in shown]) * scale
        spread = np.array([row["standard_deviation"] for row in shown]) * scale
        axes.errorbar(middle, places, xerr=spread, fmt="o", markersize=3, color="#4c78a8", label="members")
        axes.plot([row["relative_percent"] for row in shown], places, "x", label="potential", **_POTENTIAL)
        axes.axvline(0.0, linewidth=1, **_REFERENCE)
        axes.set_yticks(places, names, fontsize=5 if len(names) > 14 else 7)
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_xlabel("difference from the reference (%)")
        axes.legend(fontsize="x-small")

    return draw
