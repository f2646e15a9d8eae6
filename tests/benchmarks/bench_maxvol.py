"""MaxVol against maxvolpy (pure-Python path), on the same matrices: time, log volume, largest coefficient.

    python tests/benchmarks/bench_maxvol.py [--peer FOLDER] [--data FILE.extxyz] [--repeat 2] [--quick]

Matrices: ACE projections 20 000 x 732 (the shape of the 2021 copper potential) and 100 000 x 310, Gaussian ones of the
sizes of the reference timings. The structures are those of ``--data`` with displaced copies, or cells of our own.
maxvolpy's sdist does not build with current numpy; its Python files alone are enough: unpack them into FOLDER
(``FOLDER/maxvolpy/maxvol.py``). Without it the columns of the peer stay empty. Nothing is asserted: a table is printed.
Also: warm start with 10 % new rows against a rebuild, and the streamed active set against the one in memory.
``--bounded 1000000 --memory 512MiB`` does nothing of this but builds the active set of so many environments with 300
functions, made anew in each pass, and prints the peak memory of the process.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from threadpoolctl import threadpool_limits

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.uncertainty import build_active_set, maxvol
from aiida_aceal.uncertainty.sources import memory_left

SHAPE = {"nradmax_by_orders": [15, 5, 4, 3, 3, 2, 1], "lmax_by_orders": [0, 3, 2, 2, 1, 1, 1]}  # 732 functions
TOLERANCE = 1.001


def structures_of(data: Path | None, atoms: int, seed: int = 0) -> list[Atoms]:
    """So many atoms in displaced copies of the given structures, or of copper crystals under strain."""
    rng = np.random.default_rng(seed)
    if data is not None:
        from aiida_aceal.common.configurations import read_configurations

        forms = read_configurations(data)
    else:
        forms = [
            bulk("Cu", kind, a, cubic=True)
            for kind, lattice in (("fcc", 3.61), ("bcc", 2.87), ("sc", 2.4), ("diamond", 5.3))
            for a in lattice * np.linspace(0.88, 1.3, 15)
        ]
    chosen: list[Atoms] = list(forms) if data is not None else []
    total = sum(map(len, chosen))
    while total < atoms:
        new = forms[rng.integers(len(forms))].copy()
        new.calc = None
        new.set_cell(np.asarray(new.cell) @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        new.positions += rng.normal(0.0, rng.choice([0.02, 0.05, 0.15]), new.positions.shape)
        chosen.append(new)
        total += len(new)
    return chosen


def rows_of(model: AceModel, structures: list[Atoms], n: int, k: int) -> np.ndarray:
    """[n, k] projections, chunk by chunk."""
    rows = np.empty((n, k))
    done = 0
    for first in range(0, len(structures), 500):
        part = model.projections(structures[first : first + 500])["Cu"].rows[: n - done, :k]
        rows[done : done + len(part)] = part
        done += len(part)
    return rows


def timed(function, *args, **kwargs):
    """(result, wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def find_peer(folder: Path | None):
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        from maxvolpy.maxvol import py_maxvol
    except ImportError:
        return None
    return py_maxvol


def compare(name: str, rows: np.ndarray, peer, repeat: int) -> None:
    """One line of the table; runs alternate, the best of each counts."""
    ours: dict[int, tuple] = {}
    theirs = None
    for _ in range(repeat):
        for threads in (1, 2):
            run = timed(maxvol, rows, TOLERANCE, threads=threads)
            ours[threads] = min(ours.get(threads, run), run, key=lambda r: r[1])
        if peer is not None:
            with threadpool_limits(1):
                run = timed(peer, rows, tol=TOLERANCE, max_iters=10**6)
            theirs = run if theirs is None or run[1] < theirs[1] else theirs
    result = ours[1][0]
    line = (
        f"{name:22s} {rows.shape[0]:7d} x {rows.shape[1]:3d} {result.log_volume:11.2f} {result.tolerance_reached:8.5f}"
    )
    line += f" {result.rank:4d} {ours[1][1]:7.2f} {ours[1][2]:7.2f} {ours[2][1]:7.2f}"
    if theirs is not None:
        chosen = rows[theirs[0][0]]
        gain = result.log_volume - np.linalg.slogdet(chosen)[1]
        line += f" {theirs[1]:7.2f} {theirs[2]:7.2f} {gain:+8.2f} {theirs[1] / ours[1][1]:7.1f}"
        line += f" {theirs[2] / ours[1][2]:7.1f} {theirs[1] / ours[2][1]:7.1f}"
    print(line, flush=True)


def warm_start(name: str, rows: np.ndarray) -> None:
    """90 % of the rows first, then the rest as new ones."""
    old = maxvol(rows[: len(rows) * 9 // 10], TOLERANCE, threads=1)
    new = rows[len(rows) * 9 // 10 :]
    options = {"active": old.active, "active_inverse": old.inverse, "threads": 1}
    result, _, update = min((timed(maxvol, new, TOLERANCE, **options) for _ in range(3)), key=lambda run: run[2])
    _, _, rebuild = min((timed(maxvol, rows, TOLERANCE, threads=1) for _ in range(3)), key=lambda run: run[2])
    print(
        f"{name}: warm start with 10 % new rows, {result.swaps} swaps: {update:.3f} s CPU, rebuild {rebuild:.3f} s, "
        f"ratio {rebuild / update:.1f}",
        flush=True,
    )


def streamed(model: AceModel, structures: list[Atoms]) -> None:
    """The same structures in memory and in half of the memory their rows need."""
    need = sum(map(len, structures)) * model.n_functions["Cu"] * 8
    whole, seconds, _ = timed(build_active_set, model, structures, memory=4 * need)
    small, longer, _ = timed(build_active_set, model, structures, memory=need / 2)
    a, b = whole.log_volume["Cu"], small.log_volume["Cu"]
    print(
        f"in memory: {seconds:.1f} s, log volume {a:.2f}; streamed: {longer:.1f} s, {small.extra['passes']} passes, "
        f"log volume {b:.2f} ({100 * (b - a) / abs(a):+.2f} %), max gamma {small.tolerance_reached:.5f}"
    )


class Crystals:
    """Shaken copper crystals of 500 atoms, the same in each pass, none of them kept."""

    def __init__(self, atoms: int) -> None:
        self.count = atoms // 500

    def __iter__(self):
        for i in range(self.count):
            rng = np.random.default_rng(i)
            kind, lattice = (("fcc", 3.61), ("bcc", 2.87))[i % 2]
            atoms = bulk("Cu", kind, lattice * rng.uniform(0.92, 1.15), cubic=True)
            atoms = atoms.repeat((5, 5, 5) if kind == "fcc" else (5, 5, 10))
            atoms.positions += rng.normal(0.0, rng.choice([0.02, 0.08, 0.2]), atoms.positions.shape)
            yield atoms


def bounded(atoms: int, memory: str) -> None:
    """Far more rows than memory: time, passes, largest gamma, peak memory of the process."""
    shape = {"nradmax_by_orders": [12, 5, 3, 2], "lmax_by_orders": [0, 4, 3, 2]}
    potential = build_potential({"elements": ["Cu"], "cutoff": 4.0, **shape})
    model = AceModel(potential)
    result, wall, cpu = timed(build_active_set, model, Crystals(atoms), memory=memory_left(memory), progress=print)
    k = potential.n_functions["Cu"]
    facts = f"{result.extra['passes']} passes, max gamma {result.tolerance_reached:.5f}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"{result.sets['Cu'].n_environments} x {k} rows, {atoms * k * 8 / 2**30:.1f} GiB, in {memory}: peak {peak:.0f} "
        f"MiB, {wall:.0f} s ({cpu:.0f} s CPU), {facts}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="Folder that holds the package maxvolpy.")
    parser.add_argument("--data", type=Path, help="Copper structures (extended XYZ).")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="A tenth of the rows.")
    parser.add_argument("--bounded", type=int, metavar="ATOMS", help="Only: so many environments in --memory.")
    parser.add_argument("--memory", default="512MiB")
    args = parser.parse_args()
    if args.bounded:
        bounded(args.bounded, args.memory)
        return 0
    peer = find_peer(args.peer)
    part = 10 if args.quick else 1
    model = AceModel(build_potential({"elements": ["Cu"], "cutoff": 7.0, **SHAPE}))
    rng = np.random.default_rng(0)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; seconds: wall and CPU, best of {args.repeat}")
    print(
        f"{'matrix':22s} {'size':>13s} {'log volume':>11s} {'max c':>8s} {'rank':>4s} {'1 thr':>7s} {'CPU':>7s} "
        f"{'2 thr':>7s} {'peer':>7s} {'CPU':>7s} {'d logV':>8s} {'ratio':>7s} {'CPU':>7s} {'2 thr':>7s}"
    )
    structures = structures_of(args.data, 20000 // part)
    wide = rows_of(model, structures, 20000 // part, 732)
    compare("ACE projections", wide, peer, args.repeat)
    tall = rows_of(model, structures_of(args.data, 100000 // part), 100000 // part, 310)
    compare("ACE projections", tall, peer, args.repeat)
    compare("Gaussian", rng.normal(size=(20000 // part, 700)), peer, args.repeat)
    compare("Gaussian", rng.normal(size=(100000 // part, 300)), peer, args.repeat)
    for size, rows in (("20000 x 732", wide), ("100000 x 310", tall)):
        warm_start(f"{size}, the last structures new", rows)
        warm_start(f"{size}, new ones drawn at random", rows[rng.permutation(len(rows))])
    streamed(AceModel(build_potential({"elements": ["Cu"], "cutoff": 6.0, "nradmax_by_orders": [12, 5, 3],
                                       "lmax_by_orders": [0, 3, 2]})), structures)  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
