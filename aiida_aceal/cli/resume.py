"""``aiida-aceal resume``: go on with a campaign that was interrupted, stopped, or ended without converging."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_aceal.cli.params import OUTPUT, PK, PROFILE, VERBOSE

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

#: sections of an input file that are nodes of a campaign by themselves
SECTIONS = ("activeset", "ensemble", "gate", "limits", "loop", "selection", "window")


@click.command()
@PK
@PROFILE
@OUTPUT
@click.option(
    "--set", "changes", metavar="KEY=VALUE", multiple=True,
    help="Change a setting, such as window.gamma_lo=2, fit.method=nonlinear, label.max_force=50 or "
    "explore.md.steps=20000. May be repeated.",
)  # fmt: skip
@click.option("--submit", is_flag=True, help="Hand the campaign over to AiiDA's daemon and return at once.")
@VERBOSE
def command(pk, profile, output, changes, submit, verbose) -> None:
    """Go on with campaign PK as a new campaign with the same inputs.

    All that was computed is taken from the cache, up to the point where it ended or where a changed setting matters.
    What a lost process left unfinished is closed first.
    """
    sys.exit(go_on(pk, profile, output, changes, submit, verbose))


def go_on(
    pk: str, profile: str | None, output: Path | None, changes: tuple[str, ...], submit: bool, verbose: bool
) -> int:
    """Run the campaign again with changed settings; the exit code of the command."""
    from aiida_aceal.cli import profile as own
    from aiida_aceal.cli.runner import launch, require_output
    from aiida_aceal.cli.status import load_campaign

    require_output(output)
    loaded = own.load(profile, create=False)
    node = load_campaign(pk)
    _tidy(node)
    builder = node.get_builder_restart()
    give_labels(builder, node, bool(changes))
    for change in changes:
        click.echo(f"Changed: {_apply(builder, change)}")
    builder.metadata.label, builder.metadata.description = node.label, f"goes on from campaign {node.pk}"
    _check(builder)
    return launch(builder, node.label, loaded.name, profile, output, True, verbose, submit)


def _check(builder: Any) -> None:
    """All inputs together, before anything is stored.

    :raises click.ClickException: the first thing that is wrong
    """
    problem = builder._process_spec.inputs.validate(builder._inputs(prune=True))
    if problem:
        raise click.ClickException(str(problem.message))


def give_labels(builder: Any, node: ProcessNode, changed: bool) -> None:
    """Pass on labels that were brought to the campaign.

    :param changed: whether settings are changed, so that the campaign may not wait again
    :raises click.ClickException: it waits for labels, and there are none
    """
    from aiida_aceal.workflows.labellers.manual import brought, gathered, waiting

    found = brought(node)
    if waiting(node) and not any(brought(node, labeller) for labeller in waiting(node)) and not changed:
        raise click.ClickException(
            f"campaign {node.pk} waits for labels and has none yet: aiida-aceal labels {node.pk} FILE..."
        )
    if found:
        builder.labeller["labels"] = gathered(found, builder.labeller.get("labels"))


def _tidy(node: ProcessNode) -> None:
    """Close what a lost process left; refuse to run what runs already."""
    from aiida_aceal.workflows.stopping import end, runs_in

    if node.is_terminated:
        return
    where = runs_in(node)
    if where is None or where["alive"] is not False:
        who = "AiiDA's daemon" if where is None else f"process {where['pid']} on {where['host']}"
        raise click.ClickException(
            f"campaign {node.pk} is still run by {who}: aiida-aceal stop {node.pk} --now ends it"
        )
    count, problems = end(node, "its process had gone")
    click.echo(f"Campaign {node.pk}: {count} processes that nothing ran any more have been closed.")
    for line in problems:
        click.echo(line, err=True)


def _apply(builder: Any, change: str) -> str:
    """Lay ``section.key=value`` over a builder; what was changed, in words.

    :raises click.ClickException: no such section
    """
    from aiida import orm

    from aiida_aceal.common.yaml import load_yaml

    path, found, text = change.partition("=")
    keys = path.strip().split(".")
    place, name = _place(builder, keys)
    if not found or place is None:
        known = ", ".join(f"{section}.KEY" for section in SECTIONS)
        raise click.ClickException(
            f"--set {change}: expected one of {known}, fit.KEY, label.KEY, explore.NAME.KEY, and =VALUE"
        )
    given = place.get(name)
    settings = given.get_dict() if given is not None else {}
    inner, rest = settings, keys[-_depth(keys) :]
    for key in rest[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise click.ClickException(f"--set {change}: {key} is not a group of settings")
    before, value = inner.get(rest[-1]), load_yaml(text, f"--set {path}")
    inner[rest[-1]] = value
    try:
        place[name] = orm.Dict(settings)
    except ValueError as error:  # what the port's validator says
        reason = str(error).removeprefix("invalid attribute value ")
        raise click.ClickException(f"--set {change}: {reason}") from error
    return f"{path} from {'its default' if before is None else before} to {value}"


def _depth(keys: list[str]) -> int:
    """How many of the keys stand within the settings."""
    return len(keys) - (2 if keys[0] == "explore" else 1)


def _place(builder: Any, keys: list[str]) -> tuple[Any, str]:
    """Namespace of the builder that holds the settings, and their name in it."""
    if keys[0] in SECTIONS and len(keys) > 1:
        return builder, keys[0]
    if keys[0] == "fit" and len(keys) > 1:
        return builder.fitter, "settings"
    if keys[0] == "label" and len(keys) > 1:
        return builder.labeller, "settings"
    if keys[0] == "explore" and len(keys) > 2 and keys[1] in builder.explorers:
        return builder.explorers[keys[1]], "settings"
    return None, ""
