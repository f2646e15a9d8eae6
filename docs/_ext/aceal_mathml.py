"""Formulas as MathML, which browsers show by themselves: no script, no font, no network."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    body = translator.body
    body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        body.append("</span>")
    text = node.astext()
    body.append(convert(text if node.get("no-wrap") or node.get("nowrap") else _plain(text), display="block"))
    body.append("</div>\n")
    raise nodes.SkipNode


def _plain(text: str) -> str:
    """Several lines become an environment that the converter knows."""
    if "\\\\" in text or "&" in text:
        return text if "\\begin{" in text else f"\\begin{{aligned}}{text}\\end{{aligned}}"
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the renderer `mathml`."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
