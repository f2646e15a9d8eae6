"""``aiida-aceal status``: how far a campaign is, and what is going on now."""

from __future__ import annotations

import click

from aiida_aceal.cli.params import PK, PROFILE
from aiida_aceal.common.words import counted


def load_campaign(identifier: str):
    """The node of a campaign or generation.

    :raises click.ClickException: there is none, or it is something else.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.manage import get_manager
    from aiida.orm import QueryBuilder, WorkChainNode, load_node

    known = ("ActiveLearningWorkChain", "GenerationWorkChain")
    query = QueryBuilder().append(
        WorkChainNode, filters={"attributes.process_label": known[0]}, project="id", tag="campaign"
    )
    query.order_by({"campaign": {"id": "desc"}}).limit(5)
    latest = ", ".join(str(pk) for pk in query.all(flat=True)) or "none"
    hint = f"campaigns in profile '{get_manager().get_profile().name}': {latest}"
    try:
        node = load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"no node '{identifier}'; {hint}") from error
    label = getattr(node, "process_label", None)
    if label not in known:
        raise click.ClickException(f"node {node.pk} is of type {label or type(node).__name__}; {hint}")
    return node


@click.command()
@PK
@PROFILE
def command(pk: str, profile: str | None) -> None:
    """Show the generations of campaign PK (or its UUID) and what it is doing now."""
    from rich.console import Console

    from aiida_aceal.cli.profile import load
    from aiida_aceal.report.campaign import result_lines
    from aiida_aceal.report.rows import generations, rows_of
    from aiida_aceal.report.table import rich_table, text_lines
    from aiida_aceal.workflows.windows.calibration import proposal_text

    load(profile, create=False)
    node = load_campaign(pk)
    rows = rows_of(node)
    console = Console()
    if console.is_terminal:
        console.print(rich_table(rows, node.label or None, console.width))
    else:
        click.echo("\n".join(text_lines(rows)))
    for line in result_lines(node, rows):
        click.echo(f"{line}.")
    proposed = proposal_text(rows)
    if proposed:
        click.echo(f"The calibration proposes {proposed}.")
    state = node.process_state.value if node.process_state else "unknown"
    if not node.is_terminated:
        click.echo(f"Campaign {node.pk}: {state}, {counted(len(rows), 'generation')} finished.")
        for child in generations(node):
            if not child.is_terminated:
                for job in child.called:
                    if not job.is_terminated:
                        what = job.description or job.process_label
                        click.echo(f"  now: {what} <{job.pk}> {job.process_state.value} {job.process_status or ''}")
    elif node.is_finished_ok:
        click.echo(f"Campaign {node.pk}: converged.")
    else:
        reason = node.exit_message or node.exception or node.process_status or state
        click.echo(f"Campaign {node.pk}: {state}, exit status {node.exit_status}: {reason}")
