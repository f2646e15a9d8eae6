"""Learning curves side by side: means with confidence intervals, labels needed, saving, significance.

Errors are positive and spread over decades, so that means, intervals and tests are those of their logarithms: the mean
is geometric, and a difference of logarithms is a ratio to the baseline. Seeds are paired: all strategies of one seed
start from the same structures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from aiida_aceal.common.errors import AceError

#: errors that are compared, with their units
METRICS = {"forces_rmse": "eV/A", "forces_max": "eV/A", "energy_rmse": "eV/atom", "energy_max": "eV/atom"}
#: from this number of pairs on, the signed-rank test can reach p < 0.05 (two-sided)
WILCOXON_PAIRS = 6


def interval(values: np.ndarray, level: float = 0.95) -> dict[str, float | None]:
    """Geometric mean and its confidence interval (Student's t on the logarithms); no interval for one value."""
    logs = np.log(np.maximum(np.asarray(values, dtype=float), 1e-300))
    centre = float(logs.mean())
    result: dict[str, float | None] = {"mean": float(np.exp(centre)), "low": None, "high": None}
    if len(logs) > 1:
        half = float(stats.t.ppf(0.5 + level / 2, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
        result.update(low=float(np.exp(centre - half)), high=float(np.exp(centre + half)))
    return result


def paired_test(ours: np.ndarray, theirs: np.ndarray, level: float = 0.95) -> dict[str, Any]:
    """Ratio of errors to the baseline over paired seeds, with its interval and two-sided p-values.

    ``p_t``: paired t-test on the logarithms; ``p_wilcoxon``: signed-rank test (exact), from `WILCOXON_PAIRS` seeds on.
    """
    difference = np.log(np.maximum(ours, 1e-300)) - np.log(np.maximum(theirs, 1e-300))
    result: dict[str, Any] = {"n": len(difference), "wins": int((difference < 0).sum()), "p_t": None}
    result["ratio"] = interval(np.exp(difference), level)
    result["p_wilcoxon"] = None
    if len(difference) > 1:
        spread = float(difference.std(ddof=1))
        if spread > 1e-12:
            result["p_t"] = float(stats.ttest_1samp(difference, 0.0).pvalue)
        else:
            result["p_t"] = 1.0 if abs(float(difference.mean())) < 1e-12 else 0.0
    if len(difference) >= WILCOXON_PAIRS and np.any(difference != 0.0):
        result["p_wilcoxon"] = float(stats.wilcoxon(difference).pvalue)
    return result


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for several comparisons with one baseline (Holm's step-down)."""
    order = sorted(p_values, key=p_values.__getitem__)
    corrected, largest = {}, 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def labels_needed(amounts: np.ndarray, errors: np.ndarray, target: float) -> float | None:
    """Where the curve first falls to ``target``: linear in the logarithms between points, None if it never does."""
    amounts, errors = np.asarray(amounts, dtype=float), np.asarray(errors, dtype=float)
    if errors[0] <= target * (1 + 1e-12):
        return float(amounts[0])
    for k in range(1, len(errors)):
        if errors[k] <= target * (1 + 1e-12):
            x, y = np.log(amounts[k - 1 : k + 1]), np.log(np.maximum(errors[k - 1 : k + 1], 1e-300))
            return float(np.exp(x[0] + (x[1] - x[0]) * (np.log(target) - y[0]) / (y[1] - y[0])))
    return None


def summarise(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    baseline: str = "random",
    targets: Mapping[str, Sequence[float]] | None = None,
    level: float = 0.95,
) -> dict[str, Any]:
    """Compare the learning curves of several strategies.

    :param curves: label of the strategy -> its curves (results of `learning_curve`), one for each seed.
    :param baseline: label that all others are compared with.
    :param targets: metric -> errors whose needed labels are asked for (default: what the baseline reaches, on average
        over the seeds, at its last and at its middle size).
    :returns: JSON types. ``order``: labels, the baseline first.
        ``strategies``: label -> ``points`` (one for each size: ``n_structures``, ``n_atoms`` (means),
        and for each of `METRICS` ``mean``, ``low``, ``high``, and ``vs`` the result of `paired_test`), ``needed``
        (metric -> one entry for each target), ``overall`` (metric -> paired test of the mean logarithm over all sizes
        but the start, with ``p_holm``), ``seconds``.
    :raises AceError: no curve of the baseline, other sizes or seeds than the baseline.
    """
    if baseline not in curves or not curves[baseline]:
        raise AceError(f"the baseline {baseline!r} is not among the strategies {', '.join(sorted(curves))}")
    reference = _table(baseline, curves[baseline])
    seeds = reference["seeds"]
    result: dict[str, Any] = {
        "baseline": baseline,
        "level": level,
        "seeds": seeds,
        "sizes": reference["sizes"],
        "unit": curves[baseline][0]["unit"],
        "n_pool": curves[baseline][0]["n_pool"],
        "n_test": curves[baseline][0]["n_test"],
        "metrics": dict(METRICS),
        "test": "paired t-test on logarithms of errors, seeds paired by their start; p_holm: Holm over the strategies; "
        f"p_wilcoxon: exact signed-rank test, from {WILCOXON_PAIRS} seeds on",
        # a data base may reorder the keys of a mapping
        "order": [baseline, *(name for name in curves if name != baseline)],
        "strategies": {},
    }
    wanted = targets or {}
    aims = {}
    for metric in METRICS:
        mean = np.exp(np.log(np.maximum(reference[metric], 1e-300)).mean(axis=0))
        given = [float(t) for t in wanted.get(metric, ())]
        aims[metric] = given or [float(mean[-1]), float(mean[len(mean) // 2])][: max(1, len(mean) - 1)]
    result["targets"] = aims
    for label in result["order"]:
        table = _table(label, curves[label])
        if table["seeds"] != seeds or table["sizes"] != reference["sizes"]:
            raise AceError(
                f"{label}: has the seeds {table['seeds']} and sizes {table['sizes']}, the baseline {seeds} and "
                f"{reference['sizes']}; only curves of the same seeds and sizes can be compared"
            )
        result["strategies"][label] = _strategy(table, reference, label == baseline, aims, level)
    _correct(result, baseline)
    _savings(result, baseline)
    return result


def _table(label: str, curves: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Arrays [seeds, sizes] of one strategy, seeds in ascending order."""
    ordered = sorted(curves, key=lambda curve: curve["seed"])
    if len({tuple(p["size"] for p in curve["points"]) for curve in ordered}) != 1:
        raise AceError(f"{label}: its curves have different sizes")
    points = [curve["points"] for curve in ordered]
    table: dict[str, Any] = {
        "seeds": [int(curve["seed"]) for curve in ordered],
        "sizes": [int(p["size"]) for p in points[0]],
        "strategy": ordered[0]["strategy"],
        "options": dict(ordered[0].get("options") or {}),
        "seconds": np.array([curve["seconds"] for curve in ordered]),
        "select": np.array([sum(p["seconds"].get("select", 0.0) for p in row) for row in points]),
        "n_random": np.array([[p.get("n_random", 0) for p in row] for row in points]),
    }
    if len(set(table["seeds"])) != len(table["seeds"]):
        raise AceError(f"{label}: two curves have the same seed ({table['seeds']})")
    for key in ("n_structures", "n_atoms", *METRICS):
        table[key] = np.array([[p[key] for p in row] for row in points], dtype=float)
    return table


def _strategy(
    table: Mapping[str, Any], reference: Mapping[str, Any], is_baseline: bool, aims: Mapping[str, list], level: float
) -> dict[str, Any]:
    points = []
    for k, size in enumerate(table["sizes"]):
        point: dict[str, Any] = {
            "size": size,
            "n_structures": float(table["n_structures"][:, k].mean()),
            "n_atoms": float(table["n_atoms"][:, k].mean()),
            "n_random": float(table["n_random"][:, k].mean()),
        }
        for metric in METRICS:
            values = table[metric][:, k]
            point[metric] = {**interval(values, level), "seeds": [float(v) for v in values]}
            # at the first size all are the same: there is nothing to test
            if not is_baseline and k > 0:
                point[metric]["vs"] = paired_test(values, reference[metric][:, k], level)
        points.append(point)
    entry: dict[str, Any] = {
        "strategy": table["strategy"],
        "options": table["options"],
        "points": points,
        "needed": {metric: [_needed(table, metric, aim) for aim in aims[metric]] for metric in METRICS},
        "seconds": {"total": float(table["seconds"].mean()), "select": float(table["select"].mean())},
    }
    if not is_baseline:
        entry["overall"] = {
            metric: paired_test(_overall(table[metric]), _overall(reference[metric]), level) for metric in METRICS
        }
    return entry


def _overall(errors: np.ndarray) -> np.ndarray:
    """[seeds] geometric mean over all sizes but the start."""
    return np.exp(np.log(np.maximum(errors[:, 1:], 1e-300)).mean(axis=1))


def _needed(table: Mapping[str, Any], metric: str, target: float) -> dict[str, Any]:
    """Structures and atoms at which the mean curve reaches ``target``, and in how many seeds the own curve does."""
    mean = np.exp(np.log(np.maximum(table[metric], 1e-300)).mean(axis=0))
    reached = [labels_needed(x, y, target) is not None for x, y in zip(table["n_structures"], table[metric])]
    return {
        "target": target,
        "structures": labels_needed(table["n_structures"].mean(axis=0), mean, target),
        "atoms": labels_needed(table["n_atoms"].mean(axis=0), mean, target),
        "n_reached": int(sum(reached)),
        "n_seeds": len(reached),
    }


def _correct(result: dict[str, Any], baseline: str) -> None:
    others = {name: entry for name, entry in result["strategies"].items() if name != baseline}
    for metric in METRICS:
        raw = {n: e["overall"][metric]["p_t"] for n, e in others.items() if e["overall"][metric]["p_t"] is not None}
        corrected = holm(raw)
        for name, entry in others.items():
            entry["overall"][metric]["p_holm"] = corrected.get(name)


def _savings(result: dict[str, Any], baseline: str) -> None:
    """Part of the baseline's labels (atoms) that a strategy does not need for the same error."""
    base = result["strategies"][baseline]["needed"]
    for entry in result["strategies"].values():
        for metric in METRICS:
            for own, theirs in zip(entry["needed"][metric], base[metric]):
                for unit in ("structures", "atoms"):
                    both = own[unit] is not None and theirs[unit] is not None
                    own[f"saving_{unit}"] = 1.0 - own[unit] / theirs[unit] if both else None
