"""Linear against nonlinear fits with default settings on published sets, judged on structures no fit has seen.

    python tests/benchmarks/nonlinear_table.py [NAME] ...

Data: folder named by ACEAL_DATA (default: ../shared/data beside the repository). Prints a Markdown table of errors
on held-out structures (meV/atom / meV/A). All settings are defaults, so a tenth of the structures of
a nonlinear fit is held out for early stopping, while the linear fit has them all.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.fitting import fit
from aiida_aceal.fitting.labels import collect_labels
from aiida_aceal.fitting.metrics import predict

DATA = Path(os.environ.get("ACEAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
ONE = {"nradmax_by_orders": [10, 4, 2], "lmax_by_orders": [0, 3, 1]}
TWO = {"nradmax_by_orders": [6, 3, 1], "lmax_by_orders": [0, 2, 1]}
#: file, elements, cutoff (A), functions, training structures, held-out structures
SETS = {
    "Cu-II": ("Cu-II_1k.extxyz", ["Cu"], 5.5, ONE, 100, 200),
    "Al-Ni": ("AlNi_174.extxyz", ["Al", "Ni"], 6.0, TWO, 120, 54),
    "Fe": ("Fe_fitsnap.extxyz", ["Fe"], 5.0, ONE, 100, 200),
    "InP": ("InP_fitsnap_1894.extxyz", ["In", "P"], 5.0, TWO, 40, 60),
    "Li": ("mlearn/Li-training.extxyz", ["Li"], 5.1, ONE, 40, 60),
    "Ge": ("mlearn/Ge-training.extxyz", ["Ge"], 5.0, ONE, 30, 60),
    "Mo": ("mlearn/Mo-training.extxyz", ["Mo"], 5.0, ONE, 30, 60),
    "Si": ("mlearn/Si-training.extxyz", ["Si"], 5.0, ONE, 30, 60),
    "Cu": ("mlearn/Cu-training.extxyz", ["Cu"], 5.0, ONE, 20, 50),
    "W": ("W_DFT_1129.extxyz", ["W"], 5.0, ONE, 20, 50),
}


def split(name: str) -> tuple[list, list]:
    """Training and held-out structures, drawn with a fixed seed."""
    file, _, _, _, n_train, n_test = SETS[name]
    frames = read_configurations(DATA / file, energy_key="REF_energy", forces_key="REF_forces")
    order = np.random.default_rng(0).permutation(len(frames))
    return [frames[k] for k in order[n_test : n_test + n_train]], [frames[k] for k in order[:n_test]]


def errors(potential, test) -> tuple[float, float]:
    """RMSE of energies (meV/atom) and forces (meV/A)."""
    labels = collect_labels(test, potential.elements)
    m = predict(AceModel(potential), labels, potential.reference_energies).metrics()
    return m["energy"]["rmse"] * 1e3, m["forces"]["rmse"] * 1e3


def row(name: str) -> None:
    """One line of the table."""
    _, elements, cutoff, functions, _, _ = SETS[name]
    train, test = split(name)
    basis = {"elements": elements, "cutoff": cutoff, "radbase": "SBessel", **functions}
    one, two = build_potential(basis), build_potential({**basis, "embedding": "sqrt"})
    cells = []
    for potential, method in ((one, "linear"), (two, "nonlinear")):
        started = time.perf_counter()
        result = fit(potential, train, {"method": method})
        seconds = time.perf_counter() - started
        cells.append("{:.1f} / {:.1f}".format(*errors(result.potential, test)) + f" | {seconds:.0f} s")
        for line in result.report.get("warnings", []):
            print(f"{name}: {line}", file=sys.stderr)
    count = sum(one.n_functions.values())
    atoms = sum(len(a) for a in train)
    print(f"| {name} | {len(train)} | {atoms} | {len(test)} | {count} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    print("| set | structures | atoms | held out | functions | linear | time | nonlinear | time |")
    print("| --- " * 9 + "|")
    for chosen in sys.argv[1:] or SETS:
        row(chosen)
