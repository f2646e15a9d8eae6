"""``aceal-worker compare-uncertainty``: active sets and ensembles grade a labelled set, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_aceal.common.atomic import write_json


@click.command()
@click.argument("settings", type=click.Path(path_type=Path))
def command(settings: Path) -> None:
    """Compare uncertainty indicators as described in the YAML file SETTINGS; its paths are relative to the
    working directory.

    \b
    potential: basis.yaml         basis that is fitted, or its description (elements, cutoff, ...)
    train: [train.extxyz]         labelled configurations that are learnt
    test: [test.extxyz]           labelled configurations that are graded
    output: comparison.json
    indicators: [global, own, minimum, switch, ensemble]
    seed: 0
    fit: {...}                    as in aceal-worker fit; ensemble: {members: 8, method: auto}
    """
    from aiida_aceal.selection.indicators import compare_indicators
    from aiida_aceal.worker.curve_files import ComparisonFile
    from aiida_aceal.worker.learning_curve import read_plan, read_sets, stopwatch

    plan, chosen = read_plan(settings, ComparisonFile, ("train", "test"))
    potential, *sets = read_sets(plan, ("train", "test"))
    found = compare_indicators(potential, *sets, chosen, plan["seed"], stopwatch())
    write_json(plan["output"], found, allow_nan=False)
    for line in found["notes"]:
        click.echo(line)
    for name, entry in found["indicators"].items():
        click.echo(f"{name}: rank correlation with the errors {entry['spearman']:.3f}")
