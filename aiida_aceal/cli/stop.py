"""``aiida-aceal stop``: end a campaign after the generation under way, or now."""

from __future__ import annotations

import os
import signal

import click

from aiida_aceal.cli.params import PK, PROFILE


@click.command()
@PK
@PROFILE
@click.option("--now", is_flag=True, help="End it at once, with all its jobs, instead of after the present generation.")
def command(pk: str, profile: str | None, now: bool) -> None:
    """Stop campaign PK after the generation that is under way, or now. `aiida-aceal resume PK` goes on."""
    from aiida_aceal.cli.profile import load
    from aiida_aceal.cli.status import load_campaign
    from aiida_aceal.workflows.stopping import STOP, end, runs_in

    load(profile, create=False)
    node = load_campaign(pk)
    if node.is_terminated:
        click.echo(f"Campaign {node.pk} has ended already.")
        return
    where = runs_in(node)
    if where is not None and where["alive"] is False:
        count, problems = end(node, "its process had gone")
        for line in problems:
            click.echo(line, err=True)
        click.echo(f"Nothing ran campaign {node.pk} any more: {count} unfinished processes closed.")
    elif not now:
        node.base.extras.set(STOP, True)
        click.echo(f"Campaign {node.pk} stops after the present generation.")
    elif where is None:
        from aiida.engine.processes.control import kill_processes

        kill_processes([node], msg_text="stopped by the user", timeout=30)
        click.echo(f"The daemon was asked to end campaign {node.pk} and its jobs: aiida-aceal status {node.pk}")
    elif where["alive"]:
        os.kill(where["pid"], signal.SIGINT)
        click.echo(f"Process {where['pid']}, which runs campaign {node.pk}, was asked to end it and its jobs.")
    else:
        raise click.ClickException(
            f"campaign {node.pk} runs on host {where['host']} (process {where['pid']}): give this command there"
        )
