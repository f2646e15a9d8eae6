"""``aceal-worker select``: choose the candidates that are worth a label."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from aiida_aceal.common.atomic import write_json


@click.command()
@click.argument("potential", type=click.Path(path_type=Path))
@click.argument("asi", type=click.Path(path_type=Path))
@click.argument("candidates", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Extended XYZ with the chosen ones."
)
@click.option("--strategy", default="d_optimal", show_default=True, help="Name of a selection strategy.")
@click.option("--count", type=int, help="Largest number of structures.")
@click.option("--max-atoms", type=int, help="Largest number of atoms in all.")
@click.option("--max-cost", type=float, help="Largest label cost in all: sum of n_atoms ** cost-power.")
@click.option("--cost-power", default=3.0, show_default=True, help="How the cost of a label grows with its atoms.")
@click.option("--seed", default=0, show_default=True, help="Of everything random in the strategy.")
@click.option("--descriptor", type=click.Choice(["projections", "composition"]), default="projections")
@click.option("--duplicate-distance", default=1e-3, show_default=True, help="Near-duplicates in the batch are dropped.")
@click.option("--options", default="{}", help="JSON with further arguments of the strategy.")
@click.option("--ensemble", type=click.Path(path_type=Path), help="Ensemble file: its dF takes the place of gamma.")
@click.option(
    "--reference",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Training set of POTENTIAL (repeat for more files); needed by viability, which judges candidates by it.",
)
@click.option("--memory", default="1GiB", show_default=True, help="What MaxVol may add to the memory in use.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="JSON with reasons, scores, rounds and near-duplicates."
)
def command(
    potential, asi, candidates, output, strategy, count, max_atoms, max_cost, cost_power, seed, descriptor,
    duplicate_distance, options, ensemble, reference, memory, report,
) -> None:  # fmt: skip
    """Select from CANDIDATES... with POTENTIAL and its active set ASI.

    Chosen structures get the info entries reason, score and round; the budget is a number of structures, of atoms, or
    a label cost, whichever is met first.
    """
    from aiida_aceal.ace import AceError, AceModel, AcePotential
    from aiida_aceal.selection import Budget, select
    from aiida_aceal.uncertainty import ActiveSet
    from aiida_aceal.worker.files import check_elements, read_configurations, write_configurations

    started = time.perf_counter()
    try:
        extra = json.loads(options)
    except json.JSONDecodeError as error:
        raise AceError(f"--options is not valid JSON: {error}") from error
    if not isinstance(extra, dict):
        raise AceError("--options must be a JSON object, such as '{\"weight\": 0.7}'")
    pot = AcePotential.read(potential)

    def read(paths):
        found = []
        for path in paths:
            frames = read_configurations(path)
            check_elements(frames, pot.elements, str(path))
            found += frames
        return found

    structures, known = read(candidates), read(reference) if reference else None
    indicator = None
    if ensemble is not None:
        from aiida_aceal.fitting.ensemble import Ensemble

        indicator = Ensemble.load(ensemble)

    last = [-1.0]

    def progress(line: str) -> None:
        # counters come hundreds of times: one a second is enough
        now = time.perf_counter() - started
        if line.startswith("round") or now - last[0] > 1.0:
            last[0] = now
            print(f"{now:7.1f} s  {line}", file=sys.stderr, flush=True)

    progress(f"read {len(structures)} candidates")
    chosen = select(
        strategy, structures, seed=seed, model=AceModel(pot), active_set=ActiveSet.load(asi, potential=pot),
        budget=Budget(count, max_atoms, max_cost, cost_power), indicator=indicator, descriptor=descriptor,
        reference=known, duplicate_distance=duplicate_distance, memory=memory, options=extra, progress=progress,
    )  # fmt: skip
    picked = []
    for index, score, reason, turn in zip(chosen.indices, chosen.scores, chosen.reasons, chosen.rounds):
        atoms = structures[index]
        atoms.info.update(reason=f"{strategy}: {reason}", score=score, round=turn)
        picked.append(atoms)
    write_configurations(output, picked)
    facts = {
        **chosen.report(),
        "n_candidates": len(structures),
        "n_atoms": int(sum(len(atoms) for atoms in picked)),
        "seconds": time.perf_counter() - started,
    }
    if report is not None:
        write_json(report, facts)
    for line in chosen.notes:
        click.echo(line)
    click.echo(
        f"{len(picked)} of {len(structures)} candidates selected by {strategy} in {facts['rounds']} round(s), "
        f"{len(chosen.dropped)} near-duplicates dropped"
    )
