"""``aiida-aceal collect``: labels of calculations that are in the profile already, as one set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiida_aceal.cli.params import PROFILE
from aiida_aceal.common.words import counted

#: lines of one kind that are shown
SHOWN = 5


@click.command()
@click.argument("names", metavar="GROUP|PK...", nargs=-1, required=True)
@PROFILE
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Also write extended XYZ to FILE."
)
@click.option("-l", "--label", default="", help="Label of the set [default: the names given].")
@click.option(
    "--energy", type=click.Choice(["extrapolated", "free"]), default="extrapolated", show_default=True,
    help="Of DFT calculations: at zero smearing, or the free energy whose derivative the forces are.",
)  # fmt: skip
def command(names: tuple[str, ...], profile: str | None, output: Path | None, label: str, energy: str) -> None:
    """Collect labelled configurations from groups and from nodes (numbers or UUIDs) into one set, with provenance.

    Taken are sets of configurations, campaigns, label jobs and WorkChains of this package, calculations and WorkChains
    of aiida-vasp and aiida-quantumespresso (the last ionic step), and any process that called such jobs. Of several
    labels of one structure the first counts.
    """
    from aiida_aceal.cli.profile import load
    from aiida_aceal.workflows.collect import Source, collect_labels, inputs_of, sources_of

    load(profile, create=False)
    found: dict[tuple[str, ...], Source] = {}
    skipped: list[str] = []
    for node in [node for name in names for node in _nodes(name)]:
        for source in sources_of(node):
            if isinstance(source, Source):
                found.setdefault(tuple(sorted(n.uuid for n in source.nodes.values())), source)
            else:
                skipped.append(source)
    _say(skipped, "left out")
    if not found:
        raise click.ClickException(f"no labels in {', '.join(names)}: nothing was stored")
    results, process = collect_labels.run_get_node(**inputs_of(found.values(), energy))
    if not process.is_finished_ok:
        raise click.ClickException(process.exit_message or "collecting failed")
    made, report = results["configurations"], results["report"].get_dict()
    made.label = (label or ", ".join(names))[:255]
    _say([f"{row['source']}: {row['reason']}" for row in report["left_out"]], "left out")
    _say([" and ".join(row["sources"]) for row in report["conflicts"]], "different labels of one structure")
    if len(report["kinds"]) > 1:
        click.echo(
            f"Labels are of several kinds ({', '.join(report['kinds'])}): make sure that they are of one method."
        )
    if output is not None:
        made.write_extxyz(output)
        click.echo(f"Wrote {output}.")
    repeated = f", {report['n_repeated']} met again left out" if report["n_repeated"] else ""
    click.echo(f"Stored {counted(len(made), 'configuration')} as <{made.pk}> {made.uuid}{repeated}.")


def _nodes(name: str) -> list[Any]:
    """Nodes of a group, or the node of a number or UUID.

    :raises click.ClickException: there is neither
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import Group, load_group, load_node

    if not name.isdecimal() and Group.collection.count(filters={"label": name}):
        nodes = list(load_group(name).nodes)
        if not nodes:
            raise click.ClickException(f"group '{name}' is empty")
        return nodes
    try:
        return [load_node(name)]
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"'{name}' is neither a group nor a node of this profile ({error})") from error


def _say(lines: list[str], what: str) -> None:
    for line in lines[:SHOWN]:
        click.echo(f"{what.capitalize()}: {line}.")
    if len(lines) > SHOWN:
        click.echo(f"{what.capitalize()}: {len(lines) - SHOWN} more.")
