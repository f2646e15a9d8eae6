"""Own overhead of aceal-lmp per MD step: neighbour hand-over, callback, folding of forces, publishing of gamma.

    python tests/benchmarks/bench_lmp.py [POTENTIAL.yaml ACTIVE_SET.asi] [--sizes 3 5 10] [--steps 20]

Runs fcc Cu with thermal displacements under NVE. The time inside the engine (`AceModel.compute`) is measured in the
run and taken off the time inside the callback; what remains, and the part of the step that LAMMPS does, are printed.
Without files a small basis with random coefficients is used.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import bulk

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.lammps.callback import FIX_EXTERNAL
from aiida_aceal.lammps.control import Interpreter
from aiida_aceal.lammps.deck import write_data
from aiida_aceal.lammps.library import open_lammps
from aiida_aceal.lammps.pace import PaceCommands
from aiida_aceal.uncertainty import from_rows

SCRIPT = """units metal
read_data {data}
pair_style pace/extrapolation
pair_coeff * * {yaml} {asi} Cu
neighbor 1.0 bin
timestep 0.001
fix md all nve
{gamma}
thermo 0
"""


def make_files(folder: Path) -> tuple[Path, Path]:
    """An unfitted basis with small random coefficients, and an active set of random cells."""
    description = {
        "elements": ["Cu"],
        "cutoff": 7.0,
        "nradmax_by_orders": [10, 4, 2, 1],
        "lmax_by_orders": [0, 3, 2, 1],
    }
    rng = np.random.default_rng(0)
    potential = build_potential(description)
    potential = potential.with_coefficients({"Cu": 1e-4 * rng.normal(size=potential.coefficients("Cu").shape)})
    potential.write(folder / "bench.yaml")
    cells = [cell(4, seed, 0.3) for seed in range(4)]
    rows = AceModel(potential).projections(cells)
    from_rows({"Cu": rows["Cu"].rows}).save(folder / "bench.asi")
    return folder / "bench.yaml", folder / "bench.asi"


def cell(size: int, seed: int, rattle: float):
    """fcc Cu with 4 size^3 atoms and Gaussian displacements."""
    atoms = bulk("Cu", cubic=True, a=3.64) * (size, size, size)
    atoms.positions += np.random.default_rng(seed).normal(0, rattle, atoms.positions.shape)
    return atoms


class Clock:
    """Adds up the time spent in a callable."""

    def __init__(self, function) -> None:
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *arguments, **options):
        start = time.perf_counter()
        try:
            return self.function(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - start
            self.calls += 1


def measure(yaml: Path, asi: Path, size: int, steps: int, gamma: bool) -> tuple[float, float, float]:
    """(engine, our overhead, LAMMPS) in microseconds per step."""
    library = open_lammps(["-screen", "none", "-log", "none", "-nocite"])
    interpreter = Interpreter(library)
    pace = PaceCommands(interpreter)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "structure.data"
        write_data(cell(size, 0, 0.08), ["Cu"], data)
        fix = "fix g all pair 1 pace/extrapolation gamma 1" if gamma else ""
        interpreter.run_text(SCRIPT.format(data=data, yaml=yaml, asi=asi, gamma=fix))
    engine, callback = Clock(pace.callback.model.compute), Clock(pace.callback)
    pace.callback.model.compute = engine
    library.set_fix_external_callback(FIX_EXTERNAL, callback, None)
    interpreter.run_text("run 2\n")  # compiles, builds the lists
    engine.seconds = callback.seconds = 0.0
    start = time.perf_counter()
    interpreter.run_text(f"run {steps} pre no\n")
    total = time.perf_counter() - start
    library.close()
    parts = engine.seconds, callback.seconds - engine.seconds, total - callback.seconds
    return tuple(1e6 * part / steps for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("files", nargs="*", type=Path, help="POTENTIAL.yaml ACTIVE_SET.asi of an element Cu")
    parser.add_argument("--sizes", nargs="+", type=int, default=[3, 5, 8, 10], help="cells along each edge of the box")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        files = [path.resolve() for path in options.files] or make_files(Path(folder))
        functions = AcePotential.read(files[0]).n_functions
        print(f"{files[0].name}: functions {functions}, {options.threads} threads, microseconds per MD step")
        print(f"{'atoms':>7} {'gamma':>6} {'engine':>10} {'aceal-lmp':>10} {'LAMMPS':>10} {'overhead':>9}")
        for size in options.sizes:
            for gamma in (False, True):
                engine, own, rest = measure(*files, size, options.steps, gamma)
                print(
                    f"{4 * size**3:7d} {'yes' if gamma else 'no':>6} {engine:10.0f} {own:10.0f} {rest:10.0f} "
                    f"{100 * own / engine:8.1f}%"
                )


if __name__ == "__main__":
    main()
