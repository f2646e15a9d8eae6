"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

PROFILE = click.option(
    "-p",
    "--profile",
    metavar="NAME",
    help="AiiDA profile [default: 'aceal-demo', a profile of this package's own, created when it is first needed].",
)
OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the report, the potential (.yaml, .yace) and the active set (.asi).",
)
#: of commands whose result is one page
PAGE = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File for the report (.html), or a folder for the report and the numbers.",
)
DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Check the input and show what would be done; store and run nothing."
)
CACHE = click.option(
    "--cache/--no-cache", default=None, help="Reuse the results of identical jobs from earlier campaigns."
)
VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Print every decision of the campaign as it is made.")
PK = click.argument("pk", metavar="PK")
#: the same for commands that only show something
PK_OR_LATEST = click.argument("pk", metavar="[PK]", required=False)
