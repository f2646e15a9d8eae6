"""The report of a campaign: charts to hover and zoom, structures to turn, tables that sort, commands to copy.

One file that works without a network: script, style and numbers are part of it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiida_aceal.report.html import asset, plain_page

_VIEWER = """<h2>Structures</h2>
<div class="viewer" id="viewer"><div class="bar"><select class="kind" aria-label="kind of structures"></select>
<button class="back" type="button">&larr;</button><select class="one" aria-label="structure"></select>
<button class="next" type="button">&rarr;</button></div>
<canvas aria-label="structure, coloured by gamma"></canvas>
<p class="info note"></p>
<p class="note">Drag to turn, wheel to zoom, double click to reset; point at an atom for its γ. Colours follow
log(1 + γ), up to the upper limit of the window.</p></div>
"""


@dataclass(frozen=True, kw_only=True)
class Interactive:
    """What the script of the page shows.

    :ivar charts: of :func:`aiida_aceal.report.charts.campaign_charts`
    :ivar structures: of :func:`aiida_aceal.report.interactive.structures_of`
    :ivar nodes: words, PK, command
    :ivar reports: PK of the generation report behind each row of the table, ``None`` if it has none
    :ivar story: sentences at the top: (text, class of style)
    """

    charts: Sequence[Mapping[str, Any]] = ()
    structures: Sequence[Mapping[str, Any]] = ()
    nodes: Sequence[tuple[str, int, str]] = ()
    reports: Sequence[tuple[int, str] | None] = ()
    story: Sequence[tuple[str, str]] = field(default=())


QUARANTINE = "<p>Structures whose labels failed or are not plausible; none was trained on.</p>"


def page(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    facts: Mapping[str, Any],
    decisions: Sequence[str] = (),
    more: str = "",
    shown: Interactive | None = None,
) -> str:
    """The whole page.

    :param rows: numbers of the generations
    :param headings: of the table
    :param cells: of the table, one list per generation
    :param facts: name -> value, shown at the top
    :param decisions: what the campaign reported, line by line
    :param more: HTML that follows the charts
    :param shown: what is interactive
    """
    shown = shown or Interactive()
    quarantine = [item for row in rows for item in row.get("quarantine") or []]
    failed = "".join(f"<li>{_text(item.get('hash'))}: {_text(item.get('reason'))}</li>\n" for item in quarantine)
    data = {"charts": list(shown.charts), "structures": list(shown.structures)}
    content = f"""<h2>Generations</h2>
{_generations(rows, headings, cells, shown)}
<p class="note">"new": the structures labelled in this generation, with the potential before → after the refit.
"valid.": the validation set, never fitted; it decides at the gate and which potential is the best, and serves for the
calibration. The test set decides nothing: errors on it, if there is one, stand above. Click on a heading to sort.</p>
<h2>Charts</h2>
<p class="note">Point for numbers, wheel to zoom, drag to move, double click to reset, click on a name to hide it.</p>
<div class="charts" id="charts"></div>
{_VIEWER if shown.structures else ""}{more}
{f"<h2>Quarantine</h2>{QUARANTINE}<ul>{failed}</ul>" if failed else ""}
{_nodes(shown.nodes)}<h2>Decisions</h2>
<details><summary>{len(decisions)} lines</summary>
<pre>{_text(chr(10).join(decisions)) or "none recorded"}</pre></details>
<div id="tip" role="status"></div>
<script type="application/json" id="data">{_embedded(data)}</script>
<script>{asset("report.js")}</script>
"""
    return plain_page(title, facts, content, story=_story(shown.story))


def _text(value: Any) -> str:
    return html.escape(str(value))


def _embedded(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _story(sentences: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f'<p class="{_text(style)}">{_text(text)}</p>\n' for text, style in sentences)
    return f'<div class="story" id="story">\n{lines}</div>\n' if lines else ""


def _copy(pk: int, command: str) -> str:
    return f'&lt;{pk}&gt; <button class="copy" type="button" data-command="{_text(command)}">copy</button>'


def _generations(
    rows: Sequence[Mapping[str, Any]], headings: Sequence[str], cells: Sequence[Sequence[str]], shown: Interactive
) -> str:
    head = "".join(f"<th>{_text(name).replace(chr(10), '<br>')}</th>" for name in [*headings, "node"])
    body = ""
    for number, (row, line) in enumerate(zip(rows, cells)):
        node = shown.reports[number] if number < len(shown.reports) else None
        last = _copy(*node) if node is not None else "-"
        body += f'<tr class="{_text(row.get("status", ""))}">' + "".join(f"<td>{_text(cell)}</td>" for cell in line)
        body += f"<td>{last}</td></tr>\n"
    return f"""<div class="scroll"><table class="sortable" id="generations"><thead><tr>{head}</tr></thead><tbody>
{body}</tbody></table></div>"""


def _nodes(nodes: Sequence[tuple[str, int, str]]) -> str:
    if not nodes:
        return ""
    body = "".join(
        f"<tr><td>{_text(words)}</td><td>{pk}</td><td><code>{_text(command)}</code> "
        f'<button class="copy" type="button" data-command="{_text(command)}">copy</button></td></tr>\n'
        for words, pk, command in nodes
    )
    return f"""<h2>Nodes</h2>
<details><summary>Where each number comes from, and the command that shows it</summary>
<div class="scroll"><table class="sortable named" id="nodes"><thead><tr><th>what</th><th>PK</th><th>command</th></tr>
</thead><tbody>
{body}</tbody></table></div></details>
"""
