"""``aiida-aceal compare``: strategies of selection and indicators of uncertainty, side by side."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aiida_aceal.common.atomic import write_json, write_text

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
    """Compare selection strategies or uncertainty indicators on labelled configurations."""


def report_path(output: Path | None, pk: int, name: str) -> Path:
    """Where the report goes: a file as named, ``report.html`` in a folder, or a file in the working directory."""
    if output is None:
        return Path(f"aceal-{name}-{pk}.html")
    return output if output.suffix.lower() in (".html", ".htm") else output / "report.html"


def run(
    make_builder: Callable[..., Any],
    prepared: Any,
    profile: str | None,
    cache: bool,
    display: Any,
    bar: contextlib.AbstractContextManager | None = None,
) -> tuple[Any, str]:
    """Check the comparison against all ports, then store and run it; its node and the name of the profile.

    :param display: says decisions of processes, and is asked now and then why the node cannot go on.
    """
    os.environ.setdefault("MPLBACKEND", "Agg")
    from aiida_aceal.cli import profile as own
    from aiida_aceal.cli.embedded import run_watched
    from aiida_aceal.cli.live import quiet_logging

    own.configuration()
    loaded = own.load(profile, create=True)
    from aiida_aceal.workflows.caching import cache_used

    warnings.simplefilter("ignore")
    make_builder(prepared, own.find_code, store=False)
    with cache_used(cache):
        builder = make_builder(prepared, own.find_code, store=True)
        with bar or contextlib.nullcontext(), quiet_logging(display):
            return run_watched(builder, display), loaded.name


def no_comparison(node: Any) -> int:
    """Say why there are no numbers; the exit code."""
    reason = node.exit_message or node.exception or node.process_status or "no reason recorded"
    click.secho(f"No comparison: {reason}", fg="red", err=True)
    return 1


def publish(
    node: Any, numbers: dict[str, Any], what: tuple[str, str], report: Any, profile: str, output: Path | None
) -> None:
    """Print the table, write the report and the numbers.

    :param what: title if the node has no label, and short name for the file.
    :param report: module with ``rich_table(numbers, title, width)`` and ``page(numbers, title, more)``.
    """
    from rich.console import Console

    title = node.label or f"{what[0]} {node.pk}"
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print()
    console.print(report.rich_table(numbers, title, console.width), markup=False)
    more = {"Comparison": f"<{node.pk}> {node.uuid} in profile {profile}", "Started": f"{node.ctime:%Y-%m-%d %H:%M:%S}"}
    target = report_path(output, node.pk, what[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, report.page(numbers, title, more))
    write_json(target.with_suffix(".json"), numbers)
    click.echo(f"Report: {target} (numbers: {target.with_suffix('.json')})")
