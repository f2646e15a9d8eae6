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

#: keys of the settings file, beside the sets, that are not settings of the curve itself
FILE_KEYS = ("potential", "output", "seed", "energy_key", "forces_key")


@click.command()
@click.argument("settings", type=click.Path(path_type=Path))
def command(settings: Path) -> None:
    """Learning curve as the YAML file SETTINGS says; paths in it are relative to the working directory.

    \b
    potential: basis.yaml         basis of every fit; or a description (elements, cutoff, ...)
    pool: [pool.extxyz]           labelled configurations to choose from; also one name
    test: [test.extxyz]           labelled configurations that are never chosen
    output: curve.json
    strategy: d_optimal           options: {...} are arguments of the strategy
    seed: 0                       of the random start (the same for every strategy) and of the strategy
    sizes: [20, 40, 80]           of the training set, in unit: structures (or atoms); the first is the start
    fit: {...}                    settings of every refit, as in aceal-worker fit
    """
    from aiida_aceal.selection.compare import CurveSettings, learning_curve

    plan, curve_settings = read_plan(settings, CurveSettings, ("pool", "test"))
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
    from aiida_aceal.worker.files import check_elements, read_configurations

    start = plan["potential"]
    potential = build_potential(start) if isinstance(start, dict) else AcePotential.read(start)
    keys = {"energy_key": plan["energy_key"], "forces_key": plan["forces_key"]}
    found: list = [potential]
    for key in sets:
        frames = read_configurations(plan[key], **keys, require=("energy", "forces"))
        check_elements(frames, potential.elements, ", ".join(plan[key]))
        found.append(frames)
    return found


def read_plan(path: Path, kind: Any, sets: tuple[str, ...]) -> tuple[dict, Any]:
    """Checked keys of the file: those of ``FILE_KEYS`` and ``sets`` (names of files), and a ``kind`` of all others.

    :param kind: class of settings with a method ``read``, such as `CurveSettings`
    :raises AceError: missing or malformed file, unknown key, missing key.
    """
    from aiida_aceal.ace import AceError
    from aiida_aceal.fitting.schema import unknown_key

    data = load_mapping(path, "see --help of the command")
    own, keys = set(kind.__dataclass_fields__), (*FILE_KEYS, *sets)
    for key in data:
        if key not in own and key not in keys:
            raise unknown_key(key, (*own, *keys), str(path))
    for key in ("potential", *sets, "output"):
        if not data.get(key):
            raise AceError(f"{path}: the key '{key}' is missing")
    plan = {key: data.get(key) for key in keys}
    if not isinstance(plan["potential"], (str, dict)):
        raise AceError(f"{path}: potential must be a file name or a description, found {plan['potential']!r}")
    for key in sets:
        plan[key] = [plan[key]] if isinstance(plan[key], str) else plan[key]
        if not isinstance(plan[key], list) or not all(isinstance(name, str) for name in plan[key]):
            raise AceError(f"{path}: {key} must be a file name or a list of them, found {data[key]!r}")
    for key in ("output", "energy_key", "forces_key"):
        if plan[key] is not None and not isinstance(plan[key], str):
            raise AceError(f"{path}: {key} must be text, found {plan[key]!r}")
    seed = 0 if plan["seed"] is None else plan["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise AceError(f"{path}: seed must be an integer that is not negative, found {seed!r}")
    plan["seed"] = seed
    return plan, kind.read({key: value for key, value in data.items() if key in own}, str(path))
