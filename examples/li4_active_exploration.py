"""Active exploration of Li4 (Lysogorskiy et al., PRM 7, 043801, Sec. V.C and Fig. 9), with an embedded calculator.

The potential first knows Li2 and Li3 only. Three ways to add Li4 clusters are compared at equal size:

- *active exploration*: a fourth atom is put beside a Li3 of the training set, and the cluster is changed by Nelder-Mead
  (or by gradients) until its grade is large; the active set grows with each find, no refit in between. It never
  sees a pool of Li4 clusters. As in a generation of the loop, some more are found than are labelled (``--surplus``),
  and MaxVol chooses among the finds;
- *MaxVol*: the D-optimal structures of a large pool of Li4 clusters;
- *random*: drawn from that pool.

Errors are those of the energies and forces of a separate test set. Labels: GFN1-xTB by tblite (``pip install tblite``).

    python li4_active_exploration.py --output li4        # five seeds, some minutes

writes ``li4.png`` and ``li4.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from threadpoolctl import threadpool_limits

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.exploration import generate
from aiida_aceal.exploration.active import ActiveSettings, explore_active
from aiida_aceal.exploration.distances import minimum_distances, too_short
from aiida_aceal.exploration.generators import MAX_STRUCTURES
from aiida_aceal.fitting import fit_linear
from aiida_aceal.uncertainty import ActiveSet, build_active_set, update_active_set

#: thresholds of the active exploration, one after the other, as nothing is left above the one before; each search
#: ends at three times the threshold. The widest steps come first, as MaxVol would take them
STAGES = (1000.0, 300.0, 100.0, 30.0, 10.0, 4.0, 2.0, 1.5, 1.2, 1.05, 1.01)
SHORTEST, BOND = 1.7, 4.6  # A: every cluster, of any origin, keeps these limits
METHODS = ("active", "maxvol", "random")
#: dimers and trimers leave many directions unseen: a hundredth of the floor keeps the inverse well-conditioned
RANK = 1e-6


def clusters(size: int, count: int, seed: int) -> list[Atoms]:
    """Random connected clusters, almost even in the space of configurations."""
    entry = {"kind": "clusters", "composition": {"Li": size}, "minimum_distance": SHORTEST}
    entry |= {"bond": BOND / 2.56, "radius": 0.9 + 0.78 * size}
    parts = [min(MAX_STRUCTURES, count - done) for done in range(0, count, MAX_STRUCTURES)]
    return generate([{**entry, "count": part} for part in parts], seed)


def label(structures: Sequence[Atoms]) -> list[Atoms]:
    """Copies with energies and forces of GFN1-xTB."""
    from tblite.ase import TBLite

    found = []
    with threadpool_limits(limits=1):  # four atoms: threads only cost
        for atoms in structures:
            atoms = Atoms(atoms.symbols, atoms.positions)
            atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
            labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            atoms.calc = SinglePointCalculator(atoms, **labels)
            found.append(atoms)
    return found


def grown(structures: Sequence[Atoms], count: int, rng: np.random.Generator) -> list[Atoms]:
    """Li3 of ``structures`` with a fourth atom put beside them at random."""
    triples = [atoms for atoms in structures if len(atoms) == 3]
    limits = minimum_distances(["Li"], SHORTEST)
    found: list[Atoms] = []
    while len(found) < count:
        base = triples[int(rng.integers(len(triples)))]
        shift = rng.normal(size=3)
        shift *= rng.uniform(SHORTEST, BOND) / np.linalg.norm(shift)
        atoms = Atoms("Li4", np.vstack([base.positions, base.positions[int(rng.integers(3))] + shift]))
        if not too_short(atoms, limits):
            found.append(atoms)
    return found


def errors(potential: AcePotential, train: Sequence[Atoms], test: Sequence[Atoms], atom: float) -> dict[str, float]:
    """Fit, and RMSE on the test set: energy (meV/atom) and forces (meV/A).

    ``atom``: energy of the free atom (eV). Least squares over Li2 and Li3 cannot tell it from their binding; a wrong
    one leaves the potential of all methods with an error that hides what they chose.
    """
    fitted = fit_linear(potential, train, {"reference_energies": {"Li": atom}}).potential
    model = AceModel(fitted)
    free = fitted.reference_energies.get("Li", 0.0)
    results = model.evaluate_batch(list(test), stress=False)
    energy = [(r.energy + free * len(a) - a.get_potential_energy()) / len(a) for r, a in zip(results, test)]
    forces = np.concatenate([(r.forces - a.get_forces()).ravel() for r, a in zip(results, test)])
    return {
        "energy": 1000 * float(np.sqrt(np.mean(np.square(energy)))),
        "forces": 1000 * float(np.sqrt(np.mean(forces**2))),
        "energy_max": 1000 * float(np.abs(energy).max()),
        "forces_max": 1000 * float(np.abs(forces).max()),
    }


def d_optimal(model: AceModel, active_set: ActiveSet, pool: Sequence[Atoms], count: int) -> list[int]:
    """MaxVol over active set and pool: the structures whose environments enter, those with most of them first.

    If fewer than ``count`` enter, MaxVol goes on with the rest of the pool.
    """
    chosen: list[int] = []
    base = 1 + max(int(rows[:, 0].max()) for rows in active_set.environments.values())
    while len(chosen) < count:
        rest = np.setdiff1d(np.arange(len(pool)), chosen)
        grown_set = update_active_set(
            active_set, model, [pool[k] for k in rest], structure_offset=base, rank_tolerance=RANK
        )
        labels = np.concatenate([rows[:, 0] for rows in grown_set.environments.values()])
        entered, amount = np.unique(labels[labels >= base] - base, return_counts=True)
        if not len(entered):
            break
        chosen += rest[entered[np.argsort(-amount, kind="stable")]].tolist()
    return chosen[:count]


def explored(
    potential: AcePotential, initial: Sequence[Atoms], count: int, method: str, seed: int, workers: int
) -> tuple[list[Atoms], list[float]]:
    """Up to ``count`` Li4 clusters by active exploration from Li3, in the order found, and their grades.

    When nothing is left above gamma_lo, it is lowered (:data:`STAGES`): the water study of PRM 7, 043801 does the same.
    """
    active_set = build_active_set(AceModel(potential), list(initial), rank_tolerance=RANK)
    found: list[Atoms] = []
    grades: list[float] = []
    for number, gamma_lo in enumerate(STAGES):
        if len(found) == count:
            break
        settings = ActiveSettings(
            count=count - len(found),
            attempts=4 * count,
            gamma_lo=gamma_lo,
            patience=10,
            batch=max(2, workers),
            workers=workers,
            method=method,
            target_gamma=3 * gamma_lo,
            target_tolerance=None,
            starts=2,
            max_evaluations=250,
            shake=0.2,
            minimum_distance=SHORTEST,
            connected=BOND,
        )
        starts = grown(initial, 200, np.random.default_rng([seed, number]))
        result = explore_active(potential, active_set, starts, settings, seed=100 * seed + number)
        active_set = result.active_set
        found += result.candidates
        grades += result.report["gammas"]
    return found, grades


def main(arguments: list[str] | None = None) -> dict:
    """Run the study; returns the curves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="li4", help="first part of the names of the files written")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40, 80, 120, 160])
    parser.add_argument("--pool", type=int, default=3000, help="Li4 clusters that MaxVol and random choose from")
    parser.add_argument("--test", type=int, default=1000, help="Li4 clusters of the test set")
    parser.add_argument("--surplus", type=int, default=40, help="finds beyond the number labelled, to choose from")
    parser.add_argument("--initial", type=int, default=600, help="Li3 clusters to begin with")
    parser.add_argument("--method", default="nelder-mead", choices=["nelder-mead", "gradient"])
    parser.add_argument("--workers", type=int, default=1, help="processes of the active exploration")
    given = parser.parse_args(arguments)
    sizes = sorted(given.sizes)
    potential = build_potential(
        {
            "elements": ["Li"],
            "cutoff": 7.0,
            "nradmax_by_orders": [15, 4, 3, 2, 2, 1],
            "lmax_by_orders": [0, 4, 3, 2, 1, 0],
        }
    )
    test = label(clusters(4, given.test, seed=10_000))
    atom = label([Atoms("Li")])[0].get_potential_energy()
    curves: dict[str, list] = {method: [] for method in METHODS}
    start: list[dict[str, float]] = []
    all_grades = []
    for seed in range(given.seeds):
        dimers = generate([{"kind": "dimers", "pairs": ["Li"], "count": 51, "distance": [SHORTEST, 7.0]}], seed)
        initial = label([*dimers, *clusters(3, given.initial, seed=1000 + seed)])
        pool = clusters(4, given.pool, seed=2000 + seed)
        start.append(errors(potential, initial, test, atom))
        model = AceModel(potential)
        finds, grades = explored(potential, initial, sizes[-1] + given.surplus, given.method, seed, given.workers)
        all_grades.append(grades)
        active_set = build_active_set(model, initial, rank_tolerance=RANK)
        order = np.random.default_rng(seed).permutation(len(pool))
        best = d_optimal(model, active_set, pool, sizes[-1])
        found_labels = label(finds)
        maxvol_labels, random_labels = (label([pool[k] for k in which[: sizes[-1]]]) for which in (best, order))
        for size in sizes:
            kept = d_optimal(model, active_set, finds[: size + given.surplus], size)
            chosen = {
                "active": [found_labels[k] for k in kept],
                "maxvol": maxvol_labels[:size],
                "random": random_labels[:size],
            }
            for method, structures in chosen.items():
                result = errors(potential, [*initial, *structures], test, atom)
                curves[method].append({"seed": seed, "size": size, "labelled": len(structures), **result})
            line = ", ".join(f"{m} {curves[m][-1]['energy']:.1f} {curves[m][-1]['forces']:.0f}" for m in METHODS)
            print(f"seed {seed}, {size} Li4: {line} (meV/atom, meV/A)", file=sys.stderr, flush=True)
    report = {
        "n_functions": potential.n_functions["Li"],
        "sizes": sizes,
        "start": start,
        "curves": curves,
        "grades": all_grades,
        "summary": {m: {str(s): summary(curves[m], s) for s in sizes} for m in METHODS},
    }
    Path(f"{given.output}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    draw(Path(f"{given.output}.png"), report)
    print(json.dumps(report["summary"], indent=1))
    return report


def summary(curve: list[dict], size: int) -> dict[str, float]:
    """Means over the seeds at one size."""
    rows = [row for row in curve if row["size"] == size]
    return {
        name: float(np.mean([row[name] for row in rows])) for name in ("energy", "forces", "energy_max", "forces_max")
    }


def draw(path: Path, report: dict) -> None:
    """Learning curves (mean and range of the seeds) and the grades of the finds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    names = {"active": "active exploration", "maxvol": "MaxVol on the pool", "random": "random from the pool"}
    for axis, quantity, unit in ((axes[0], "energy", "meV/atom"), (axes[1], "forces", "meV/A")):
        for method, marker in zip(METHODS, "os^"):
            rows = report["curves"][method]
            values = np.array([[r[quantity] for r in rows if r["size"] == s] for s in report["sizes"]])
            axis.plot(report["sizes"], values.mean(axis=1), f"-{marker}", label=names[method])
            axis.fill_between(report["sizes"], values.min(axis=1), values.max(axis=1), alpha=0.2)
        axis.set(xscale="log", yscale="log", xlabel="Li4 clusters added", ylabel=f"RMSE of {quantity} ({unit})")
        axis.set_xticks(report["sizes"], [str(size) for size in report["sizes"]])
        axis.set_xticks([], minor=True)
    axes[0].legend()
    for grades in report["grades"]:
        axes[2].semilogy(np.arange(1, len(grades) + 1), grades, ".", alpha=0.6)
    axes[2].axhline(1, color="0.5", lw=1)
    axes[2].set(xlabel="find of the active exploration", ylabel=r"its grade $\gamma$")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
