"""All strategies on published DFT sets, by hand: curves as JSON (taken up again if interrupted) and Markdown tables.

    python tests/benchmarks/selection_study.py DATA_FOLDER OUT_FOLDER --sets Cu Ge Li Mo Si Cu-II

DATA_FOLDER holds ``mlearn/EL-training.extxyz``, ``mlearn/EL-test.extxyz`` and ``Cu-II_1k.extxyz`` (energies in the info
``REF_energy``, forces in the arrays ``REF_forces``).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from aiida_aceal.ace import build_potential
from aiida_aceal.report.selection import markdown_table
from aiida_aceal.selection.compare import learning_curve
from aiida_aceal.selection.summary import summarise
from aiida_aceal.worker.files import read_configurations

KEYS = {"energy_key": "REF_energy", "forces_key": "REF_forces"}
STRATEGIES = {
    "random": {"strategy": "random"},
    "uncertainty": {"strategy": "uncertainty"},
    "d_optimal": {"strategy": "d_optimal"},
    "cur": {"strategy": "cur"},
    "cur unscaled": {"strategy": "cur", "options": {"scaled": False}},
    "cur rank 10": {"strategy": "cur", "options": {"rank": 10}},
    "cur rank 10 unscaled": {"strategy": "cur", "options": {"rank": 10, "scaled": False}},
    "diversity": {"strategy": "diversity"},
    "hybrid": {"strategy": "hybrid"},
    "viability": {"strategy": "viability"},
}
CUTOFF = {"Cu": 5.0, "Ge": 5.3, "Li": 5.1, "Mo": 5.2, "Si": 5.0, "Cu-II": 6.0}
BASIS = {"nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 2]}


def sets(folder: Path, name: str) -> tuple[list, list]:
    """Pool and test set."""
    if name == "Cu-II":
        frames = read_configurations(folder / "Cu-II_1k.extxyz", **KEYS)
        return [f for i, f in enumerate(frames) if i % 10 != 7], [f for i, f in enumerate(frames) if i % 10 == 7]
    return tuple(
        read_configurations(folder / "mlearn" / f"{name}-{part}.extxyz", **KEYS) for part in ("training", "test")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(CUTOFF), choices=list(CUTOFF))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 80])
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        pool, test = sets(args.data, name)
        element = name.split("-")[0]
        potential = build_potential({"elements": [element], "cutoff": CUTOFF[name], **BASIS})
        fit = {"reference_energies": "none" if name == "Cu-II" else "fit"}
        curves: dict[str, list] = {}
        for seed in range(args.seeds):
            for label, own in STRATEGIES.items():
                file = args.output / f"{name}-{label.replace(' ', '_')}-{seed}.json"
                if not file.is_file():
                    began = time.perf_counter()
                    settings = {**own, "sizes": args.sizes, "fit": fit, "threads": args.threads}
                    curve = learning_curve(potential, pool, test, settings, seed)
                    file.write_text(json.dumps(curve), encoding="utf-8")
                    print(f"{name} {label} seed {seed}: {time.perf_counter() - began:.1f} s", flush=True)
                curves.setdefault(label, []).append(json.loads(file.read_text(encoding="utf-8")))
        summary = summarise(curves)
        (args.output / f"{name}.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        print(f"\n## {name}: {potential.n_functions[element]} functions\n\n{markdown_table(summary)}\n", flush=True)


if __name__ == "__main__":
    main()
