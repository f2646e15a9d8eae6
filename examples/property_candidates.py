"""Structures of properties as candidates: the loop with them against the loop without them, at equal numbers of labels.

Copper, labels by EMT, five seeds. Both ways start from the same eight rattled and strained cells and make the same
three generations of six labels each, chosen by D-optimality: from heated dynamics alone, or from these and the
structures behind elastic constants, vacancy and surfaces (what the explorer ``aceal.explore.properties`` does in a
campaign). In the end: the properties beside those of EMT, with the spread of an ensemble of eight; errors on heated
dynamics of EMT itself.

    python property_candidates.py --output candidates        # a few minutes
    python property_candidates.py --figure candidates        # the figure again, from candidates/numbers.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin

from aiida_aceal.ace import AceCalculator, AceModel, build_potential
from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.exploration import generate
from aiida_aceal.exploration.objective import StructureGrader
from aiida_aceal.exploration.pool import PoolSearch
from aiida_aceal.fitting import fit_linear
from aiida_aceal.fitting.ensemble_fit import fit_ensemble
from aiida_aceal.properties import Engine, Relaxer, intervals_that_hold, is_principal, property_structures
from aiida_aceal.properties.candidates import PropertyPoolSettings, property_pool
from aiida_aceal.properties.compare import has_ratio
from aiida_aceal.properties.settings import NumbersSettings, PropertiesSettings
from aiida_aceal.properties.validation import unique, validation_numbers
from aiida_aceal.selection import select
from aiida_aceal.uncertainty import build_active_set

LATTICE = 3.5901  # A, EMT's own at 0 K
CELL = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}
BASIS = {"elements": ["Cu"], "cutoff": 5.5, "nradmax_by_orders": [6, 4, 2], "lmax_by_orders": [0, 3, 1]}
PROPERTIES = ("elastic", "vacancy", "surface")
SECTIONS = {
    "properties": list(PROPERTIES), "defects": {"cell_length": 7.0},
    "surface": {"thickness": 8.0, "vacuum": 8.0, "fault_points": 3},
}  # fmt: skip
GENERATIONS, COUNT, MEMBERS = 3, 6, 8
WINDOW = (1.5, 50.0)
_ARMS = ((-0.15, False, "#4c78a8", "dynamics alone"), (0.15, True, "#e45756", "and structures of properties"))


def labelled(frames: list[Atoms]) -> list[Atoms]:
    """With labels of EMT."""
    return Engine(EMT, "emt").label(frames)


def heated(calculator: Any, steps: int, every: int, seed: int, watch: Any = None) -> list[Atoms]:
    """Frames of 32 atoms heated from 300 to 1200 K in steps of 4 fs, until ``watch`` (grade -> bool) says stop."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", CELL["a"], cubic=True) * 2
    atoms.calc = calculator
    speeds = np.sqrt(2 * 300 * units.kB / atoms.get_masses())[:, None]
    atoms.set_velocities(rng.normal(size=(len(atoms), 3)) * speeds)
    run = Langevin(atoms, 4.0 * units.fs, temperature_K=300, friction=0.02 / units.fs, rng=rng, fixcm=False)
    frames = []
    for start in range(0, steps, every):
        run.set_temperature(temperature_K=300 + 900 * start / steps)
        run.run(every)
        frame = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frames.append(frame)
        if watch is not None and watch(frame):
            break
    return frames


def explored(model: AceModel, active_set: Any, seed: int) -> list[Atoms]:
    """Frames of two runs with their grades; each run ends above the window."""
    grader, found = StructureGrader(model, active_set), []

    def watch(frame: Atoms) -> bool:
        frame.arrays["gamma"] = grader.gamma(frame)
        frame.info["gamma_max"] = float(frame.arrays["gamma"].max())
        return frame.info["gamma_max"] > WINDOW[1]

    for run in range(2):
        frames = heated(AceCalculator(model), 300, 10, 1000 * seed + run, watch)
        found += [frame for frame in frames if frame.info["gamma_max"] <= WINDOW[1]]
    return found


def choose(frames: list[Atoms], model: AceModel, active_set: Any, seed: int) -> list[Atoms]:
    """Of those above the window's lower limit by D-optimality; what that leaves open is filled by falling grade."""
    frames = sorted(frames, key=lambda atoms: -atoms.info["gamma_max"])
    pool = [atoms for atoms in frames if atoms.info["gamma_max"] > WINDOW[0]]
    chosen: list[int] = []
    if pool:
        given = {"count": COUNT, "model": model, "active_set": active_set, "seed": seed}
        chosen = list(select("d_optimal", pool, **given).indices)
    rest = [k for k in range(len(frames)) if k not in chosen]
    return [frames[k] for k in [*chosen, *rest][:COUNT]]


def with_structures(model: AceModel, active_set: Any, tests: list[Atoms]) -> list[Atoms]:
    """Structures of properties that extrapolate, made at the potential's own lattice; no test among them."""
    # surfaces are far from a crystal: they are candidates whatever their grade
    settings = PropertyPoolSettings(**SECTIONS, gamma_lo=WINDOW[0], gamma_hi=1e6)
    engine = Engine(lambda: AceCalculator(model.potential), "ace", shared=True)
    frames, _ = property_pool(settings, [bulk("Cu", a=LATTICE)], Relaxer(engine))
    known = {configuration_hash(atoms) for atoms in tests}
    frames = [atoms for atoms in frames if configuration_hash(atoms) not in known]
    return list(PoolSearch(model, active_set, settings, tests)(frames))


