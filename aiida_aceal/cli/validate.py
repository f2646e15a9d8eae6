"""``aiida-aceal validate``: properties of a potential beside those of the reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aiida_aceal.cli.params import CACHE, DRY_RUN, PROFILE, VERBOSE


@click.command()
@click.argument("potential", metavar="PK|POTENTIAL.yaml")
@click.argument("input_file", metavar="[INPUT.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--properties", help="Names by commas, such as eos,elastic,phonon; overrides the file.")
@click.option("--calculator", help="ASE calculator that labels, such as emt; overrides the file.")
@click.option("--asi", type=click.Path(path_type=Path), help="Active set of the potential (.asi): grades each number.")
@click.option("--ensemble", type=click.Path(path_type=Path), help="Ensemble (.zip): error bars of each number.")
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="File for the report (.html), or a folder [default: aceal-properties-PK.html].")  # fmt: skip
@DRY_RUN
@PROFILE
@CACHE
@VERBOSE
def command(potential, input_file, output, dry_run, profile, cache, verbose, **flags) -> None:
    """Compute properties of a potential and of the reference, from the same structures, and compare them.

    The potential is a file, or PK (or UUID) of a campaign (its best potential) or of a potential; labeller, active set
    and ensemble are then those of its campaign. INPUT.yaml holds the sections `validate` (properties, settings of each,
    structure) and `label`. Labels that earlier validations made with the same labeller are reused, unless --no-cache.
    """
    from aiida_aceal.inputs.validate import read_validation

    overrides: dict[str, Any] = {}
    if flags["properties"]:
        overrides["validate"] = {"properties": flags["properties"]}
    if flags["calculator"]:
        overrides["label"] = {"entry_point": "aceal.label.ase", "settings": {"calculator": flags["calculator"]}}
    for key, name in (("active_set", "asi"), ("ensemble", "ensemble")):
        if flags[name] is not None:
            overrides[key] = str(flags[name].resolve())
    validation, folder = read_validation(input_file, overrides)
    if dry_run:
        _dry_run(validation, folder, potential, profile)
        return
    sys.exit(_run(validation, folder, potential, profile, output, cache is not False, verbose))


def subject_of(word: str) -> Any:
    """The potential of a file or node, and what belongs to it: of a campaign the best, of a potential just that one.

    :raises click.ClickException: no such file or node, or it is something else
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_node

    from aiida_aceal.data.potential import AcePotentialData
    from aiida_aceal.inputs.validate import Subject
    from aiida_aceal.workflows.base import output
    from aiida_aceal.workflows.validate.earlier import origin_of

    if Path(word).suffix or Path(word).is_file():
        return Subject(AcePotentialData(file=word), whose=Path(word).name)
    try:
        node = load_node(word)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise click.ClickException(f"'{word}' is neither a file (.yaml) nor a node of this profile") from error
    if isinstance(node, AcePotentialData):
        origin = origin_of(node)
        if origin is None:
            return Subject(node, whose=f"potential {node.pk}")
        campaign, potential, belongs = origin[0], node, origin[1]
    elif getattr(node, "process_label", None) == "ActiveLearningWorkChain":
        campaign, potential = node, output(node, "potential")
        belongs = {name: output(node, name) for name in ("active_set", "ensemble")}
    else:
        kind = getattr(node, "process_label", None) or type(node).__name__
        raise click.ClickException(f"node {node.pk} is of type {kind}; name a potential or a campaign")
    if potential is None:
        raise click.ClickException(f"campaign {campaign.pk} has no potential (yet)")
    labeller = {key: campaign.inputs.labeller[key] for key in campaign.inputs.labeller}
    whose = f"{campaign.label or 'campaign'} <{campaign.pk}>"
    if potential.pk != getattr(output(campaign, "potential"), "pk", None):
        whose = f"potential {potential.pk} of {whose}"
    return Subject(potential, belongs.get("active_set"), belongs.get("ensemble"), labeller, whose)


def _dry_run(validation: Any, folder: Path, word: str, profile: str | None) -> None:
    from aiida_aceal.cli.profile import without_storing
    from aiida_aceal.inputs.validate import crystals, make_validation_builder

    with without_storing(profile) as find_code:
        subject = subject_of(word)
        builder = make_validation_builder(validation, folder, subject, find_code, store=False)
        names = validation.validate.properties
        click.echo(f"potential   {subject.whose}, {', '.join(subject.potential.elements)}")
        for atoms in crystals(validation.validate.structure, subject.potential.elements, folder):
            click.echo(f"structure   {atoms.info.get('name', '')} {atoms.get_chemical_formula()}".rstrip())
        click.echo(f"properties  {names if isinstance(names, str) else ', '.join(names)}")
        click.echo(f"label       {builder.labeller['entry_point'].value}")
        for name in ("active_set", "ensemble"):
            click.echo(f"{name:11s} {'given' if builder.get(name) is not None else 'none'}")


class Display:
    """Decisions as lines; on a terminal also what is being done."""

    def __init__(self, verbose: bool) -> None:
        from rich.console import Console

        self.console, self.verbose = Console(), verbose
        self.status = self.console.status("starting")

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.status.stop()

    def say(self, message: str) -> None:
        """A decision of the validation."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def __call__(self, node: Any) -> str | None:
        """Looks at the validation now and then; returns why it cannot go on."""
        from rich.text import Text

        from aiida_aceal.cli.live import paused_job

        if self.console.is_terminal:
            running = [job.description or job.process_label for job in node.called if not job.is_terminated]
            self.status.update(Text("; ".join(running) or "deciding"))
        return paused_job(node)


def _run(
    validation: Any, folder: Path, word: str, profile: str | None, output: Path | None, cache: bool, verbose: bool
) -> int:
    from aiida_aceal.cli import profile as own
    from aiida_aceal.cli.compare import run
    from aiida_aceal.inputs.validate import make_validation_builder
    from aiida_aceal.workflows.validate.earlier import earlier_labels

    own.configuration()
    own.load(profile, create=True)
    subject = subject_of(word)

    def make(prepared: Any, find_code: Any, store: bool) -> Any:
        builder = make_validation_builder(prepared, folder, subject, find_code, store)
        if cache:
            earlier = earlier_labels(builder.labeller)
            if earlier:
                builder.labelled = {**earlier, **(builder.labelled or {})}
        return builder

    display = Display(verbose)
    node, name = run(make, validation, profile, cache, display, display)
    return conclude(node, name, output)


def conclude(node: Any, profile: str, output: Path | None) -> int:
    """Table, report and exit code of a validation that has ended."""
    from rich.console import Console

    from aiida_aceal.cli.compare import report_path
    from aiida_aceal.common.atomic import write_text
    from aiida_aceal.report import properties

    found = properties.load(node)
    if not found["rows"]:
        reason = node.exit_message or node.exception or node.process_status or "no reason recorded"
        click.secho(f"No properties: {reason}", fg="red", err=True)
        return 1
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print()
    console.print(properties.rich_table(found["rows"], node.label, console.width), markup=False)
    for name, text in properties.facts(found["summary"]).items():
        click.echo(f"{name}: {text}")
    more = {"Validation": f"<{node.pk}> {node.uuid} in profile {profile}", "Started": f"{node.ctime:%Y-%m-%d %H:%M:%S}"}
    target = report_path(output, node.pk, "properties")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, properties.page(found, node.label, more))
    click.echo(f"Report: {target}")
    if not node.is_finished_ok:
        click.secho(f"Failed (exit status {node.exit_status}): {node.exit_message}", fg="yellow", err=True)
        return 1
    return 0
