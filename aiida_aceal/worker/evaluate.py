"""``aceal-worker evaluate``: energies, forces, stress and gamma of many configurations, errors against their labels."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np

from aiida_aceal.common.atomic import write_json

#: configurations are evaluated together up to this many atoms, which bounds the memory
CHUNK_ATOMS = 20_000


class ErrorSums:
    """Running RMSE, MAE and largest absolute value of errors that arrive in pieces."""

    def __init__(self) -> None:
        self.count, self.squares, self.absolutes, self.largest = 0, 0.0, 0.0, 0.0

    def add(self, errors: np.ndarray) -> None:
        """Add errors of any shape."""
        errors = np.abs(np.asarray(errors, dtype=float)).ravel()
        self.count += errors.size
        self.squares += float(errors @ errors)
        self.absolutes += float(errors.sum())
        self.largest = max(self.largest, float(errors.max(initial=0.0)))

    def summary(self) -> dict[str, float]:
        """``rmse``, ``mae``, ``max`` and the number ``n`` of values; empty if there were none."""
        if not self.count:
            return {}
        return {
            "rmse": math.sqrt(self.squares / self.count),
            "mae": self.absolutes / self.count,
            "max": self.largest,
            "n": self.count,
        }


class GradedErrors:
    """Grades and force errors of atoms that arrive in pieces; the report keeps a thinned list for calibration."""

    KEPT, TOP = 400, 100

    def __init__(self) -> None:
        self.pairs: list[np.ndarray] = []

    def add(self, gamma: np.ndarray, forces: np.ndarray, labels: np.ndarray) -> None:
        """Atoms of one configuration: gamma [n], forces and their labels [n, 3]."""
        self.pairs.append(np.stack([gamma, np.linalg.norm(np.asarray(forces) - labels, axis=1)]))

    def summary(self) -> dict:
        """``gamma`` and ``error`` (eV/A), ascending in gamma: evenly spaced in rank, the largest grades always."""
        if not self.pairs:
            return {}
        pairs = np.concatenate(self.pairs, axis=1)
        pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
        n = pairs.shape[1]
        top = np.arange(max(0, n - self.TOP), n)
        kept = np.unique(np.concatenate([np.linspace(0, n - 1, min(n, self.KEPT)).astype(int), top]))
        gamma, error = ([float(f"{x:.5g}") for x in row] for row in pairs[:, kept])
        return {"gamma": gamma, "error": error, "n": n}


def chunks(frames: Iterable, limit: int = CHUNK_ATOMS) -> Iterator[list]:
    """Lists of consecutive configurations with at most ``limit`` atoms together (a larger one comes alone)."""
    chunk, atoms = [], 0
    for frame in frames:
        if chunk and atoms + len(frame) > limit:
            yield chunk
            chunk, atoms = [], 0
        chunk.append(frame)
        atoms += len(frame)
    if chunk:
        yield chunk


def compare(predicted, labels, n_atoms: int, sums: dict[str, ErrorSums]) -> dict[str, float]:
    """Add the errors of one configuration to ``sums``; returns its own (eV/atom, eV/A, eV/A^3)."""
    errors = {}
    for name, ours, theirs in zip(("energy", "forces", "stress"), predicted, labels):
        if theirs is None:
            continue
        difference = (np.asarray(ours) - np.asarray(theirs)) / (n_atoms if name == "energy" else 1)
        sums[name].add(difference)
        errors[name] = float(np.max(np.abs(difference)))
    return errors


@click.command()
@click.argument("potential", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Extended XYZ with the computed labels.")
@click.option("--asi", type=click.Path(path_type=Path), help="Active set: adds gamma for each atom.")
@click.option("--ensemble", type=click.Path(path_type=Path), help="Ensemble file: adds dE and dF of each structure.")
@click.option("--report", type=click.Path(path_type=Path), help="JSON with the errors against the labels.")
@click.option("--energy-key", help="Name of the energy labels in the file (default: ASE's usual place).")
@click.option("--forces-key", help="Name of the force labels in the file.")
@click.option("--stress-key", help="Name of the stress labels in the file.")
@click.option("--worst", default=10, show_default=True, help="Number of worst structures in the report.")
def command(potential, data, output, asi, ensemble, report, energy_key, forces_key, stress_key, worst) -> None:
    """Evaluate POTENTIAL on DATA... and compare with the labels, if there are any.

    In OUTPUT the computed energy, forces and stress are the labels; the labels of DATA stand beside them as
    `reference_energy`, `reference_forces` and `reference_stress`.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    from aiida_aceal.ace import AceError, AceModel, AcePotential
    from aiida_aceal.jobs.ensemble_scores import EnsembleScores
    from aiida_aceal.worker.files import (
        check_elements,
        configuration_hash,
        get_labels,
        iter_configurations,
        write_configurations,
    )

    started = time.perf_counter()
    pot = AcePotential.read(potential)
    model = AceModel(pot)
    if asi is not None:
        from aiida_aceal.uncertainty import ActiveSet
        from aiida_aceal.uncertainty.emptiness import mark

        model.active_set = ActiveSet.load(asi, potential=pot)
    free = pot.reference_energies
    scores = EnsembleScores(ensemble) if ensemble is not None else None
    sums = {name: ErrorSums() for name in ("energy", "forces", "stress")}
    gamma_max: list[float] = []
    n_emptier = 0
    graded = GradedErrors()
    listed: list[dict] = []
    counts = {"n_structures": 0, "n_atoms": 0}

    def evaluated() -> Iterator:
        nonlocal n_emptier
        for path in data:
            for chunk in chunks(iter_configurations(path, energy_key, forces_key, stress_key)):
                check_elements(chunk, pot.elements, str(path))
                results = model.evaluate_batch(chunk, forces=True, stress=True, gamma=asi is not None)
                if scores is not None:
                    scores.add(chunk)
                for atoms, result in zip(chunk, results):
                    labels = get_labels(atoms)
                    energy = result.energy + sum(free.get(symbol, 0.0) for symbol in atoms.get_chemical_symbols())
                    stress = result.stress if atoms.cell.rank == 3 else None
                    if not np.isfinite(energy) or not np.all(np.isfinite(result.forces)):
                        raise AceError(
                            f"{path}, structure {counts['n_structures']}: energy or forces are not finite; "
                            "look for atoms on top of each other or a broken potential"
                        )
                    used = (labels[0], labels[1], labels[2] if stress is not None else None)
                    errors = compare((energy, result.forces, stress), used, len(atoms), sums)
                    entry = {"index": counts["n_structures"], "hash": configuration_hash(atoms), "errors": errors}
                    if asi is not None:
                        atoms.arrays["gamma"] = np.asarray(result.gamma, dtype=float)
                        atoms.info["gamma_max"] = entry["gamma_max"] = float(np.max(result.gamma))
                        n_emptier += mark(atoms.info, result.emptiness)
                        gamma_max.append(entry["gamma_max"])
                        if labels[1] is not None:
                            graded.add(atoms.arrays["gamma"], result.forces, labels[1])
                    entry.update({key: atoms.info[key] for key in ("dE", "dF") if scores is not None})
                    listed.append(entry)
                    listed.sort(key=lambda e: (-e["errors"].get("forces", e["errors"].get("energy", 0.0)), e["index"]))
                    del listed[worst:]
                    for name, value in zip(("energy", "forces", "stress"), labels):
                        if value is not None:
                            (atoms.arrays if name == "forces" else atoms.info)[f"reference_{name}"] = value
                    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=result.forces)
                    if stress is not None:
                        atoms.calc.results["stress"] = result.stress
                    counts["n_structures"] += 1
                    counts["n_atoms"] += len(atoms)
                    yield atoms
                print(f"{counts['n_structures']} structures, {counts['n_atoms']} atoms", file=sys.stderr, flush=True)

    if output is not None:
        write_configurations(output, evaluated())
    else:
        for _ in evaluated():
            pass
    summary = {
        **counts,
        "units": {"energy": "eV/atom", "forces": "eV/A", "stress": "eV/A^3"},
        **{name: one.summary() for name, one in sums.items()},
        "worst": listed,
        "seconds": time.perf_counter() - started,
    }
    if scores is not None:
        summary["ensemble"] = scores.report()
    if gamma_max:
        q = np.quantile(gamma_max, [0.5, 0.9, 0.99])
        summary["gamma"] = {"max": max(gamma_max), "median": q[0], "q90": q[1], "q99": q[2]}
        summary["gamma"]["emptiness"] = {"n_structures": n_emptier, "note": model.active_set.emptiness_note}
        summary["graded_errors"] = graded.summary()
        summary["gamma"]["n_above_1"] = int(np.sum(np.array(gamma_max) > 1.0 + 1e-6))  # beyond rounding
    if report is not None:
        write_json(report, summary)
    for name, unit in summary["units"].items():
        if summary[name]:
            numbers = ", ".join(f"{key} {summary[name][key]:.6g}" for key in ("rmse", "mae", "max"))
            click.echo(f"{name:8s} {numbers} {unit}")
