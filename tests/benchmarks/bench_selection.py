"""Selecting 100 of 100 000 configurations with 300 functions: time and peak memory of ``aceal-worker select``.

    python tests/benchmarks/bench_selection.py [--candidates 100000] [--count 100] [--strategy d_optimal]

Candidates are cells of 4 to 8 atoms, strained and shaken, written one by one. The worker runs as a process of its own,
as in a job, and shows its progress; its largest resident memory is that of the operating system.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.uncertainty import build_active_set

BASIS = {"elements": ["Cu"], "cutoff": 4.5, "nradmax_by_orders": [12, 7, 4], "lmax_by_orders": [0, 4, 2]}
LIMIT_GIB = 2.0


def cells(count: int, seed: int) -> Iterator[Atoms]:
    """fcc, bcc and hcp-like copper cells of 4 to 8 atoms, from nearly perfect to far from it."""
    rng = np.random.default_rng(seed)
    forms = [bulk("Cu", cubic=True), bulk("Cu", "bcc", a=2.87, cubic=True) * (3, 1, 1), bulk("Cu") * (2, 2, 2)]
    for _ in range(count):
        atoms = forms[rng.integers(3)].copy()
        strain = np.eye(3) + rng.normal(0.0, 0.03, (3, 3))
        atoms.set_cell(np.asarray(atoms.cell) @ strain * rng.uniform(0.95, 1.1), scale_atoms=True)
        atoms.positions += rng.normal(0.0, rng.choice([0.03, 0.1, 0.2]), atoms.positions.shape)
        yield atoms


def write_plain(path: Path, frames: Iterator[Atoms]) -> int:
    """Extended XYZ by hand: a hundred thousand frames in seconds. Returns the number of atoms."""
    total = 0
    with open(path, "w", encoding="ascii") as handle:
        for atoms in frames:
            lattice = " ".join(f"{x:.6f}" for x in np.asarray(atoms.cell).ravel())
            handle.write(f'{len(atoms)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n')
            for x, y, z in atoms.positions:
                handle.write(f"Cu {x:.6f} {y:.6f} {z:.6f}\n")
            total += len(atoms)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--strategy", default="d_optimal")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="512MiB", help="Memory that MaxVol may use in addition.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        potential = build_potential(BASIS)
        coefficients = 1e-3 * np.random.default_rng(1).normal(size=potential.coefficients("Cu").shape)
        potential = potential.with_coefficients({"Cu": coefficients})
        potential.write(folder / "pot.yaml")
        build_active_set(AceModel(potential), list(cells(100, seed=5))).save(folder / "set.asi")
        atoms = write_plain(folder / "candidates.extxyz", cells(args.candidates, seed=7))
        print(f"{args.candidates} candidates, {atoms} atoms, {potential.n_functions['Cu']} functions", flush=True)
        began = time.perf_counter()
        words = [str(Path(sys.executable).parent / "aceal-worker"), "select", "pot.yaml", "set.asi"]
        words += ["candidates.extxyz", "-o", "out.extxyz", "--strategy", args.strategy, "--count", str(args.count)]
        words += ["--memory", args.memory, "--report", "report.json"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        subprocess.run(words, cwd=folder, check=True, env=environment)
        seconds = time.perf_counter() - began
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = usage.ru_maxrss / 2**20
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        print(
            f"{args.strategy}: {report['n_selected']} selected in {report['rounds']} rounds, {seconds:.0f} s wall, "
            f"{usage.ru_utime + usage.ru_stime:.0f} s CPU, peak memory {peak:.2f} GiB"
        )
        return 0 if peak < LIMIT_GIB and report["n_selected"] == args.count else 1


if __name__ == "__main__":
    sys.exit(main())
