"""``aceal-worker compare-uncertainty``: active sets and ensembles grade a labelled set, side by side."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click


@click.command()
@click.argument("settings", type=click.Path(path_type=Path))
def command(settings: Path) -> None:
    """Compare indicators of uncertainty as the YAML file SETTINGS says; paths are relative to the working directory.

    \b
    potential: basis.yaml         basis that is fitted; or a description (elements, cutoff, ...)
    train: [train.extxyz]         labelled configurations that fit, active sets and ensemble are made from
    test: [test.extxyz]           labelled configurations that are graded
    output: comparison.json
    indicators: [global, own, minimum, switch, ensemble]
    seed: 0
    fit: {...}                    as in aceal-worker fit; ensemble: {members: 8, method: auto}
    """
    from aiida_aceal.ace import AcePotential, build_potential
    from aiida_aceal.selection.indicators import IndicatorSettings, compare_indicators
    from aiida_aceal.worker.files import check_elements, read_configurations
    from aiida_aceal.worker.learning_curve import read_plan

    started = time.perf_counter()
    plan, chosen = read_plan(settings, IndicatorSettings, ("train", "test"))
    start = plan["potential"]
    potential = build_potential(start) if isinstance(start, dict) else AcePotential.read(start)
    sets = []
    for key in ("train", "test"):
        frames = read_configurations(
            plan[key], energy_key=plan["energy_key"], forces_key=plan["forces_key"], require=("energy", "forces")
        )
        check_elements(frames, potential.elements, ", ".join(plan[key]))
        sets.append(frames)

    def progress(line: str) -> None:
        print(f"{time.perf_counter() - started:7.1f} s  {line}", file=sys.stderr, flush=True)

    found = compare_indicators(potential, *sets, chosen, plan["seed"], progress)
    target = Path(plan["output"])
    partial = target.with_name(target.name + ".part")
    partial.write_text(json.dumps(found, indent=1, allow_nan=False), encoding="utf-8")
    partial.replace(target)
    for name, entry in found["indicators"].items():
        click.echo(f"{name}: rank correlation with the errors {entry['spearman']:.3f}")
