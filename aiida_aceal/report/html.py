"""One HTML file about a campaign: table, figures, decisions. It refers to nothing outside itself."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from aiida_aceal.report.figures import FIGURES, draw, embedded

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 0.86em; } td, th { padding: 0.25em 0.6em; text-align: right; }
th { border-bottom: 2px solid #888; vertical-align: bottom; } tr:nth-child(even) td { background: #f4f4f4; }
td:last-child, th:last-child { text-align: left; } .scroll { overflow-x: auto; }
tr.refused td { color: #a15c00; } tr.converged td { color: #1a7a3a; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(26em, 1fr)); gap: 1em; }
.figures img { width: 100%; } dl { display: grid; grid-template-columns: max-content auto; gap: 0.2em 1.2em; }
dt { font-weight: 600; } dd { margin: 0; } pre { background: #f4f4f4;
  padding: 1em; overflow-x: auto; font-size: 0.8em; }
"""


def _text(value: Any) -> str:
    return html.escape(str(value))


def page(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    facts: Mapping[str, Any],
    decisions: Sequence[str] = (),
    more: str = "",
) -> str:
    """The whole page.

    :param rows: numbers of the generations, for the figures
    :param headings: of the table
    :param cells: of the table, one list per generation
    :param facts: name -> value, shown at the top
    :param decisions: what the campaign reported, line by line
    :param more: HTML that follows the figures
    """
    head = "".join(f"<th>{_text(name).replace(chr(10), '<br>')}</th>" for name in headings)
    body = "".join(
        f'<tr class="{_text(row.get("status", ""))}">' + "".join(f"<td>{_text(cell)}</td>" for cell in line) + "</tr>\n"
        for row, line in zip(rows, cells)
    )
    figures = "".join(
        f'<figure><img alt="{_text(name)} against generation" src="{embedded(draw(name, rows))}"></figure>\n'
        for name in FIGURES
    )
    quarantine = [item for row in rows for item in row.get("quarantine") or []]
    failed = "".join(f"<li>{_text(item.get('hash'))}: {_text(item.get('reason'))}</li>\n" for item in quarantine)
    content = f"""<h2>Generations</h2>
<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></div>
<p>"new": the structures labelled in this generation, with the potential before → after the refit.
"valid.": the validation set, never fitted; it decides at the gate and which potential is the best, and serves for the
calibration. The test set decides nothing: errors on it, if there is one, stand above.</p>
<h2>Figures</h2>
<div class="figures">
{figures}</div>
{more}
{f"<h2>Failed labels</h2><ul>{failed}</ul>" if failed else ""}
<h2>Decisions</h2>
<pre>{_text(chr(10).join(decisions)) or "none recorded"}</pre>
"""
    return plain_page(title, facts, content)


def cost_section(unit: str, rows: Sequence[Sequence[str]]) -> str:
    """Cost by stage, from :func:`aiida_aceal.report.costs.cost_cells`."""
    from aiida_aceal.report.costs import NOTE, cost_headings

    head = "".join(f"<th>{_text(name)}</th>" for name in cost_headings())
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in line) + "</tr>\n" for line in rows)
    return f"""<h2>Cost by stage ({_text(unit)})</h2>
<div class="scroll"><table id="cost"><thead><tr>{head}</tr></thead><tbody>
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


def plain_page(title: str, facts: Mapping[str, Any], content: str, style: str = "") -> str:
    """One HTML file: a title, facts, and HTML that follows them; ``style`` is added to that of all pages."""
    listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>\n" for name, value in facts.items())
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}{style}</style></head>
<body>
<h1>{_text(title)}</h1>
<dl>
{listed}</dl>
{content}</body></html>
"""
