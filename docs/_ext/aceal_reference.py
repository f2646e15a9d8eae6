"""Sphinx extension: writes the pages of ``reference/generated/`` from the installed code, at every build.

Nothing on these pages is written by hand, so they cannot grow stale. A page is rewritten only if its text changed.
"""

from __future__ import annotations

from pathlib import Path

import aceal_api
import aceal_cli
import aceal_handlers
import aceal_processes
import aceal_schema
from sphinx.application import Sphinx

#: file name -> function that returns the text of the page
PAGES = {
    "entry_points.md": aceal_processes.entry_points_page,
    "processes.md": aceal_processes.processes_page,
    "exit_codes.md": aceal_processes.exit_codes_page,
    "handlers.md": aceal_handlers.handlers_page,
    "input_schema.md": aceal_schema.input_schema_page,
    "settings.md": aceal_schema.settings_page,
    "protocols.md": aceal_schema.protocols_page,
    "deck.md": aceal_schema.deck_page,
    "command_lines.md": aceal_cli.command_lines_page,
    "python_api.md": aceal_api.python_api_page,
}


def generate(app: Sphinx) -> None:
    """Write all pages."""
    write_pages(Path(app.srcdir) / "reference" / "generated")


def write_pages(folder: Path) -> None:
    """Write all pages into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        text, path = page(), folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
