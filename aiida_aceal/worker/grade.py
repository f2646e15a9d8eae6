"""``aceal-worker grade``: the extrapolation grade of every atom of many configurations."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from aiida_aceal.common.atomic import write_json


@click.command()
@click.argument("potential", type=click.Path(path_type=Path))
@click.argument("asi", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Extended XYZ with array gamma, info gamma_max.")
@click.option("--ensemble", type=click.Path(path_type=Path), help="Ensemble file: adds dE and dF of each structure.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON with the distribution of gamma.")
def command(potential, asi, data, output, ensemble, report) -> None:
    """Grade DATA... by the active set ASI of POTENTIAL; a linear set needs no fitted potential."""
    from aiida_aceal.ace import AceModel, AcePotential
    from aiida_aceal.uncertainty import ActiveSet
    from aiida_aceal.uncertainty.emptiness import mark
    from aiida_aceal.worker.ensemble_scores import EnsembleScores
    from aiida_aceal.worker.evaluate import chunks
    from aiida_aceal.worker.files import check_elements, iter_configurations, write_configurations

    started = time.perf_counter()
    pot = AcePotential.read(potential)
    model = AceModel(pot)
    model.active_set = ActiveSet.load(asi, potential=pot)
    scores = EnsembleScores(ensemble) if ensemble is not None else None
    largest: list[float] = []
    n_atoms = n_emptier = 0
    note = model.active_set.emptiness_note
    if note:
        print(f"note: {note}", file=sys.stderr, flush=True)

    def graded() -> Iterator:
        nonlocal n_atoms, n_emptier
        for path in data:
            for chunk in chunks(iter_configurations(path)):
                check_elements(chunk, pot.elements, str(path))
                results = model.evaluate_batch(chunk, forces=False, stress=False, gamma=True)
                if scores is not None:
                    scores.add(chunk)
                for atoms, result in zip(chunk, results):
                    atoms.arrays["gamma"] = np.asarray(result.gamma, dtype=float)
                    atoms.info["gamma_max"] = float(result.gamma.max())
                    n_emptier += mark(atoms.info, result.emptiness)
                    largest.append(atoms.info["gamma_max"])
                    n_atoms += len(atoms)
                    yield atoms
                print(f"{len(largest)} structures, {n_atoms} atoms", file=sys.stderr, flush=True)

    if output is not None:
        write_configurations(output, graded())
    else:
        for _ in graded():
            pass
    q = np.quantile(largest, [0.5, 0.9, 0.99])
    facts = {
        "n_structures": len(largest),
        "n_atoms": n_atoms,
        "kind": model.active_set.kind,
        "gamma": {"max": max(largest), "median": q[0], "q90": q[1], "q99": q[2]},
        "n_above_1": int(np.sum(np.array(largest) > 1.0 + 1e-6)),
        "emptiness": {"n_structures": n_emptier, "note": note},
        "seconds": time.perf_counter() - started,
    }
    if scores is not None:
        facts["ensemble"] = scores.report()
    if report is not None:
        write_json(report, facts)
    click.echo(
        f"{len(largest)} structures: gamma max {max(largest):.4g}, median {q[0]:.4g}, {facts['n_above_1']} above 1"
        + (f", {n_emptier} with atoms in environments emptier than any learnt" if n_emptier else "")
    )
