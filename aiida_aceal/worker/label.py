"""``aceal-worker label``: reference energies, forces and stress of many configurations by any ASE calculator."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from aiida_aceal.common.atomic import write_json

#: exit code when not a single configuration could be labelled
NOTHING_LABELLED = 4


def read_settings(text: str | None) -> dict[str, Any]:
    """Arguments of the calculator: JSON itself, or the name of a JSON file.

    :raises AceError: neither, or not a mapping.
    """
    from aiida_aceal.ace.errors import AceError

    if not text:
        return {}
    source = text
    if not text.lstrip().startswith("{"):
        path = Path(text)
        if not path.is_file():
            raise AceError(f"--settings '{text}' is neither a file nor JSON: give '{{\"key\": value}}' or a .json file")
        text = path.read_text(encoding="utf-8")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise AceError(f"--settings {source}: not valid JSON ({error})") from error
    if not isinstance(settings, dict):
        raise AceError(f"--settings {source}: a mapping of arguments is needed, not {type(settings).__name__}")
    return settings


def share_cores(n_configurations: int, workers: int | None) -> tuple[int, int]:
    """Number of processes, and threads of each, that use the cores given by ``OMP_NUM_THREADS`` (default: all)."""
    from aiida_aceal.common.threads import thread_count

    cores = thread_count()
    workers = max(1, min(workers or cores, n_configurations))
    return workers, max(1, cores // workers)


def warnings_for(target: str, configurations: list) -> list[str]:
    """What the user should know about the method and these cells."""
    if target != "tblite.ase:TBLite":
        return []
    small = 0
    for atoms in configurations:
        lengths = atoms.cell.lengths()[atoms.pbc]
        small += bool(len(lengths) and lengths.min() < 8.0)
    if not small:
        return []
    return [
        f"{small} of {len(configurations)} cells have a side below 8 A: tblite knows the gamma point only, "
        "use larger cells"
    ]


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--calculator", required=True, help="Short name (emt, tblite, gpaw, ...) or package.module:Class.")
@click.option("--settings", help="Arguments of the calculator: JSON or a JSON file.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Labelled extended XYZ.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON with failures, reasons and costs.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes side by side [default: OMP_NUM_THREADS].")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds allowed for one configuration.")
@click.option(
    "--budget", type=click.FloatRange(min=0, min_open=True), help="Seconds allowed for all; what is done is kept."
)
@click.option(
    "--energy", type=click.Choice(["extrapolated", "free"]), default="extrapolated", show_default=True,
    help="Energy at zero smearing, or the free energy whose derivative the forces are.",
)  # fmt: skip
@click.option("--stress/--no-stress", default=True, show_default=True, help="Whether stress is computed.")
@click.option("--max-force", type=click.FloatRange(min=0, min_open=True), help="Refuse labels above this, in eV/A.")
def command(data, calculator, settings, output, report, workers, timeout, budget, energy, stress, max_force) -> None:
    """Label the configurations of DATA... with an ASE calculator.

    A configuration that fails is left out of OUTPUT and stands in the report with its reason; the order is kept.
    Exit code 4: not one could be labelled.
    """
    from aiida_aceal.worker.calculators import calculator_spec
    from aiida_aceal.worker.files import configuration_hash, read_configurations, write_configurations
    from aiida_aceal.worker.label_pool import Outcome, label_batch

    began = time.perf_counter()
    spec = calculator_spec(calculator, read_settings(settings))
    configurations = read_configurations(list(data))
    workers, threads = share_cores(len(configurations), workers)
    count = {"done": 0, "failed": 0}
    last = [0.0]

    def progress(outcome: Outcome) -> None:
        count["done"] += 1
        count["failed"] += outcome.labels is None
        now = time.perf_counter()
        if now - last[0] > 2.0 or count["done"] == len(configurations):
            last[0] = now
            done = f"{count['done']}/{len(configurations)} configurations, {count['failed']} failed"
            print(f"{done}, {now - began:.1f} s", file=sys.stderr, flush=True)

    left = None if budget is None else max(0.0, budget - (time.perf_counter() - began))
    outcomes = label_batch(
        configurations, spec, workers, threads, timeout, left, progress,
        energy=energy, stress=stress, max_force=max_force,
    )  # fmt: skip
    hashes = [configuration_hash(atoms) for atoms in configurations]
    n_labelled = write_configurations(output, labelled(configurations, outcomes))
    summary = {
        "n_configurations": len(configurations),
        "n_labelled": n_labelled,
        "n_failed": len(configurations) - n_labelled,
        "n_stress": sum("stress" in (o.labels or {}) for o in outcomes),
        "failures": [
            {"index": o.index, "hash": hashes[o.index], "reason": o.reason} for o in outcomes if o.labels is None
        ],
        "calculator": spec.describe(),
        "energy": energy,
        "units": {"energy": "eV", "forces": "eV/A", "stress": "eV/A^3"},
        "warnings": warnings_for(spec.target, configurations),
        "workers": workers,
        "threads": threads,
        "wall_seconds": time.perf_counter() - began,
        "core_seconds": sum(o.cpu_seconds for o in outcomes),
        "costs": [{"index": o.index, "wall_seconds": o.wall_seconds, "core_seconds": o.cpu_seconds} for o in outcomes],
    }
    if report is not None:
        write_json(report, summary)
    for warning in summary["warnings"]:
        print(f"Warning: {warning}", file=sys.stderr)
    print(f"{n_labelled} of {len(configurations)} configurations labelled", file=sys.stderr)
    if not n_labelled:
        sys.exit(NOTHING_LABELLED)


def labelled(configurations: list, outcomes: list):
    """Copies of the configurations that have labels now, everything else as it was."""
    from ase.calculators.singlepoint import SinglePointCalculator

    for atoms, outcome in zip(configurations, outcomes, strict=True):
        if outcome.labels is not None:
            copy = atoms.copy()
            copy.calc = SinglePointCalculator(copy, **outcome.labels)
            yield copy
