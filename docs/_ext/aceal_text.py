"""Small helpers for Markdown text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any


def cell(text: Any) -> str:
    """Text of a table cell: one line, reStructuredText roles as plain code, no HTML outside code, no bars."""
    flat = " ".join(str(text).split()).replace("|", "\\|")
    flat = re.sub(r"``(.+?)``", r"`\1`", re.sub(r":\w+:`~?([^`]+)`", r"`\1`", flat))
    parts = flat.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", r"\*") for part in parts[::2]]
    return "`".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def code(text: Any) -> str:
    """Inline code, or nothing for an empty text."""
    return f"`{text}`" if str(text) else ""


def block(text: str, language: str = "text") -> str:
    """A fenced block, its fence longer than any in the text."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def first_sentence(thing: Any) -> str:
    """First paragraph of a docstring, in one line."""
    return first_paragraph(inspect.getdoc(thing) or "")


def first_paragraph(text: str) -> str:
    """The part before the first empty line, in one line."""
    return " ".join(text.split("\n\n")[0].split())


def anchor(name: str) -> str:
    """Label of a section."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def default_text(value: Any) -> str:
    """How a default is written in YAML-like text."""
    if value is None:
        return "null"
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value)
