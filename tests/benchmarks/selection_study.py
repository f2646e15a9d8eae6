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
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.selection.compare import learning_curve
from aiida_aceal.selection.summary import summarise

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


def table(summary: dict) -> str:
    """Markdown: errors at every size (means over the seeds), and ratios to random over all sizes but the start."""
    sizes = " / ".join(str(size) for size in summary["sizes"])
    head = [
        "strategy", f"force RMSE at {sizes}, meV/Å", f"largest force error at {sizes}, meV/Å",
        f"energy RMSE at {sizes}, meV/atom", "force RMSE ÷ random", "largest force error ÷ random",
        "labels (atoms) saved",
    ]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for label in summary["order"]:
        entry = summary["strategies"][label]
        line = [f"`{label}`"]
        for metric, digits in (("forces_rmse", 1), ("forces_max", 0), ("energy_rmse", 1)):
            line.append(" / ".join(f"{1000 * p[metric]['mean']:.{digits}f}" for p in entry["points"]))
        for metric in ("forces_rmse", "forces_max"):
            test = entry.get("overall", {}).get(metric)
            ratio = test and test["ratio"]
            line.append("" if test is None else _ratio(ratio) + _p(test))
        needed = entry["needed"]["forces_rmse"][0]
        saved = [needed[f"saving_{unit}"] for unit in ("structures", "atoms")]
        both = None not in saved
        text = f"{100 * saved[0]:+.0f} % ({100 * saved[1]:+.0f} %)" if both else "not reached"
        line.append(text if "overall" in entry else "")
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _ratio(ratio: dict) -> str:
    interval = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"  # one seed: none
    return f"{ratio['mean']:.2f}{interval}"


def _p(test: dict) -> str:
    return ("" if test["p_holm"] is None else f", p {test['p_holm']:.2g}") + f", {test['wins']} of {test['n']}"


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
        print(f"\n## {name}: {potential.n_functions[element]} functions\n\n{table(summary)}\n", flush=True)


if __name__ == "__main__":
    main()
