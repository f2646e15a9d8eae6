"""Indicators of uncertainty on published sets: the numbers of docs/topics/uncertainty_study.md.

    python tests/benchmarks/uncertainty_study.py DATA OUT [W Cu Ge Li Mo Si]

DATA: folder with W_DFT_1129.extxyz and mlearn/. For each set a potential of some 100 functions learns from all kinds
(heterogeneous) or from one (homogeneous); OUT gets a Markdown table, a report and the numbers of each case. The tables
of the page are printed at the end, from all cases that OUT has.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.fitting import fit_ensemble
from aiida_aceal.report.uncertainty import markdown_table, page
from aiida_aceal.selection.indicators import compare_indicators

KEYS = {"energy_key": "REF_energy", "forces_key": "REF_forces"}
BASIS = {"nradmax_by_orders": [10, 4, 3], "lmax_by_orders": [0, 3, 2]}
CUTOFF = {"W": 5.0, "Cu": 5.0, "Ge": 5.5, "Li": 5.5, "Mo": 5.0, "Si": 5.0}


def cases(data: Path, element: str):
    """(name, training set, test set) of an element."""
    if element == "W":
        frames = read_configurations(data / "W_DFT_1129.extxyz", **KEYS)
        for atoms in frames:  # the file names no kinds: cells by their number of atoms, as good as that
            n = len(atoms)
            atoms.info["group"] = "small" if n < 60 else "middle" if n < 130 else "large"
        order = np.random.default_rng(0).permutation(len(frames))
        test, train = [frames[k] for k in order[:300]], [frames[k] for k in order[300:]]
    else:
        train = read_configurations(data / f"mlearn/{element}-training.extxyz", **KEYS)
        test = read_configurations(data / f"mlearn/{element}-test.extxyz", **KEYS)
        for part in (train, test):
            for atoms in part:
                atoms.info["group"] = str(atoms.info["group"]).split()[0]
        order = np.random.default_rng(0).permutation(len(train))
        test, train = (
            [*test, *(train[k] for k in order[: len(train) // 4])],
            [train[k] for k in order[len(train) // 4 :]],
        )
    yield "all kinds", train, test
    kinds = sorted({a.info["group"] for a in train})
    most = max(kinds, key=lambda kind: sum(len(a) for a in train if a.info["group"] == kind))
    yield f"{most} only", [a for a in train if a.info["group"] == most], test


def ensemble_cost(element: str, train, test) -> str:
    """One evaluation of ten members with shared projections against ten single ones (CPU seconds, one thread)."""
    potential = build_potential({"elements": [element], "cutoff": CUTOFF[element], **BASIS})
    members = fit_ensemble(potential, train, {}, {"members": 10, "method": "weights"})
    members.threads = 1
    models = [AceModel(p, threads=1) for p in members.potentials]
    seconds = []
    for _ in range(2):  # the second time everything is compiled
        start = time.process_time()
        members.predict(test)
        middle = time.process_time()
        for model in models:
            model.evaluate_batch(test, stress=False)
        seconds = [middle - start, time.process_time() - middle]
    return f"ensemble of ten: {seconds[0]:.2f} s, ten single evaluations {seconds[1]:.2f} s"


def page_tables(out: Path) -> str:
    """The tables of the page, from the numbers of all cases in ``out``."""
    found = {path.stem.replace("_", " "): json.loads(path.read_text(encoding="utf-8")) for path in out.glob("*.json")}
    order = sorted(found, key=lambda title: list(CUTOFF).index(title.split()[0]))
    parts = []
    for title, chosen in (
        ("All kinds learnt", [name for name in order if name.endswith("all kinds")]),
        ("One kind learnt", [name for name in order if name.endswith("only")]),
    ):
        if not chosen:
            continue
        names = list(found[chosen[0]]["indicators"])
        lines = [f"## {title}", "", "| set | " + " | ".join(f"`{n}`" for n in names) + " |", "| --- " * 7 + "|"]
        lines += [_line(name.removesuffix(" all kinds"), found[name]) for name in chosen]
        lines += ["", "| indicator | explained variance (%) | calibration error (%) |", "| --- " * 3 + "|"]
        for indicator in names:
            fits = [found[name]["indicators"][indicator].get("calibration") or {} for name in chosen]
            cells = [", ".join(_percent(f.get(key)) for f in fits) for key in ("skill", "mean_error")]
            lines.append(f"| `{indicator}` | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(name: str, found: dict) -> str:
    """Row of a set: rank correlation; misses / false alarms; ROC area of kinds that were not learnt."""
    outliers = [int(np.sum(np.array(found["errors"][k]) > found["outlier"][k])) for k in ("forces", "energy")]
    rmse = 1000 * found["test"]["forces"]["rmse"]
    size = f"{rmse:.0f}" if rmse < 1e5 else "no use"
    sizes = f"{found['n_train']} / {found['n_structures']}; {size}; {outliers[0]}, {outliers[1]}"
    cells = []
    for entry in found["indicators"].values():
        rates = [_percent(entry.get(f"false_{kind}_rate")) for kind in ("negative", "positive")]
        area = f"; {entry['novelty']['auc']:.2f}" if name.endswith("only") and "novelty" in entry else ""
        cells.append(f"{entry['spearman']:.2f}; {rates[0]} / {rates[1]}{area}")
    return f"| {name} ({sizes}) | " + " | ".join(cells) + " |"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def main(data: Path, out: Path, elements: list[str]) -> None:
    """Run all cases."""
    out.mkdir(parents=True, exist_ok=True)
    for element in elements:
        for name, train, test in cases(data, element):
            potential = build_potential({"elements": [element], "cutoff": CUTOFF[element], **BASIS})
            settings = {"clusters": 8, "ensemble": {"members": 8}}
            found = compare_indicators(potential, train, test, settings)
            title = f"{element}, {name}"
            rmse = found["test"]["forces"]["rmse"]
            text = (
                f"### {title}\n\n{len(train)} learnt, {len(test)} graded; test force RMSE {1000 * rmse:.0f} meV/A\n\n"
            )
            text += markdown_table(found) + "\n"
            print(text, flush=True)
            stem = out / title.replace(", ", "_").replace(" ", "_")
            stem.with_suffix(".md").write_text(text, encoding="utf-8")
            stem.with_suffix(".html").write_text(page(found, title), encoding="utf-8")
            stem.with_suffix(".json").write_text(json.dumps(found), encoding="utf-8")
        print(ensemble_cost(element, train, test), flush=True)
    print(page_tables(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(CUTOFF))
