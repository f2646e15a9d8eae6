"""``aiida-aceal report``: one HTML file about a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_aceal.cli.params import PK, PROFILE


@click.command()
@PK
@PROFILE
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The HTML file, or a folder that also gets potential and active set [default: aceal-PK.html].",
)
def command(pk: str, profile: str | None, output: Path | None) -> None:
    """Write the report of campaign PK: table, figures and decisions in one HTML file."""
    from aiida_aceal.cli.profile import load
    from aiida_aceal.cli.status import load_campaign
    from aiida_aceal.report.campaign import write_files, write_report

    load(profile, create=False)
    node = load_campaign(pk)
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        for path in write_files(node, output):
            click.echo(path)
        return
    click.echo(write_report(node, output or Path(f"aceal-{node.pk}.html")))
