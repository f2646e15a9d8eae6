"""A local environment out of 4000 copper atoms at 1400 K (Lysogorskiy et al., PRM 7, 043801, Sec. V.D and Fig. 10).

A potential is trained on small EMT-labelled cells of solid copper. In molecular dynamics of 4000 atoms at 1400 K some
atoms leave what it knows; about the worst one a box small enough for DFT is cut and made periodic, the atoms within the
cutoff are held, and the others are relaxed until they are unremarkable. The picture shows the grades of the snapshot,
of the cut with free surfaces, and of the relaxed periodic cell.

    python cu_local_environment.py --output cu_local        # a few minutes

writes ``cu_local.png``, ``cu_local.extxyz`` (the cell) and ``cu_local.json`` (the numbers).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

from aiida_aceal.ace import AceCalculator, AceModel, AcePotential, build_potential
from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.exploration import generate
from aiida_aceal.exploration.extract import ExtractSettings, extract_environments
from aiida_aceal.exploration.objective import StructureGrader
from aiida_aceal.fitting import fit_linear
from aiida_aceal.uncertainty import build_active_set

LATTICE = 3.70  # A, EMT copper, a little expanded by heat
CELL = {"bulk": "Cu", "crystal": "fcc", "a": LATTICE, "cubic": True}


def training_set(seed: int) -> list[Atoms]:
    """Small cells of solid copper, labelled by EMT: cold to warm, strained, with vacancies."""
    structures = generate(
        [
            {"kind": "rattled", "structure": CELL, "supercell": 3, "count": 12, "amplitude": [0.05, 0.15]},
            {"kind": "strained", "structure": CELL, "supercell": 2, "count": 25, "strain": 0.06, "rattle": 0.1},
            {"kind": "volume_scan", "structure": CELL, "supercell": 2, "count": 9, "volume": [0.8, 1.3], "rattle": 0.1},
            {"kind": "vacancy", "structure": CELL, "supercell": 2, "count": 5, "rattle": 0.1},
        ],
        seed,
    )
    for atoms in structures:
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return structures


def train(seed: int, cutoff: float) -> tuple[AcePotential, AceModel, object]:
    """Fitted potential, its model and its active set."""
    structures = training_set(seed)
    basis = build_potential(
        {"elements": ["Cu"], "cutoff": cutoff, "nradmax_by_orders": [10, 5, 3, 2], "lmax_by_orders": [0, 3, 2, 1]}
    )
    fitted = fit_linear(basis, structures, {"repulsion": "auto"})
    model = AceModel(fitted.potential)
    active_set = build_active_set(model, structures)
    return fitted.potential, model, active_set


def hot_copper(model: AceModel, active_set: object, repeat: int, steps: int, seed: int, say=print) -> Atoms:
    """Snapshot of 4 repeat^3 atoms at 1400 K whose worst atom is most unknown, of those every 25 steps."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", LATTICE, cubic=True).repeat(repeat)
    atoms.calc = AceCalculator(model)
    # twice the temperature: half of it goes into the potential energy of the ideal lattice
    mass = atoms.get_masses()[:, None]
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * np.sqrt(mass * units.kB * 2 * 1400))
    run = Langevin(atoms, 2.0 * units.fs, temperature_K=1400, friction=0.02 / units.fs, rng=rng, fixcm=False)
    grader = StructureGrader(model, active_set)
    best: tuple[float, Atoms] | None = None
    for start in range(0, steps, 25):
        run.run(25)
        gamma = grader.gamma(atoms)
        say(f"step {start + 25}: {atoms.get_temperature():.0f} K, largest gamma {gamma.max():.2f}")
        if start + 25 > steps // 2 and (best is None or gamma.max() > best[0]):
            snapshot = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
            snapshot.arrays["gamma"] = gamma
            snapshot.info["source"] = f"1400 K, step {start + 25}"
            best = (float(gamma.max()), snapshot)
    assert best is not None
    return best[1]


def draw(path: Path, panels: list[tuple[str, Atoms, int, float]], gamma_lo: float, largest: float) -> None:
    """Structures side by side about their centre (title, structure, centre, radius held), coloured by their grade."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import TwoSlopeNorm

    norm = TwoSlopeNorm(vcenter=gamma_lo, vmin=0.0, vmax=max(largest, 1.01 * gamma_lo))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 5.6), layout="constrained")
    for axis, (title, atoms, centre, radius) in zip(np.atleast_1d(axes), panels):
        gamma = atoms.arrays["gamma"]
        where = atoms.get_distances(centre, range(len(atoms)), mic=bool(atoms.pbc.any()), vector=True)
        half = 1.06 * np.abs(where[:, :2]).max()
        order = np.argsort(gamma)  # remarkable atoms in front
        size = (340.0 / half) ** 2 * 0.12
        dots = axis.scatter(
            *where[order, :2].T, c=gamma[order], s=size, cmap="coolwarm", norm=norm, edgecolor="k", linewidth=0.3
        )
        axis.add_patch(plt.Circle((0, 0), radius, fill=False, linestyle="--", color="0.3"))
        above = int((gamma > gamma_lo).sum())
        axis.set_title(f"{title}\n{len(atoms)} atoms, {above} above {gamma_lo:g}", fontsize=11)
        axis.set(aspect="equal", xlim=(-half, half), ylim=(-half, half))
        axis.set_axis_off()
    figure.colorbar(dots, ax=axes, label=r"extrapolation grade $\gamma$", shrink=0.8, extend="max")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict:
    """Run the study; returns the report of the cut."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="cu_local", help="first part of the names of the files written")
    parser.add_argument("--repeat", type=int, default=10, help="fcc cells along each axis (10: 4000 atoms)")
    parser.add_argument("--steps", type=int, default=600, help="steps of 2 fs")
    parser.add_argument("--cutoff", type=float, default=5.0, help="of the potential (A)")
    parser.add_argument("--max-atoms", type=int, default=120, help="label budget")
    parser.add_argument("--gamma-lo", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    _, model, active_set = train(given.seed, given.cutoff)
    big = hot_copper(model, active_set, given.repeat, given.steps, given.seed, say)
    settings = ExtractSettings(gamma_lo=given.gamma_lo, max_atoms=given.max_atoms, max_cuts=1)
    found = extract_environments(model, active_set, big, settings, say)
    report = found.reports[0]
    if not found.cells:
        raise SystemExit(report["reason"])
    cell = found.cells[0]

    # the same atoms before they were relaxed, without the periodic boundaries
    origin, centre = cell.arrays["origin"], cell.info["centre"]
    where = big.get_distances(int(origin[centre]), origin, mic=True, vector=True)
    free = Atoms(numbers=cell.numbers, positions=where)
    free.arrays["gamma"] = StructureGrader(model, active_set).gamma(free)
    report["gamma_free_surface"] = float(free.arrays["gamma"].max())
    report["n_big"] = len(big)
    radius, largest = model.cutoff, float(big.arrays["gamma"].max())
    others = report["gamma_others_after"]
    panels = [
        (f"snapshot at 1400 K: largest {largest:.1f}", big, int(origin[centre]), radius),
        (f"cut with free surfaces: largest {report['gamma_free_surface']:.0f}", free, centre, radius),
        (f"periodic and relaxed: centre {report['gamma_centre']:.1f}, others {others:.2f}", cell, centre, radius),
    ]
    draw(Path(f"{given.output}.png"), panels, given.gamma_lo, largest)
    write_configurations(f"{given.output}.extxyz", [cell])
    Path(f"{given.output}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    main()
