"""The cost of a campaign by stage as a table: one row a generation, and the sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida_aceal.common.words import counted
from aiida_aceal.workflows.costs import REST, STAGES

#: below this sum of core seconds the table is in seconds, above in hours
HOURS_FROM = 7200.0

NOTE = (
    "wall time / core time. Stages that work side by side both count; rest: no job at work (AiiDA, start and end of "
    "jobs, queues). Jobs taken from a cache cost nothing."
)


def cost_headings() -> list[str]:
    """Headings of :func:`cost_cells`."""
    return ["gen", *STAGES.values(), "rest", "sum", "jobs"]


def cost_cells(costs: Mapping[str, Any]) -> tuple[str, list[list[str]]]:
    """Unit, and rows of text, of the tables of :func:`aiida_aceal.workflows.costs.campaign_costs`.

    Rows are the generations, ``sets``, which is what the campaign did outside of them (sampling and labelling of sets,
    test, properties), and ``sum``, whose rest includes the time between the generations.
    """
    in_hours = costs["total"]["total"]["core_seconds"] >= HOURS_FROM
    unit, scale = ("h", 3600.0) if in_hours else ("s", 1.0)

    def pair(part: Mapping[str, Any]) -> str:
        return f"{part['wall_seconds'] / scale:.1f}/{part['core_seconds'] / scale:.1f}" if part["n_jobs"] else "-"

    def line(name: str, table: Mapping[str, Any], rest: bool = True) -> list[str]:
        jobs = str(table["total"]["n_jobs"])
        if table["cached"]["n_jobs"]:
            jobs += f" + {table['cached']['n_jobs']} cached"
        waiting = f"{table[REST]['wall_seconds'] / scale:.1f}" if rest else "-"
        total = f"{table['total']['wall_seconds'] / scale:.1f}/{table['total']['core_seconds'] / scale:.1f}"
        return [name, *(pair(table["stages"][stage]) for stage in STAGES), waiting, total, jobs]

    rows = [line(name, table) for name, table in costs["generations"].items()]
    outside = costs.get("campaign")
    if outside is not None:
        if outside["total"]["n_jobs"] or outside["cached"]["n_jobs"]:
            rows.append(line("sets", outside, rest=False))
        rows.append(line("sum", costs["total"]))
    return unit, rows


def cost_lines(costs: Mapping[str, Any]) -> list[str]:
    """The table as lines of text, with a heading."""
    unit, rows = cost_cells(costs)
    table = [cost_headings(), *rows]
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in table]
    return [f"Cost in {unit}: {NOTE}", *lines]


def cost_words(costs: Mapping[str, Any]) -> str:
    """One phrase: core time by stage, largest first."""
    total = costs["total"]
    unit, scale = ("core h", 3600.0) if total["total"]["core_seconds"] >= HOURS_FROM else ("core s", 1.0)
    parts = sorted(total["stages"].items(), key=lambda item: -item[1]["core_seconds"])
    named = ", ".join(f"{STAGES[name]} {part['core_seconds'] / scale:.1f}" for name, part in parts if part["n_jobs"])
    rest = f"no job at work for {total[REST]['wall_seconds'] / total['total']['wall_seconds']:.0%} of the time"
    text = f"{total['total']['core_seconds'] / scale:.1f} {unit} ({named}); {rest}" if named else "no job has run"
    saved = total["cached"]
    if saved["n_jobs"]:
        jobs = counted(saved["n_jobs"], "job")
        text += f"; {jobs} from earlier campaigns saved {saved['core_seconds'] / scale:.1f} {unit}"
    return text
