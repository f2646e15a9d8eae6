"""What ``demo`` and ``run`` have in common: check everything, then run the campaign and show it."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import click

from aiida_aceal.inputs.schema import Campaign


def run_campaign(
    campaign: Campaign,
    folder: Path,
    profile: str | None,
    output: Path | None,
    cache: bool,
    verbose: bool,
    submit: bool = False,
) -> int:
    """Run a campaign in this process, or hand it to the daemon; returns the exit code of the command.

    :raises AceError: anything that is wrong with the input; nothing has been stored then.
    """
    import os

    # one second for a rebuilt font cache or a solver's second pool of threads would be wasted in this process
    os.environ.setdefault("MPLBACKEND", "Agg")
    from aiida_aceal.cli import profile as own

    own.configuration()
    from aiida_aceal.inputs.campaign import make_builder, prepare

    prepared = prepare(campaign, folder)
    loaded = own.load(profile, create=True)
    warnings.simplefilter("ignore")
    make_builder(prepared, own.find_code, store=False)
    builder = make_builder(prepared, own.find_code, store=True)
    if submit:
        return _submit(builder, loaded.name, profile)
    node, rows = _run(builder, campaign, cache, verbose)
    return _conclude(node, rows, loaded.name, profile, output)


def _submit(builder: Any, name: str, profile: str | None) -> int:
    from aiida.engine import submit
    from aiida.manage import get_manager

    if get_manager().get_profile().process_control_backend is None:
        raise click.ClickException(
            f"profile '{name}' has no broker, so no daemon can take the campaign: run it here (without --submit), or "
            "name a profile with a broker (verdi presto creates one)"
        )
    try:
        node = submit(builder)
    except Exception as error:  # the broker is not reachable
        raise click.ClickException(
            f"cannot submit ({error}): start the daemon with verdi -p {name} daemon start"
        ) from error
    click.echo(f"Submitted campaign {node.pk}. Follow it with: aiida-aceal status {node.pk}{_option(profile)}")
    return 0


def _run(builder: Any, campaign: Campaign, cache: bool, verbose: bool) -> tuple[Any, list[dict[str, Any]]]:
    from aiida.manage.caching import disable_caching, enable_caching

    from aiida_aceal.cli.live import Display, Watcher, quiet_logging, run_watched

    mode = enable_caching() if cache else disable_caching()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mode)
        display = stack.enter_context(Display(campaign.title or "Active learning", verbose))
        stack.enter_context(quiet_logging(display))
        node = run_watched(builder, Watcher(display))
    return node, display.rows


def _conclude(node: Any, rows: list[dict[str, Any]], name: str, profile: str | None, output: Path | None) -> int:
    from aiida_aceal.report.campaign import write_files, write_report

    target = output or Path(f"aceal-{node.pk}.html")
    if output is not None:
        write_files(node, output)
    else:
        write_report(node, target)
    click.echo()
    if node.is_finished_ok:
        last = rows[-1] if rows else {}
        click.echo(
            f"Converged: every run reached its full length with gamma <= {last.get('gamma_stop'):g} "
            f"({last.get('n_training')} training structures)."
        )
    elif node.is_finished:
        click.secho(f"Not converged (exit status {node.exit_status}): {node.exit_message}", fg="yellow")
    else:
        reason = node.exception or node.process_status or "no reason recorded"
        click.secho(f"Stopped ({node.process_state.value}): {reason}", fg="red", err=True)
    from aiida_aceal.report.campaign import result_lines

    for line in result_lines(node, rows):
        click.echo(f"{line}.")
    click.echo(f"Report: {target}")
    click.echo(
        f"Campaign {node.pk} in profile '{name}': aiida-aceal status {node.pk}{_option(profile)}, "
        f"verdi -p {name} process report {node.pk}"
    )
    return 0 if node.is_finished_ok else 1


def _option(profile: str | None) -> str:
    return f" --profile {profile}" if profile else ""
