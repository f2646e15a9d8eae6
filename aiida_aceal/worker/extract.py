"""``aceal-worker extract``: small cells about the unknown atoms of structures too large for a label."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from aiida_aceal.common.atomic import write_json


@click.command()
@click.argument("potential", type=click.Path(path_type=Path))
@click.argument("active_set", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Extended XYZ with the cells.")
@click.option("--settings", "settings_file", type=click.Path(path_type=Path),
              help="YAML or JSON mapping of all settings (gamma_lo, max_atoms, mode, inner_radius, ...).")  # fmt: skip
@click.option("--gamma-lo", type=float, help="Atoms above it are cut out; all others shall end below it.  [default: 2]")
@click.option("--max-atoms", type=int, help="Label budget: atoms of the largest cell.  [default: 150]")
@click.option("--max-cuts", type=int, help="Cuts of one structure.  [default: 10]")
@click.option("--mode", type=click.Choice(["box", "cluster"]), help="Periodic box or free cluster.  [default: box]")
@click.option("--stoichiometry", help="auto, keep, or a formula unit such as CuI.  [default: auto]")
@click.option("--molecules/--no-molecules", default=None, help="Cut and remove whole molecules.")
@click.option("--relax/--no-relax", default=None, help="Relax the outer atoms.  [default: relax]")
@click.option("--report", "report_file", type=click.Path(path_type=Path), help="JSON with one entry for each cut.")
def command(potential, active_set, data, output, settings_file, report_file, **options) -> None:
    """Cut the environments of all atoms of DATA... whose grade is above gamma_lo.

    Structures of at most max_atoms atoms are passed on as they are (graded), if any atom is above gamma_lo.
    """
    from aiida_aceal.ace import AceError, AceModel, AcePotential
    from aiida_aceal.common.settings import build
    from aiida_aceal.exploration.extract import ExtractSettings, extract_environments
    from aiida_aceal.exploration.objective import Grader
    from aiida_aceal.uncertainty.active_set import ActiveSet
    from aiida_aceal.uncertainty.emptiness import mark
    from aiida_aceal.worker.files import check_elements, iter_configurations, write_configurations

    values = _settings_of(settings_file) if settings_file is not None else {}
    values.update({name: value for name, value in options.items() if value is not None})
    settings = build(ExtractSettings, values, settings_file or "settings")
    pot = AcePotential.read(potential)
    aset = ActiveSet.load(active_set, pot)
    model = AceModel(pot)
    reports: list[dict] = []
    counts = {"n_structures": 0, "n_small": 0, "n_candidates": 0}
    largest = 0.0

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def cells():
        nonlocal largest
        for path in data:
            for index, atoms in enumerate(iter_configurations(path)):
                check_elements([atoms], pot.elements, str(path))
                atoms.info.setdefault("source", f"{path.name}#{index}")
                gamma, emptiness = Grader(model, aset).floored(atoms)
                largest = max(largest, float(gamma.max()))
                counts["n_structures"] += 1
                if len(atoms) <= settings.max_atoms:
                    if gamma.max() > settings.gamma_lo:
                        counts["n_small"] += 1
                        counts["n_candidates"] += 1
                        atoms.arrays["gamma"] = gamma
                        atoms.info["gamma_max"] = float(gamma.max())
                        mark(atoms.info, emptiness)
                        yield atoms
                    continue
                say(f"{path}, structure {index}: {len(atoms)} atoms, largest gamma {gamma.max():.2f}")
                try:
                    found = extract_environments(model, aset, atoms, settings, say)
                except AceError as error:
                    reports.append({"structure": atoms.info["source"], "status": "failed", "reason": str(error)})
                    continue
                reports.extend({"structure": atoms.info["source"], **entry} for entry in found.reports)
                counts["n_candidates"] += len(found.cells)
                for cell in found.cells:
                    # where the large structure came from (walker, step, ...) stays with its cuts
                    cell.info = {**_origin(atoms), **cell.info}
                    yield cell

    write_configurations(output, cells())
    failed = sum(entry["status"] == "failed" for entry in reports)
    if report_file is not None:
        facts = {"status": "completed", **counts, "n_failed": failed, "max_gamma": largest, "cuts": reports}
        write_json(report_file, facts)
    click.echo(f"{counts['n_candidates']} cells of {counts['n_structures']} structures, {failed} cuts failed")


def _origin(atoms) -> dict:
    """Plain info of a structure that was cut, its size and content hash (``parent``)."""
    from aiida_aceal.worker.files import configuration_hash

    own = ("gamma_max", "source", "kind", "reason", "score", "round", "aceal_hash", "energy", "stress")
    kept = {k: v for k, v in atoms.info.items() if k not in own and isinstance(v, (str, int, float, bool))}
    return {**kept, "parent": configuration_hash(atoms), "parent_atoms": len(atoms)}


def _settings_of(path: Path) -> dict:
    import yaml

    from aiida_aceal.ace import AceError

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AceError(f"{path}: cannot be read as YAML or JSON ({error})") from error
    if not isinstance(values, dict):
        raise AceError(f"{path}: expected a mapping of settings")
    return values
