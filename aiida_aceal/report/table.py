"""The table of a campaign: one row per generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: heading, and how the cell is made of a row of numbers
HEADINGS = (
    "gen",
    "MD steps",
    "max γ",
    "cand.",
    "sel.",
    "train",
    "E RMSE new\nmeV/atom",
    "E max new\nmeV/atom",
    "F RMSE new\nmeV/Å",
    "F max new\nmeV/Å",
    "valid. E\nmeV/atom",
    "valid. F\nmeV/Å",
    "time\ns",
    "",
)
#: the same numbers for narrow terminals, two lines a generation
COMPACT = (
    "gen",
    "steps\nof",
    "max γ",
    "cand.\nsel.",
    "train",
    "E new\nRMSE, max",
    "F new\nRMSE, max",
    "valid.\nE, F",
    "time\ns",
    "",
)
#: width of a terminal that the full table needs
FULL_WIDTH = 150
#: status of a generation -> what the user reads
WORDS = {
    "initial": "first fit",
    "learned": "learned",
    "refused": "fit refused",
    "converged": "converged",
    "no_candidates": "nothing new",
}


def number(value: Any, scale: float = 1.0) -> str:
    """Three significant digits, no exponent between 0.001 and a million."""
    if value is None:
        return "-"
    value = scale * float(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - _exponent(value))
        return f"{value:.{digits}f}"
    return f"{value:.2e}"


def word(row: Mapping[str, Any]) -> str:
    """What became of a generation; an accepted potential that is not the best so far says so."""
    text = WORDS.get(row["status"], row["status"])
    return f"{text}, not best" if row.get("accepted") and row.get("is_best") is False else text


def _exponent(value: float) -> int:
    return int(f"{value:e}".split("e")[1]) if value else 0


def _change(row: Mapping[str, Any], name: str) -> str:
    before, after = row.get(f"new_{name}_before"), row.get(f"new_{name}_after")
    if before is None and after is None:
        return "-"
    return number(after, 1000) if before is None else f"{number(before, 1000)} → {number(after, 1000)}"


def cells(row: Mapping[str, Any]) -> list[str]:
    """Cells of one generation, in the order of :data:`HEADINGS`."""
    steps = "-"
    if row.get("md_steps_reached") is not None:
        steps = f"{row['md_steps_reached']}/{row.get('md_steps_total') or '?'}"
    explored = row.get("md_steps_reached") is not None
    return [
        str(row["generation"]),
        steps,
        number(row.get("max_gamma")),
        str(row["n_candidates"]) if explored else "-",
        str(row["n_selected"]) if explored else "-",
        str(row.get("n_training", "-")),
        _change(row, "energy_rmse"),
        _change(row, "energy_max"),
        _change(row, "forces_rmse"),
        _change(row, "forces_max"),
        number(row.get("holdout_energy_rmse"), 1000),
        number(row.get("holdout_forces_rmse"), 1000),
        f"{row['wall_seconds']:.1f}" if row.get("wall_seconds") is not None else "-",
        word(row),
    ]


def compact_cells(row: Mapping[str, Any]) -> list[str]:
    """Cells of one generation, in the order of :data:`COMPACT`; errors in meV/atom and meV/Å."""
    short = [cell.replace(" → ", "→") for cell in cells(row)]
    gen, steps, gamma, candidates, selected, train = short[:6]
    e_rmse, e_max, f_rmse, f_max, e_held, f_held, time, status = short[6:]
    return [
        gen,
        steps.replace("/", "\n"),
        gamma,
        f"{candidates}\n{selected}",
        train,
        f"{e_rmse}\n{e_max}",
        f"{f_rmse}\n{f_max}",
        f"{e_held}\n{f_held}",
        time,
        status,
    ]


def rich_table(rows: Iterable[Mapping[str, Any]], title: str | None = None, width: int = FULL_WIDTH) -> Any:
    """Table for a terminal; two lines a generation if it has fewer than :data:`FULL_WIDTH` columns."""
    from rich import box
    from rich.table import Table

    full = width >= FULL_WIDTH
    look = {"box": box.SIMPLE_HEAD} if full else {"box": None, "padding": (0, 1, 0, 0)}
    table = Table(title=title, header_style="bold", pad_edge=False, collapse_padding=True, **look)
    table.caption = None if full else "energies in meV/atom, forces in meV/Å"
    headings = HEADINGS if full else COMPACT
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == len(headings) - 1 else "right", no_wrap=full)
    for row in rows:
        style = {"refused": "yellow", "converged": "green"}.get(row["status"])
        table.add_row(*(cells(row) if full else compact_cells(row)), style=style)
    return table


def text_lines(rows: Sequence[Mapping[str, Any]], heading: bool = True) -> list[str]:
    """Lines of fixed columns, for output that is no terminal."""
    titles = [text.replace("\n", " ") for text in HEADINGS]
    body = [cells(row) for row in rows]
    widths = [max(len(title), 17 if "new" in title else 7) for title in titles]
    widths[1], widths[-1] = 15, max(len(text) for text in WORDS.values()) + len(", not best")
    lines = ["  ".join(title.rjust(width) for title, width in zip(titles, widths))] if heading else []
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in body]
    return lines
