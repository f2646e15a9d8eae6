"""``aiida-aceal status``: how far a campaign is, and what is going on now."""

from __future__ import annotations

import click

from aiida_aceal.cli.params import PK_OR_LATEST, PROFILE
from aiida_aceal.common.words import counted

WATCH_SECONDS = 5.0
#: lines that follow the table while a campaign runs
LINES_BELOW = 13


def load_campaign(identifier: str | None):
    """The node of a campaign or generation; without an identifier the latest campaign.

    :raises click.ClickException: there is none, or it is something else.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.manage import get_manager
    from aiida.orm import load_node

    from aiida_aceal.cli.list_campaigns import campaigns

    known = ("ActiveLearningWorkChain", "GenerationWorkChain")
    latest = campaigns(5)
    name = get_manager().get_profile().name
    hint = f"campaigns in profile '{name}': {', '.join(str(node.pk) for node in latest) or 'none'}"
    if identifier is None:
        if not latest:
            raise click.ClickException(f"there is no campaign in profile '{name}' yet")
        return latest[0]
    try:
        node = load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"no node '{identifier}'; {hint}") from error
    label = getattr(node, "process_label", None)
    if label not in known:
        raise click.ClickException(f"node {node.pk} is of type {label or type(node).__name__}; {hint}")
    return node


@click.command()
@PK_OR_LATEST
@PROFILE
@click.option("-w", "--watch", is_flag=True, help="Show it anew every few seconds until it has ended.")
def command(pk: str | None, profile: str | None, watch: bool) -> None:
    """Show the generations of campaign PK (its number or UUID; default: the latest) and what it is doing now."""
    import time

    from aiida_aceal.cli.profile import load

    load(profile, create=False)
    node = load_campaign(pk)
    while True:
        if watch:
            click.clear()
        show(node, brief=watch and not node.is_terminated)
        if not watch or node.is_terminated:
            return
        time.sleep(WATCH_SECONDS)


def show(node, brief: bool = False) -> None:
    """Print the table, the errors, the costs and the state.

    :param brief: leave out what does not fit on a terminal: older generations, costs
    """
    from rich.console import Console

    from aiida_aceal.cli.live import newest_rows
    from aiida_aceal.report.campaign import result_lines
    from aiida_aceal.report.costs import cost_lines
    from aiida_aceal.report.judgement import colour
    from aiida_aceal.report.progress import generation_time_left
    from aiida_aceal.report.rows import rows_of
    from aiida_aceal.report.table import rich_table, text_lines
    from aiida_aceal.workflows.costs import campaign_costs
    from aiida_aceal.workflows.windows.calibration import proposal_text

    rows = rows_of(node)
    console = Console()
    if console.is_terminal and brief:
        console.print(newest_rows(rows, node.label or "", console, console.height - LINES_BELOW))
    elif console.is_terminal:
        console.print(rich_table(rows, node.label or None, console.width))
    else:
        click.echo("\n".join(text_lines(rows)))
    for line in result_lines(node, rows):
        click.secho(f"{line}.", fg=colour(line))
    for line in [*quarantine_lines(node, rows), *([] if brief else cost_lines(campaign_costs(node)))]:
        click.echo(line)
    proposed = proposal_text(rows)
    if proposed:
        click.echo(f"The calibration proposes {proposed}.")
    state = node.process_state.value if node.process_state else "unknown"
    if not node.is_terminated:
        click.echo(f"Campaign {node.pk}: {state}, {counted(len(rows), 'generation')} finished.")
        for line in under_way(node):
            click.echo(line)
        left = generation_time_left(node)
        if left is not None:
            click.echo(f"  about {int(left // 60)}:{int(left % 60):02d} min left of this generation, by the one before")
    elif node.is_finished_ok:
        click.echo(f"Campaign {node.pk}: converged (nothing unknown was met; how large errors are stands above).")
    else:
        reason = node.exit_message or node.exception or node.process_status or state
        click.echo(f"Campaign {node.pk}: {state}, exit status {node.exit_status}: {reason}")


def quarantine_lines(node, rows) -> list[str]:
    """What is in quarantine, and how labels that were judged not plausible are released."""
    items = [item for row in rows for item in row.get("quarantine") or []]
    if not items:
        return []
    lines = [f"In quarantine, not trained on ({counted(len(items), 'structure')}):"]
    lines += [f"  {item.get('hash')}: {item.get('reason')}" for item in items]
    if any(str(item.get("reason")).startswith("label not plausible") for item in items):
        release = f"aiida-aceal resume {node.pk} --set 'limits.trusted_labels=[HASH, ...]'"
        lines.append(f"  If such a label is right: {release} trains on it.")
    return lines


def under_way(node) -> list[str]:
    """What runs the campaign, and every process at the end of a branch that has not terminated, with its scheduler."""
    from aiida.common import timezone
    from aiida.orm import CalcJobNode

    from aiida_aceal.report.progress import job_words

    lines = [f"  {_runner(node)}"]
    running = [child for child in node.called_descendants if not child.is_terminated]
    parents = {child.caller.pk for child in running if child.caller is not None}
    for child in sorted((child for child in running if child.pk not in parents), key=lambda child: child.pk):
        scheduler = getattr(child, "get_scheduler_state", lambda: None)()
        how = scheduler.value if scheduler is not None else child.process_state.value
        seconds = int((timezone.now() - child.ctime).total_seconds())
        age = f"{seconds // 60}:{seconds % 60:02d} min"
        words = job_words(child) if isinstance(child, CalcJobNode) else ""
        lines.append(f"  now: {child.description or child.process_label} <{child.pk}> {how}, begun {age} ago")
        if words:
            lines[-1] += f": {words}"
        if child.paused and child.process_label == "AceLabelManualWorkChain":
            lines.append(
                f"       waits for labels: aiida-aceal labels {node.pk} FILE... (-w FOLDER writes the structures)"
            )
        elif child.paused:
            why = child.process_status or "no reason recorded"
            lines.append(f"       paused by the engine ({why}): verdi process play {child.pk} tries again")
    return lines


def _runner(node) -> str:
    """Who runs it, or that nobody does."""
    from aiida.engine.daemon.client import get_daemon_client
    from aiida.manage import get_manager

    from aiida_aceal.workflows.stopping import runs_in

    where = runs_in(node)
    if where is not None:
        process = f"process {where['pid']} on {where['host']}"
        if where["alive"] is False:
            return f"{process}, which ran it, has gone: aiida-aceal resume {node.pk} goes on"
        return f"run by {process}"
    if get_manager().get_profile().process_control_backend is None or not get_daemon_client().is_daemon_running:
        return "no daemon is running (verdi daemon start), unless a script of yours runs it"
    return "run by the daemon"
