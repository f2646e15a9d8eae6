"""What ``demo``, ``run``, ``resume`` and ``extend`` have in common: check everything, run the campaign and show it."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import click

from aiida_aceal.common.atomic import require_folder
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
    require_output(output)
    from aiida_aceal.cli import profile as own

    own.configuration()
    from aiida_aceal.inputs.campaign import make_builder, prepare

    prepared = prepare(campaign, folder)
    loaded = own.load(profile, create=True)
    warnings.simplefilter("ignore")
    for note in prepared.notes:
        click.echo(f"Note: {note}.", err=True)
    make_builder(prepared, own.find_code, store=False)
    builder = make_builder(prepared, own.find_code, store=True)
    return launch(builder, campaign.title, loaded.name, profile, output, cache, verbose, submit)


def require_output(output: Path | None) -> None:
    """Reports go there: make sure now that they can.

    :raises AceError: they cannot
    """
    # one second for a rebuilt font cache or a solver's second pool of threads would be wasted in this process
    os.environ.setdefault("MPLBACKEND", "Agg")
    require_folder(output or Path.cwd(), "choose another folder with -o")


def launch(
    builder: Any,
    title: str,
    name: str,
    profile: str | None,
    output: Path | None,
    cache: bool,
    verbose: bool,
    submit: bool,
) -> int:
    """Run what was checked, or hand it to the daemon; the exit code of the command.

    :param name: of the profile that is loaded; ``profile``: as the user gave it
    """
    if submit:
        return _submit(builder, name, profile, cache)
    node, rows = _run(builder, title, name, profile, cache, verbose)
    return _conclude(node, rows, name, profile, output)


def _submit(builder: Any, name: str, profile: str | None, cache: bool) -> int:
    from aiida.engine import submit
    from aiida.manage import get_manager

    from aiida_aceal.workflows.caching import choose_caching
    from aiida_aceal.workflows.stopping import end

    manager = get_manager()
    if manager.get_profile().process_control_backend is None:
        raise click.ClickException(
            f"profile '{name}' has no broker, so no daemon can take the campaign: run it here (without --submit), or "
            "name a profile with a broker (verdi presto creates one)"
        )
    process = None
    try:
        # the daemon takes up a process as soon as it is submitted, so the choice is noted before
        process = manager.get_runner().instantiate_process(builder)
        choose_caching(process.node, cache)
        node = submit(process)
    except Exception as error:  # the broker is not reachable
        if process is not None:
            end(process.node, "it could not be submitted")
        raise click.ClickException(
            f"cannot submit ({error}): start the daemon with verdi -p {name} daemon start"
        ) from error
    click.echo(f"Submitted campaign {node.pk}. Follow it with: aiida-aceal status {node.pk}{_option(profile)}")
    return 0


def _run(
    builder: Any, title: str, name: str, profile: str | None, cache: bool, verbose: bool
) -> tuple[Any, list[dict[str, Any]]]:
    from aiida_aceal.cli.embedded import run_watched
    from aiida_aceal.cli.live import Display, Watcher, quiet_logging
    from aiida_aceal.workflows.caching import cache_used, choose_caching

    with contextlib.ExitStack() as stack:
        stack.enter_context(cache_used(cache))
        display = stack.enter_context(Display(title or "Active learning", verbose))
        stack.enter_context(quiet_logging(display))

        def started(node: Any) -> None:
            choose_caching(node, cache)
            display.notice(
                f"Campaign {node.pk} in profile '{name}'; from another terminal: aiida-aceal status {node.pk}"
                f"{_option(profile)}"
            )

        node = run_watched(builder, Watcher(display), display.notice, started)
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
            f"({last.get('n_training')} training structures). That is no judgement of its errors, which follows."
        )
    elif node.exit_status == 414:
        click.secho(f"Waiting for labels: {node.exit_message}", fg="yellow")
        _hand_out(node, output / "to_label" if output is not None else Path(f"aceal-{node.pk}-to-label"))
    elif node.is_finished:
        click.secho(f"Not converged (exit status {node.exit_status}): {node.exit_message}", fg="yellow")
    else:
        reason = node.exception or node.process_status or "no reason recorded"
        click.secho(f"Stopped ({node.process_state.value}): {reason}", fg="red", err=True)
    if not node.is_finished_ok:
        click.echo(f"{_how_to_go_on(node, _option(profile))}; finished jobs are not computed again.")
    from aiida_aceal.report.campaign import result_lines
    from aiida_aceal.report.judgement import colour

    for line in result_lines(node, rows):
        click.secho(f"{line}.", fg=colour(line))
    click.echo(f"Report: {target}")
    click.echo(
        f"Campaign {node.pk} in profile '{name}': aiida-aceal status {node.pk}{_option(profile)}, "
        f"verdi -p {name} process report {node.pk}"
    )
    return 0 if node.is_finished_ok else 1


def _hand_out(node: Any, folder: Path) -> None:
    """Write the structures that wait for labels."""
    from aiida_aceal.cli.labels import waiting_structures, written_for

    waits = waiting_structures(node)
    click.echo(f"Written: {written_for(waits[0][0], [atoms for _, found in waits for atoms in found], folder)}")


def _how_to_go_on(node: Any, option: str) -> str:
    """The command that goes on; the same inputs would end in the same way where the campaign itself decided to end."""
    if node.exit_status == 414:
        return f"When they have labels: aiida-aceal labels {node.pk} FILE...{option}"
    if node.exit_status == 410:
        return f"For more generations: aiida-aceal extend {node.pk} -n 10{option}"
    if node.exit_status in (411, 412):
        return f"To go on with other settings: aiida-aceal resume {node.pk} --set KEY=VALUE{option}"
    return f"To go on: aiida-aceal resume {node.pk}{option}"


def _option(profile: str | None) -> str:
    return f" --profile {profile}" if profile else ""
