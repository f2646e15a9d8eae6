"""``aiida-aceal compare uncertainty``: active sets and ensembles grade a labelled set, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aiida_aceal.cli.params import CACHE, DRY_RUN, PAGE, PROFILE, VERBOSE
from aiida_aceal.common.words import counted


@click.command()
@click.argument("input_file", metavar="[INPUT.yaml]", required=False, type=click.Path(path_type=Path))
@click.option("--train", multiple=True, help="File of labelled configurations to learn from (repeatable).")
@click.option("--test", multiple=True, help="File of labelled configurations that are graded (repeatable).")
@click.option("--test-fraction", type=float, help="Instead of --test: a random part of --train, as a fraction.")
@click.option("--train-group", multiple=True, help="Learn this kind only and grade the others (repeatable).")
@click.option("--group-key", help="Info entry that names the kind of a configuration [default: group].")
@click.option("--energy-key", help="Info entry with the energies [default: ASE's usual place].")
@click.option("--forces-key", help="Array with the forces [default: ASE's usual place].")
@click.option("--potential", help="Potential (.yaml) whose basis is fitted [default: a basis of some 100 functions].")
@click.option("--indicator", multiple=True, help="global, own, minimum, switch, ensemble (repeatable) [default: all].")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed of the split, the fits and the clusters.")
@click.option("--threads", type=click.IntRange(min=1), help="Number of cores for the job.")
@PAGE
@DRY_RUN
@PROFILE
@CACHE
@VERBOSE
def command(input_file, output, dry_run, profile, cache, verbose, **flags) -> None:
    """Fit a potential, grade a labelled set by its active sets and an ensemble, and compare grades with errors.

    Either INPUT.yaml or --train with --test, --test-fraction or --train-group; options override the file. Running the
    same input again takes the result from the cache (--no-cache computes it anew).
    """
    from aiida_aceal.inputs import compare_uncertainty as source
    from aiida_aceal.inputs.compare_selection import validated

    found = {key: list(v) if isinstance(v, tuple) else v for key, v in flags.items() if v not in (None, ())}
    for flag, key in (("train_group", "train_groups"), ("indicator", "indicators")):
        if flag in found:
            found[key] = found.pop(flag)
    for key in ("train", "test", "potential"):  # paths on the command line start from the working directory
        if key in found:
            names = [str(Path(name).resolve()) for name in ([found[key]] if key == "potential" else found[key])]
            found[key] = names[0] if key == "potential" else names
    if input_file is not None:
        prepared = source.read_uncertainty_input(input_file, found)
    elif "train" in found:
        comparison = validated(source.UncertaintyComparison, found, "options", ())
        prepared = source.prepare_uncertainty(comparison)
    else:
        raise click.UsageError("give an INPUT.yaml, or --train")
    for line in describe(prepared):
        click.echo(line)
    if not dry_run:
        sys.exit(_run(prepared, profile, output, cache is not False, verbose))


def describe(prepared: Any) -> list[str]:
    """What will be done."""
    return [
        *(
            f"{name}: {counted(len(part), 'structure')}, {counted(sum(map(len, part)), 'atom')}"
            for name, part in (("learnt", prepared.train), ("graded", prepared.test))
        ),
        "basis: " + ", ".join(f"{el} {counted(n, 'function')}" for el, n in prepared.potential.n_functions.items()),
        f"indicators: {', '.join(prepared.settings['indicators'])}",
    ]


class Display:
    """A single job makes no decisions; with ``verbose`` its states are printed, as they change."""

    def __init__(self, verbose: bool) -> None:
        self.verbose, self.seen = verbose, ""

    def say(self, message: str) -> None:
        """A line of the log."""
        if self.verbose:
            click.echo(message)

    def __call__(self, node: Any) -> str | None:
        """Why the job cannot go on, if it cannot."""
        state = node.process_status or (node.process_state.value if node.process_state else "")
        if state != self.seen:
            self.seen = state
            self.say(f"{node.process_label}<{node.pk}>: {state}")
        if node.paused and not node.is_terminated:
            return f"{node.process_label}<{node.pk}> cannot go on: {node.process_status}"
        return None


def _run(prepared: Any, profile: str | None, output: Path | None, cache: bool, verbose: bool) -> int:
    from aiida_aceal.cli.compare import run
    from aiida_aceal.inputs.compare_uncertainty import make_uncertainty_builder

    node, name = run(make_uncertainty_builder, prepared, profile, cache, Display(verbose))
    return conclude(node, name, output)


def conclude(node: Any, profile: str, output: Path | None) -> int:
    """Table, report and exit code of a comparison that has ended."""
    from aiida_aceal.cli.compare import no_comparison, publish
    from aiida_aceal.report import uncertainty
    from aiida_aceal.workflows.base import output as output_of

    report = output_of(node, "report")
    if report is None or not node.is_finished_ok:
        return no_comparison(node)
    what = ("Comparison of uncertainty indicators", "uncertainty")
    publish(node, report.get_dict(), what, uncertainty, profile, output)
    return 0
