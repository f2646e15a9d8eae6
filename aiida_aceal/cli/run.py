"""``aiida-aceal run``: a campaign from an input file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aiida_aceal.cli.params import CACHE, DRY_RUN, OUTPUT, PROFILE, VERBOSE


@click.command()
@click.option("--keys", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, p, v: _show_keys(c, v),
              help="Show all keys of the input with their types, units, defaults and bounds, and exit.")  # fmt: skip
@click.argument("input_file", metavar="INPUT.yaml", type=click.Path(path_type=Path))
@PROFILE
@OUTPUT
@CACHE
@click.option("--seed", type=click.IntRange(min=0), help="Use this seed instead of the one in the file.")
@click.option("--submit", is_flag=True, help="Hand the campaign over to AiiDA's daemon and return at once.")
@DRY_RUN
@VERBOSE
def command(input_file, profile, output, cache, seed, submit, dry_run, verbose) -> None:
    """Run the campaign that INPUT.yaml describes.

    The whole input is checked before anything is stored. Results of jobs that an interrupted or similar campaign has
    already done are reused (--no-cache does all jobs anew).
    """
    from aiida_aceal.inputs.schema import read_campaign

    campaign, folder = read_campaign(input_file)
    if seed is not None:
        campaign = campaign.model_copy(update={"seed": seed})
    if dry_run:
        from aiida_aceal.cli.dry import describe

        for line in describe(campaign, folder, profile):
            click.echo(line)
        return
    from aiida_aceal.cli.runner import run_campaign

    sys.exit(run_campaign(campaign, folder, profile, output, cache is not False, verbose, submit))


def _show_keys(context: click.Context, wanted: bool) -> None:
    if not wanted:
        return
    from aiida_aceal.common.settings import describe
    from aiida_aceal.inputs.reference import parts

    for place, heading, model in parts():
        click.secho(f"{place}:  # {heading}" if place else f"# {heading}", bold=True)
        for row in describe(model):
            click.echo(f"{'  ' if place else ''}{row.key}: {row.default_text}  # {row.text}")
        click.echo()
    context.exit()
