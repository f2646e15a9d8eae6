"""``aceal-worker sample``: labelled snapshots of molecular dynamics with any ASE calculator."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from aiida_aceal.common.atomic import write_json


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--calculator", required=True, help="Short name (emt, tblite, ...) or package.module:Class.")
@click.option("--settings", help="Arguments of the calculator: JSON or a JSON file.")
@click.option("--temperature", nargs=2, type=float, default=(300.0, 300.0), help="K, first and last [300 300].")
@click.option("--steps", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--interval", type=click.IntRange(min=1), default=25, show_default=True, help="Steps between snapshots.")
@click.option("--timestep", type=float, default=0.002, show_default=True, help="ps.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Labelled extended XYZ.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON with counts and cost.")
def command(data, calculator, settings, temperature, steps, interval, timestep, seed, output, report) -> None:
    """Run dynamics (NVT, temperature ramped) from each configuration of DATA... and keep labelled snapshots.

    Meant for hold-out sets: they come from the reference method's own dynamics, not from the potential's.
    """
    import numpy as np

    from aiida_aceal.exploration.sampling import sample_md
    from aiida_aceal.worker.calculators import calculator_spec, compute_labels
    from aiida_aceal.worker.files import read_configurations, write_configurations
    from aiida_aceal.worker.label import read_settings

    began, cpu = time.perf_counter(), time.process_time()
    spec = calculator_spec(calculator, read_settings(settings))
    configurations = read_configurations(list(data))
    children = np.random.SeedSequence(seed).spawn(len(configurations))

    def snapshots():
        for number, (atoms, child) in enumerate(zip(configurations, children)):
            run = sample_md(
                atoms, spec.create(), temperature, steps, interval, np.random.default_rng(child), timestep,
                labels=compute_labels,
            )  # fmt: skip
            for snapshot in run:
                snapshot.info["source"] = f"md/{number}/{snapshot.info['step']}"
                done = f"run {number + 1}/{len(configurations)}, step {snapshot.info['step']}/{steps}"
                print(f"{done}, {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
                yield snapshot

    count = write_configurations(output, snapshots())
    summary = {
        "n_configurations": count,
        "n_labelled": count,
        "n_failed": 0,
        "failures": [],
        "calculator": spec.describe(),
        "steps": steps * len(configurations),
        "wall_seconds": time.perf_counter() - began,
        "core_seconds": time.process_time() - cpu,
    }
    if report is not None:
        write_json(report, summary)
    print(f"{count} labelled snapshots", file=sys.stderr)