def study(seed: int, with_properties: bool, test: list[Atoms]) -> dict[str, Any]:
    """One run of the loop and what came of it."""
    entries = [
        {"kind": "rattled", "structure": CELL, "supercell": [2, 2, 2], "count": 4, "amplitude": 0.06},
        {"kind": "strained", "structure": CELL, "supercell": [2, 2, 2], "count": 4, "strain": 0.03, "rattle": 0.05},
    ]
    train = labelled(generate(entries, seed))
    basis, learnt, tests = build_potential(BASIS), [], fixed_structures()
    for generation in range(GENERATIONS + 1):
        potential = fit_linear(basis, train).potential
        model = AceModel(potential)
        active_set = build_active_set(model, train)
        if generation == GENERATIONS:
            break
        frames = explored(model, active_set, 10 * seed + generation)
        if with_properties:
            frames += with_structures(model, active_set, tests)
        chosen = choose(frames, model, active_set, seed)
        learnt += [atoms.info.get("property", "dynamics") for atoms in chosen]
        train += labelled([Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc) for a in chosen])
    rows = compared(potential, [one for one in fit_ensemble(potential, train, None, {"members": MEMBERS}).potentials])
    errors: dict[str, dict[str, float]] = {name: {} for name in PROPERTIES}
    for row in rows:
        if is_principal(row) and has_ratio(row):
            errors[row["property"]][row["quantity"]] = round(row["relative_percent"], 4)
    squares = []
    for frame in test:
        residual = model.evaluate(frame).forces - frame.get_forces()
        squares.append((residual**2).mean())
    return {
        "seed": seed, "with_properties": with_properties, "n_labelled": len(train),
        "test_forces_rmse_meV_A": round(1e3 * float(np.sqrt(np.mean(squares))), 3),
        "learnt": {kind: learnt.count(kind) for kind in sorted(set(learnt))},
        "errors_percent": errors, "intervals": intervals_that_hold(rows),
    }  # fmt: skip


def fixed_structures() -> list[Atoms]:
    """Structures that the properties will be measured on, as far as no potential moves them."""
    from aiida_aceal.properties import common_structures
    from aiida_aceal.properties.settings import ValidateSettings

    return common_structures(ValidateSettings(**SECTIONS, lattice="given"), [bulk("Cu", a=LATTICE)])


def compared(potential: Any, members: list[Any]) -> list[dict[str, Any]]:
    """Rows of properties beside those of EMT, from the same structures at EMT's lattice."""
    engine = Engine(lambda: AceCalculator(potential), "ace", shared=True)
    settings = PropertiesSettings(**SECTIONS, relax_start=False)
    frames, errors = property_structures(settings, [bulk("Cu", a=LATTICE)], Relaxer(engine))
    bare = unique(frames)
    engines = [Engine(lambda p=p: AceCalculator(p), "member", shared=True) for p in members]
    numbers = NumbersSettings(**SECTIONS, errors=errors)
    return validation_numbers(numbers, frames, labelled(bare), engine.label(bare), members=engines)["rows"]


def mean_error(result: dict[str, Any], name: str) -> float:
    """Mean of the absolute relative errors of a property, per cent; without the intrinsic fault, which is near zero."""
    errors = result["errors_percent"][name]
    return float(np.mean([abs(value) for key, value in errors.items() if "intrinsic" not in key]))


def figure(results: list[dict[str, Any]], path: Path) -> None:
    """Errors both ways: properties, and forces on the test set; dots are seeds, bars their means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.6), width_ratios=[3, 1])
    for axes, part in ((left, PROPERTIES), (right, ("forces",))):
        for shift, arm, colour, text in _ARMS:
            own = [one for one in results if one["with_properties"] is arm]
            for k, name in enumerate(part):
                values = [mean_error(r, name) if name != "forces" else r["test_forces_rmse_meV_A"] for r in own]
                axes.plot([k + shift] * len(values), values, "o", color=colour, alpha=0.5, ms=4)
                bar = [k + shift - 0.1, k + shift + 0.1]
                axes.plot(bar, [np.mean(values)] * 2, color=colour, lw=2.5, label=None if k else text)
        axes.set_xticks(range(len(part)), part)
        axes.set_xlim(-0.5, len(part) - 0.5)
    left.set_yscale("log")
    left.set_ylabel("mean relative error, %")
    right.set_ylabel("RMSE on heated dynamics, meV/Å")
    right.set_ylim(0, 7)
    left.legend(frameon=False, fontsize=8)
    fig.tight_layout()
    fig.savefig(path, dpi=110)


def main() -> None:
    """Run, draw, and print means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("property_candidates"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--figure", type=Path, help="Draw the figure from the numbers of this folder; run nothing.")
    given = parser.parse_args()
    folder = given.figure or given.output
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "numbers.json"
    if given.figure is None:
        test = labelled(heated(EMT(), 300, 15, 99))
        results = json.loads(path.read_text()) if path.is_file() else []
        results = [one for one in results if one["seed"] not in given.seeds]
        for seed in given.seeds:
            for arm in (False, True):
                results.append(study(seed, arm, test))
                print(json.dumps(results[-1]), flush=True)
                path.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(path.read_text())
    figure(results, folder / "property_candidates.png")
    for name in (*PROPERTIES, "forces"):
        for _, arm, _, text in _ARMS:
            own = [one for one in results if one["with_properties"] is arm]
            values = [one["test_forces_rmse_meV_A"] if name == "forces" else mean_error(one, name) for one in own]
            print(f"{name:10s} {text:30s} {np.mean(values):8.3f}  ({np.min(values):.3f} to {np.max(values):.3f})")
    for _, arm, _, text in _ARMS:
        own = [one["intervals"] for one in results if one["with_properties"] is arm]
        print(f"intervals  {text:30s} {sum(k['inside'] for k in own)} of {sum(k['numbers'] for k in own)} hold")


if __name__ == "__main__":
    main()
