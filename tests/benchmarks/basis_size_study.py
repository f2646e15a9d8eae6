"""Is an outlier inside gamma <= 1 underfitting or novelty? The part on basis sizes of docs/topics/uncertainty_study.md.

    python tests/benchmarks/basis_size_study.py DATA OUT [--sets Cu-II W Cu] [--sizes 75 150 300 732] [--learn 400]

DATA: folder with Cu-II_1k.extxyz, W_DFT_1129.extxyz and mlearn/. For each size the same series of functions is cut
there, fitted to the same structures and graded. Then the outliers are learnt too: an error that stays above the outlier
error is one that these functions cannot lower (underfitting), one that falls was a lack of data (novelty). OUT gets a
Markdown table and the numbers of each case.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from uncertainty_study import CUTOFF, KEYS, cases

from aiida_aceal.ace import AceModel, build_potential
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.fitting import fit
from aiida_aceal.selection.indicators import compare_indicators

SERIES = {"nradmax_by_orders": [15, 6, 4, 3, 2], "lmax_by_orders": [0, 4, 3, 2, 1]}  # 754 functions, cut at each size
HEAD = (
    "functions", "force RMSE learnt / graded", "e*", "outliers", "global", "own", "largest error inside / outside",
    "still above e* when learnt: missed", "flagged",
)  # fmt: skip


def sets(data: Path, name: str, learn: int, graded: int) -> tuple[str, float, list, list]:
    """(element, cutoff, learnt, graded), drawn at random with a fixed seed."""
    if name == "Cu-II":  # the split of the comparison with pacemaker, so that 900 learnt is that one
        frames = read_configurations(data / "Cu-II_1k.extxyz", **KEYS)
        test = [atoms for k, atoms in enumerate(frames) if k % 10 in (2, 7)]
        train = [atoms for k, atoms in enumerate(frames) if k % 10 not in (2, 7)]
        element, cutoff = "Cu", 7.0
    else:
        (_, train, test), *_ = cases(data, name)
        element, cutoff = name, CUTOFF[name]
    rng = np.random.default_rng(0)
    keep = [sorted(rng.permutation(len(part))[:most]) for part, most in ((train, learn), (test, graded))]
    return element, cutoff, [train[k] for k in keep[0]], [test[k] for k in keep[1]]


def force_errors(potential, structures) -> np.ndarray:
    """Largest |dF_i| of each structure, eV/Angstrom."""
    results = AceModel(potential).evaluate_batch(structures, stress=False)
    return np.array([np.linalg.norm(r.forces - a.get_forces(), axis=1).max() for r, a in zip(results, structures)])


def one_size(element: str, cutoff: float, size: int, train: list, test: list) -> dict:
    """Numbers of one basis; arrays over the graded structures as lists."""
    basis = build_potential(
        {"elements": [element], "cutoff": cutoff, **SERIES, "number_of_functions_per_element": size}
    )
    found = compare_indicators(basis, train, test, {"indicators": ["global", "own"], "clusters": 8})
    errors, star = np.array(found["errors"]["forces"]), found["outlier"]["forces"]
    gamma = np.array(found["indicators"]["global"]["values"])
    bad, inside = errors > star, gamma <= 1.0
    outliers = np.flatnonzero(bad)
    learnt = np.zeros(len(test))
    if len(outliers):
        refit = fit(basis, [*train, *(test[k] for k in outliers)], {})
        learnt[outliers] = force_errors(refit.potential, [test[k] for k in outliers])
    still = learnt > star
    return {
        "functions": size,
        "train_rmse": found["train"]["forces"]["rmse"],
        "test_rmse": found["test"]["forces"]["rmse"],
        "outlier": star,
        "n_outliers": len(outliers),
        "rates": {
            name: [entry["false_negative_rate"], entry["false_positive_rate"]]
            for name, entry in found["indicators"].items()
        },
        "largest": [float(errors[mask].max(initial=0.0)) for mask in (inside, ~inside)],
        "missed": [int((still & inside).sum()), int((bad & inside).sum())],
        "flagged": [int((still & ~inside).sum()), int((bad & ~inside).sum())],
        "errors": errors.tolist(),
        "gamma": gamma.tolist(),
        "learnt": learnt.tolist(),
    }


def table(rows: list[dict]) -> str:
    """Markdown; errors in meV/A, rates (misses / false alarms) in %."""
    lines = ["| " + " | ".join(HEAD) + " |", "| " + " | ".join(["---"] * len(HEAD)) + " |"]
    for row in rows:
        rates = [
            " / ".join("–" if rate is None else f"{100 * rate:.0f}" for rate in row["rates"][name])
            for name in ("global", "own")
        ]
        cells = [
            str(row["functions"]), f"{1e3 * row['train_rmse']:.0f} / {1e3 * row['test_rmse']:.0f}",
            f"{1e3 * row['outlier']:.0f}", str(row["n_outliers"]), *rates,
            " / ".join(f"{1e3 * e:.0f}" for e in row["largest"]),
            *(f"{row[key][0]} of {row[key][1]}" for key in ("missed", "flagged")),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def followed(rows: list[dict]) -> str:
    """Markdown: what becomes of the outliers missed with the fewest functions as functions are added, not data."""
    first = rows[0]
    missed = (np.array(first["errors"]) > first["outlier"]) & (np.array(first["gamma"]) <= 1.0)
    lines = ["| functions | median error, meV/Å | above the first e* | gamma above 1 |", "| --- | --- | --- | --- |"]
    for row in rows if missed.any() else ():
        errors, gamma = np.array(row["errors"])[missed], np.array(row["gamma"])[missed]
        counts = f"{(errors > first['outlier']).sum()} | {(gamma > 1.0).sum()}"
        lines.append(f"| {row['functions']} | {1e3 * np.median(errors):.0f} | {counts} |")
    return f"{missed.sum()} structures missed with {first['functions']} functions:\n\n" + "\n".join(lines)


def main() -> None:
    """Run all sets and sizes, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", nargs="+", default=["Cu-II", "W", "Cu"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[75, 150, 300, 732])
    parser.add_argument("--learn", type=int, default=400)
    parser.add_argument("--grade", type=int, default=200)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        element, cutoff, train, test = sets(given.data, name, given.learn, given.grade)
        rows = []
        for size in given.sizes:
            rows.append(one_size(element, cutoff, size, train, test))
            (given.out / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
            print(table(rows[-1:]).splitlines()[-1], flush=True)
        text = f"### {name}: {len(train)} learnt, {len(test)} graded\n\n{table(rows)}\n\n{followed(rows)}\n"
        print(text, flush=True)
        (given.out / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
