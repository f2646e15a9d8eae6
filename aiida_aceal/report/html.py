"""HTML files of reports: each is one file that refers to nothing outside itself."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from aiida_aceal.report.figures import embedded


def _text(value: Any) -> str:
    return html.escape(str(value))


def cost_section(unit: str, rows: Sequence[Sequence[str]]) -> str:
    """Cost by stage, from :func:`aiida_aceal.report.costs.cost_cells`."""
    from aiida_aceal.report.costs import NOTE, cost_headings

    head = "".join(f"<th>{_text(name)}</th>" for name in cost_headings())
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in line) + "</tr>\n" for line in rows)
    return f"""<h2>Cost by stage ({_text(unit)})</h2>
<div class="scroll"><table id="cost" class="named"><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></div>
<p>{_text(NOTE[0].upper() + NOTE[1:])}</p>
"""


def comparison_page(
    title: str,
    facts: Mapping[str, Any],
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    pictures: Mapping[str, bytes],
    table_title: str,
    note: str,
    more: str = "",
) -> str:
    """One HTML file about a comparison: facts, a table whose first column names what is compared, and figures.

    :param more: HTML that follows the figures
    """
    head = "".join(f"<th>{_text(name).replace(chr(10), '<br>')}</th>" for name in headings)
    body = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in line) + "</tr>\n" for line in rows)
    drawn = "".join(
        f'<figure><img alt="{_text(name)}" src="{embedded(png)}"></figure>\n' for name, png in pictures.items()
    )
    content = f"""<h2>{_text(table_title)}</h2>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></div>
<p>{_text(note)}</p>
<h2>Figures</h2>
<div class="figures">
{drawn}</div>
{more}"""
    return plain_page(title, facts, content, "\ntd:first-child, th:first-child { text-align: left; }")


def plain_page(title: str, facts: Mapping[str, Any], content: str, style: str = "", story: str = "") -> str:
    """One HTML file: a title, facts, and HTML that follows them.

    :param style: added to that of all pages
    :param story: HTML between the title and the facts
    """
    listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>\n" for name, value in facts.items())
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title><style>{asset("report.css")}{style}</style></head>
<body>
<h1>{_text(title)}</h1>
{story}<dl>
{listed}</dl>
{content}</body></html>
"""


def asset(name: str) -> str:
    """Text of a file that becomes part of pages."""
    return resources.files("aiida_aceal.report").joinpath("assets", name).read_text("utf-8")
