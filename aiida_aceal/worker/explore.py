"""``aceal-worker explore``: candidates by active exploration or from a pool, by a YAML of settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aiida_aceal.common.atomic import write_json
from aiida_aceal.common.yaml import load_mapping

#: mode -> model of its settings file
MODES = {"active": "ActiveFile", "pool": "PoolFile"}


@click.command()
@click.argument("settings", type=click.Path(path_type=Path))
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    help="JSON report (overrides the one named in SETTINGS).",
)
@click.option("--keys", is_flag=True, is_eager=True, expose_value=False, callback=lambda c, p, v: _show_keys(c, v),
              help="Show all keys of both modes with their defaults and exit.")  # fmt: skip
def command(settings: Path, report_file: Path | None) -> None:
    """Find candidates as described in the YAML file SETTINGS; its paths are relative to the working directory.

    \b
    mode: active                  or pool
    potential: potential.yaml
    active_set: active_set.asi
    structures: [start.extxyz]    starting points (active) or the pool itself; also a single name
    output: candidates.extxyz     array gamma, info gamma_max, source, kind
    report: report.json           optional
    seed: 0                       active
    active_set_output: new.asi    active, optional: the set with all finds
    known: [train.extxyz]         pool, optional: duplicates of these are dropped
    gamma_lo: 2.0  gamma_hi: 25.0  minimum_distance: {Cu-Cu: 2.0}
    count: 20  attempts: 100  method: nelder-mead  target_gamma: 15  free: all     active
    elements: [Cu, I]  atoms: [1, 200]  duplicates: 0.0001  max_candidates: 500    pool

    `--keys` lists all of them. No candidates: OUTPUT is an empty file.
    """
    plan = read_plan(settings)
    if report_file is not None:
        plan = plan.replace(report=str(report_file))
    report = run(plan)
    if plan.report:
        write_json(plan.report, report)
    click.echo(f"{report['n_candidates']} candidates, largest gamma {report['max_gamma']:.3g}")


def _show_keys(context: click.Context, wanted: bool) -> None:
    if not wanted:
        return
    from aiida_aceal.common.settings import describe
    from aiida_aceal.worker import explore_files

    for mode, name in MODES.items():
        click.echo(f"mode: {mode}")
        for row in describe(getattr(explore_files, name)):
            if row.key != "mode":
                click.echo(f"  {row.key}: {row.default_text}  # {row.text}")
    context.exit()


def read_plan(path: Path) -> Any:
    """Checked content of the settings file: an ``ActiveFile`` or a ``PoolFile``.

    :raises AceError: missing or malformed file, unknown or missing keys, wrong values.
    """
    from aiida_aceal.ace import AceError
    from aiida_aceal.common.settings import build, nearest
    from aiida_aceal.worker import explore_files

    data = load_mapping(path, "see aceal-worker explore --help")
    if data.get("mode") not in MODES:
        raise AceError(
            f"{path}: mode: must be 'active' or 'pool', found {data.get('mode')!r}; {nearest(data.get('mode'), MODES)}"
        )
    return build(getattr(explore_files, MODES[data["mode"]]), data, path)


def run(plan: Any) -> dict[str, Any]:
    """Explore as planned; writes the candidates (and the active set) and returns the report."""
    from aiida_aceal.ace import AceModel, AcePotential
    from aiida_aceal.exploration.formats import refuse_pickle
    from aiida_aceal.uncertainty.active_set import ActiveSet

    potential = AcePotential.read(plan.potential)
    active_set = ActiveSet.load(plan.active_set, potential)
    if active_set.emptiness_note and plan.mode == "pool":
        _say(f"note: {active_set.emptiness_note}")
    for path in [*plan.listed("structures"), *(plan.listed("known") if plan.mode == "pool" else [])]:
        refuse_pickle(path)
    if plan.mode == "active":
        return _active(plan, potential, active_set)
    return _pool(plan, AceModel(potential), active_set)


def _frames(plan: Any, paths: list[str]) -> Any:
    from aiida_aceal.common.configurations import iter_configurations

    for path in paths:
        frames = iter_configurations(path, plan.energy_key, plan.forces_key, plan.stress_key)
        for index, atoms in enumerate(frames):
            atoms.info.setdefault("source", f"{Path(path).name}#{index}")
            yield atoms


def _active(plan: Any, potential: Any, active_set: Any) -> dict[str, Any]:
    from aiida_aceal.common.configurations import write_configurations
    from aiida_aceal.exploration.active import explore_active

    starts = list(_frames(plan, plan.listed("structures")))
    for atoms in starts:
        atoms.calc = None
    result = explore_active(potential, active_set, starts, plan, plan.seed, _say)
    write_configurations(plan.output, result.candidates)
    if plan.active_set_output:
        result.active_set.save(plan.active_set_output)
    return result.report


def _pool(plan: Any, model: Any, active_set: Any) -> dict[str, Any]:
    from aiida_aceal.common.configurations import write_configurations
    from aiida_aceal.exploration.pool import PoolSearch

    search = PoolSearch(model, active_set, plan, _frames(plan, plan.listed("known")), _say)
    write_configurations(plan.output, search(_frames(plan, plan.listed("structures"))))
    return search.report()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
