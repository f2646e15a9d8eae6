"""``aceal-worker learning-curve``: how errors fall when one strategy, with one seed, chooses from a labelled pool."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from aiida_aceal.common.atomic import write_json
from aiida_aceal.common.yaml import load_mapping


@click.command()
@click.argument("settings", type=click.Path(path_type=Path))
def command(settings: Path) -> None:
    """Compute a learning curve as described in the YAML file SETTINGS; its paths are relative to the working directory.

    \b
    potential: basis.yaml         basis of every fit, or its description (elements, cutoff, ...)
    pool: [pool.extxyz]           labelled configurations to choose from; also a single name
    test: [test.extxyz]           labelled configurations that are never chosen
    output: curve.json
    strategy: d_optimal           its arguments: options: {...}
    seed: 0                       of the random start (the same for every strategy) and of the strategy
    sizes: [20, 40, 80]           of the training set, in unit: structures (or atoms); the first is the start
    fit: {...}                    settings of every refit, as in aceal-worker fit
    """
    from aiida_aceal.selection.compare import learning_curve
    from aiida_aceal.worker.curve_files import CurveFile

    plan, curve_settings = read_plan(settings, CurveFile, ("pool", "test"))
    potential, *sets = read_sets(plan, ("pool", "test"))
    curve = learning_curve(potential, *sets, curve_settings, plan["seed"], progress=stopwatch())
    write_json(plan["output"], curve, allow_nan=False)
    last = curve["points"][-1]
    click.echo(
        f"{curve['strategy']}, seed {curve['seed']}: {last['n_structures']} structures, forces RMSE "
        f"{1000 * last['forces_rmse']:.1f} meV/A, largest {1000 * last['forces_max']:.0f} meV/A, "
        f"{curve['seconds']:.1f} s"
    )


def stopwatch() -> Callable[[str], None]:
    """Prints a line with the seconds since now."""
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"{time.perf_counter() - started:7.1f} s  {line}", file=sys.stderr, flush=True)

    return say


def read_sets(plan: dict, sets: tuple[str, ...]) -> list:
    """The basis, and the labelled configurations of each of the ``sets``.

    :raises AceError: missing labels, elements the basis does not know
    """
    from aiida_aceal.ace import AcePotential, build_potential
    from aiida_aceal.common.configurations import check_elements, read_configurations

    start = plan["potential"]
    potential = build_potential(start) if isinstance(start, dict) else AcePotential.read(start)
    keys = {"energy_key": plan["energy_key"], "forces_key": plan["forces_key"]}
    found: list = [potential]
    for key in sets:
        frames = read_configurations(plan[key], **keys, require=("energy", "forces"))
        check_elements(frames, potential.elements, ", ".join(plan[key]))
        found.append(frames)
    return found


def read_plan(path: Path, model: Any, sets: tuple[str, ...]) -> tuple[dict, Any]:
    """Checked keys of the file by name, with lists of files as lists, and all of them as an instance of ``model``.

    :param model: such as `aiida_aceal.worker.curve_files.CurveFile`
    :raises AceError: missing or malformed file, unknown key, missing key, wrong value.
    """
    from aiida_aceal.common.settings import build

    chosen = build(model, load_mapping(path, "see --help of the command"), path)
    plan = {key: getattr(chosen, key) for key in model.model_fields}
    for key in sets:
        plan[key] = [plan[key]] if isinstance(plan[key], str) else list(plan[key])
    return plan, chosen
