"""``aiida-aceal report``: one HTML file about a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_aceal.cli.params import PK, PROFILE
from aiida_aceal.common.atomic import write_bytes


@click.command()
@PK
@PROFILE
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The HTML file, or a folder that also receives the potential and the active set [default: aceal-PK.html].",
)
def command(pk: str, profile: str | None, output: Path | None) -> None:
    """Write the report of campaign PK: table, figures and decisions in one HTML file.

    If PK is a fit (CalcJob aceal.fit), its parity plot is written as PNG [default: aceal-PK.png].
    """
    from aiida_aceal.cli.profile import load
    from aiida_aceal.cli.status import load_campaign
    from aiida_aceal.report.campaign import write_files, write_report
    from aiida_aceal.report.parity import parity_png

    load(profile, create=False)
    fit = _fit(pk)
    if fit is not None:
        target = output or Path(f"aceal-{fit.pk}.png")
        try:
            picture = parity_png(fit)
        except (FileNotFoundError, AttributeError) as error:  # AttributeError: nothing was retrieved
            raise click.ClickException(f"fit {fit.pk} kept no pairs of labels and predictions") from error
        write_bytes(target, picture)
        click.echo(target)
        return
    node = load_campaign(pk)
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        for path in write_files(node, output):
            click.echo(path)
        return
    click.echo(write_report(node, output or Path(f"aceal-{node.pk}.html")))


def _fit(identifier: str):
    """The node of a finished ``aceal.fit``, ``None`` if it is anything else."""
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_node

    try:
        node = load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError):
        return None
    return node if getattr(node, "process_type", None) == "aiida.calculations:aceal.fit" else None
