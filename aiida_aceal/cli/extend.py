"""``aiida-aceal extend``: more generations for a campaign that used up its own."""

from __future__ import annotations

import sys

import click

from aiida_aceal.cli.params import OUTPUT, PK, PROFILE, VERBOSE


@click.command()
@PK
@click.option("-n", "--generations", type=click.IntRange(min=1), required=True, help="How many more at most.")
@PROFILE
@OUTPUT
@click.option("--submit", is_flag=True, help="Hand the campaign over to AiiDA's daemon and return at once.")
@VERBOSE
def command(pk, generations, profile, output, submit, verbose) -> None:
    """Go on with campaign PK for some more generations; those it has are taken from the cache."""
    from aiida_aceal.cli.profile import load
    from aiida_aceal.cli.resume import go_on
    from aiida_aceal.cli.status import load_campaign
    from aiida_aceal.workflows.sections import filled

    load(profile, create=False)
    node = load_campaign(pk)
    before = filled("loop", node.inputs.loop.get_dict() if "loop" in node.inputs else {})["max_generations"]
    sys.exit(go_on(pk, profile, output, (f"loop.max_generations={before + generations}",), submit, verbose))
