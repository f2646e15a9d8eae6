"""Fits on the published Cu-II set, with the basis and the split of the pacemaker run beside it. Run by hand:

    python tests/benchmarks/bench_fit.py [linear|nonlinear|ensemble|million] ...

Data: folder named by ACEAL_DATA (default: ../shared/data beside the repository).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.fitting import Ensemble, fit_ensemble, fit_linear, fit_nonlinear
from aiida_aceal.fitting.job import peak_memory
from aiida_aceal.fitting.labels import collect_labels
from aiida_aceal.fitting.metrics import predict

DATA = Path(os.environ.get("ACEAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
PLAIN = {"reference_energies": "none"}
SMALL = {"nradmax_by_orders": [10, 3, 3, 2], "lmax_by_orders": [0, 2, 2, 1]}
LARGE = {"nradmax_by_orders": [15, 5, 4, 3, 3, 2, 1], "lmax_by_orders": [0, 3, 2, 2, 1, 1, 1]}
#: pacemaker on the small basis, two densities: energy, forces in meV/atom and meV/A, seconds on two cores
PACEMAKER = (5.83, 21.5, 1549.0)


def copper(densities: int = 1, **functions):
    """Unfitted basis of the pacemaker run: SBessel, cutoff 7 A."""
    embedding = {"ndensity": densities, "fs_parameters": [1, 1, 1, 0.5][: 2 * densities]}
    return build_potential({"elements": ["Cu"], "cutoff": 7.0, "radbase": "SBessel", **embedding, **functions})


def split():
    """Training and test structures: every tenth frame, from the seventh on, is for tests."""
    frames = read_configurations(DATA / "Cu-II_1k.extxyz", energy_key="REF_energy", forces_key="REF_forces")
    return [a for i, a in enumerate(frames) if i % 10 != 7], [a for i, a in enumerate(frames) if i % 10 == 7]


def show(name: str, potential, test, wall: float, cpu: float) -> None:
    m = predict(AceModel(potential), collect_labels(test, ("Cu",)), potential.reference_energies).metrics()
    e, f = m["energy"], m["forces"]
    print(
        f"{name:34s} test E {e['rmse'] * 1e3:6.2f} / {e['mae'] * 1e3:5.2f} / {e['max'] * 1e3:6.1f} meV/atom, "
        f"F {f['rmse'] * 1e3:6.2f} / {f['mae'] * 1e3:5.2f} / {f['max'] * 1e3:6.1f} meV/A; "
        f"{wall:6.1f} s wall, {cpu:6.1f} s CPU, peak {peak_memory() / 2**20:.0f} MiB",
        flush=True,
    )


def timed(function, *arguments, **named):
    """Result, wall seconds and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    return function(*arguments, **named), time.perf_counter() - wall, time.process_time() - cpu


def linear(train, test) -> None:
    for shape, name in ((SMALL, "122 functions"), (LARGE, "732 functions")):
        for method in ("evidence", "ard"):
            result, *cost = timed(fit_linear, copper(**shape), train, {**PLAIN, "regularization": {"method": method}})
            show(f"linear {name} {method}", result.potential, test, *cost)


def nonlinear(train, test) -> None:
    """With a tenth of the training structures held out for early stopping, which is the default, and without."""
    for early in (True, False):
        options = {"evaluations": 5000, "tolerance": 1e-4, "max_seconds": PACEMAKER[2], "early_stopping": early}
        result, *cost = timed(fit_nonlinear, copper(2, **SMALL), train, {**PLAIN, "nonlinear": options}, progress=print)
        show(f"nonlinear 122, early stopping {early}", result.potential, test, *cost)
        print(f"stopped by: {result.report['stopped']}; compared: {result.report['compared']}")
    print(f"pacemaker: {PACEMAKER[0]} meV/atom, {PACEMAKER[1]} meV/A, {PACEMAKER[2]:.0f} s wall")


def ensemble(train, test) -> None:
    """Cost of one shared evaluation of eight members against eight single ones."""
    members, wall, cpu = timed(fit_ensemble, copper(**SMALL), train, PLAIN, {"members": 8, "method": "weights"})
    print(f"8 members by weights: {wall:.1f} s wall, {cpu:.1f} s CPU; thresholds {members.thresholds}")
    alone = [Ensemble((p, p), threads=1) for p in members.potentials[:1]]
    models = [AceModel(p, threads=1) for p in members.potentials]
    members.threads = 1
    for _ in range(2):
        _, _, shared = timed(members.predict, test)
        _, _, energies = timed(members.predict, test, forces=False)
        _, _, single = timed(lambda: [m.evaluate_batch(test, stress=False) for m in models])
        _, _, pair = timed(alone[0].predict, test)
    print(
        f"evaluation of {len(test)} structures: 8 single {single:.2f} s, shared {shared:.2f} s "
        f"({shared / single * 8:.2f} single evaluations), energies alone {energies:.2f} s, two members {pair:.2f} s"
    )


def million(train, test) -> None:
    """More than a million force components, bounded memory."""
    many = [a for _ in range(32) for a in train]
    count = 3 * sum(len(a) for a in many)
    before = peak_memory()
    result, *cost = timed(fit_linear, copper(**SMALL), many, {**PLAIN, "memory": "256MiB"})
    show(f"linear 122, {count} components", result.potential, test, *cost)
    print(f"peak memory grew by {(peak_memory() - before) / 2**20:.0f} MiB")


if __name__ == "__main__":
    np.set_printoptions(precision=3)
    data = split()
    for name in sys.argv[1:] or ("linear", "nonlinear", "ensemble"):
        {"linear": linear, "nonlinear": nonlinear, "ensemble": ensemble, "million": million}[name](*data)
