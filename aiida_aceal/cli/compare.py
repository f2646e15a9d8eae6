"""``aiida-aceal compare``: strategies of selection and indicators of uncertainty, side by side."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

#: subcommand -> module of this package that holds it as ``command``
COMMANDS = {"selection": "compare_selection", "uncertainty": "compare_uncertainty"}


class LazyGroup(click.Group):
    """Imports a subcommand only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"aiida_aceal.cli.{COMMANDS[name]}").command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Compare selection strategies, or indicators of uncertainty, on labelled configurations."""


def report_path(output: Path | None, pk: int, name: str) -> Path:
    """Where the report goes: a file as named, ``report.html`` in a folder, or a file in the working directory."""
    if output is None:
        return Path(f"aceal-{name}-{pk}.html")
    return output if output.suffix.lower() in (".html", ".htm") else output / "report.html"
