"""Errors against gamma, dE and dF (Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Figs. 1, 2 and 11).

Linear fits of one series of functions, cut at several sizes. Of each: an active set and an ensemble from the same
structures, which grade these, others of the same kind, and a wider set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.settings import setting

from . import copper, grades, plots
from .study import Finding, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench


class IndicatorsForm(copper.CopperForm):
    """Settings of the study."""

    sizes: tuple[int, ...] = setting((75, 150, 300, 732), "Functions of each basis.", ge=5, items=(1, None))
    members: int = setting(8, "Members of the ensemble.", ge=2)


def plan(form: IndicatorsForm) -> list[Step]:
    """Jobs of the study."""
    graded = (form.train + form.test + form.wide) / 700
    steps = []
    for seed in form.seeds:
        for size in form.sizes:
            name, work = f"{size} functions, seed {seed}", size / 150
            steps += [
                Step(f"fit and ensemble, {name}", 15 + 12 * work * form.train / 300),
                Step(f"active set, {name}", 10 + 5 * work * form.train / 300),
                Step(f"grades, {name}", 15 + 20 * work * graded),
            ]
    return steps


def run(bench: Bench, form: IndicatorsForm) -> Outcome:
    """All sizes and seeds."""
    frames = bench.read("Cu-II")
    rows, first = [], None
    for seed in form.seeds:
        train, graded = copper.split(frames, form, seed)
        for size in form.sizes:
            name = f"{size} functions, seed {seed}"
            settings = {"reference_energies": "none", "ensemble": {"members": form.members}}
            fit = bench.fit(f"fit and ensemble, {name}", copper.basis(size, form.cutoff), train, settings, seed)
            active = bench.active_set(f"active set, {name}", fit, train)
            result = bench.evaluate(f"grades, {name}", fit, graded, active, fit.ensemble)
            found = grades.per_structure(result.frames, copper.ROLES)
            thresholds = result.report["ensemble"]["thresholds"]
            limits = {"gamma": grades.INSIDE, "dE": thresholds.get("energy"), "dF": thresholds.get("forces")}
            limits = {key: value for key, value in limits.items() if value is not None}
            row = numbers(found, limits)
            if size == form.sizes[0]:  # one size says it: no other uses them
                members = fit.ensemble.get_ensemble().potentials
                site = grades.site_deviation(members, result.frames, bench.threads)
                row["site energies"] = grades.correlation(site, found["energy"])
                if first is None:
                    first = {"found": {**found, "site": site}, "limits": limits, "size": size}
            rows.append({"seed": seed, "functions": size, **row})
    return conclude(rows, first, form)


def numbers(found: dict[str, np.ndarray], limits: dict[str, float]) -> dict[str, Any]:
    """What one basis gives; rates are those of structures that were not learnt."""
    star = grades.outliers(found)
    learnt, new = found["role"] == 0, found["role"] > 0
    row: dict[str, Any] = {
        "train_rmse": float(np.sqrt(np.mean(found["forces"][learnt] ** 2))),
        "outlier_forces": star["forces"], "outlier_energy": star["energy"],
        "outliers": int((found["forces"][new] > star["forces"]).sum()),
    }  # fmt: skip
    for threshold in grades.THRESHOLDS:
        limit = max(threshold, grades.INSIDE)
        for error in ("forces", "energy"):
            miss, alarm = grades.rates(found[error][new], star[error], found["gamma"][new], limit)
            row[f"gamma {threshold:g} {error}"] = [miss, alarm]
    for indicator, error in (("dF", "forces"), ("dE", "energy")):
        known = indicator in limits
        row[indicator] = (
            list(grades.rates(found[error][new], star[error], found[indicator][new], limits[indicator]))
            if known else [None, None]
        )  # fmt: skip
    for name, indicator, error in (
        ("gamma, forces", "gamma", "forces"), ("gamma, energy", "gamma", "energy"), ("dF, forces", "dF", "forces"),
        ("dE, energy", "dE", "energy"),
    ):  # fmt: skip
        row[f"rank {name}"] = grades.correlation(found[indicator], found[error])
    inside = new & (found["gamma"] <= grades.INSIDE)
    row["inside"] = int(inside.sum())
    row["largest inside"] = float(found["forces"][inside].max()) if inside.any() else None
    row["largest outside"] = float(found["forces"][new & ~inside].max()) if (new & ~inside).any() else None
    high = [float(np.quantile(found["forces"][part], 0.95)) if part.any() else None for part in (inside, learnt)]
    row["inside over learnt"] = high[0] / high[1] if high[0] is not None and high[1] else None
    return row


def conclude(rows: list[dict[str, Any]], first: dict[str, Any], form: IndicatorsForm) -> Outcome:
    """Verdicts on all bases and seeds, tables, figures."""
    misses = _of(rows, lambda r: r["gamma 1 forces"][0])
    alarms = _of(rows, lambda r: r["gamma 1 forces"][1])
    missed_ensemble = _of(rows, lambda r: r["dF"][0])
    inside = _of(rows, lambda r: r["inside over learnt"])
    site = _of(rows, lambda r: r.get("site energies"))
    dE = _of([r for r in rows if "site energies" in r], lambda r: r["rank dE, energy"])
    findings = [
        _finding("No large force error where gamma does not exceed 1 (no false negatives)", misses, 0.01, 0.1,
                 "missed outliers by basis and seed: " + _percents(misses)),
        _finding("No large force error where dF does not exceed its threshold", missed_ensemble, 0.01, 0.1,
                 "missed outliers by basis and seed: " + _percents(missed_ensemble)),
        _finding("Interpolated structures have errors like those that were learnt", inside, 1.5, 3.0,
                 "95 % quantile of their force errors over that of the learnt ones: " + _plain(inside)),
        _finding("False positives are few", alarms, 0.25, 0.5,
                 "false alarms at gamma 1 by basis and seed: " + _percents(alarms)),
        Finding(
            "Deviations of site energies do not correlate with the energy error",
            "no" if not site or min(abs(v) for v in site) > 0.5 else "yes" if max(abs(v) for v in site) < 0.3
            else "partly",
            f"rank correlation {_plain(site)} (dE of whole structures: {_plain(dE)})",
        ),
    ]  # fmt: skip
    tables = [
        Table(
            "Missed outliers / false alarms (%) of structures that were not learnt, forces above, energies below",
            ("functions", "seed", "errors", "e* (meV)", *(f"γ > {t:g}" for t in grades.THRESHOLDS), "ensemble"),
            [line for row in rows for line in _rates(row)],
        ),
        Table(
            "Rank correlation with errors, and largest force errors (meV/Å) inside and outside γ = 1",
            ("functions", "seed", "γ, forces", "γ, energy", "dF, forces", "dE, energy", "inside", "largest inside",
             "largest outside"),
            [
                (r["functions"], r["seed"], *(r[f"rank {k}"] for k in _RANKS), r["inside"],
                 *(None if r[k] is None else 1000 * r[k] for k in ("largest inside", "largest outside")))
                for r in rows
            ],
        ),
    ]  # fmt: skip
    found, limits = first["found"], first["limits"]
    figures = {
        "errors": plots.picture(lambda f: grades.draw_errors(f, found, copper.ROLES, limits), 8.0, 6.0),
        "histograms": plots.picture(lambda f: grades.draw_histograms(f, found, copper.ROLES, limits), 11.0, 6.0),
        "site-energies": plots.picture(lambda f: draw_sites(f, found), 8.0, 3.6),
    }
    shown = f"Figures: {first['size']} functions, seed {form.seeds[0]}."
    ensembles = f"Ensembles: {form.members} linear fits with random weights of the structures (Bayesian bootstrap)."
    return Outcome(findings, tables, figures, {"bases": rows}, [copper.REMARK, ensembles, shown])


_RANKS = ("gamma, forces", "gamma, energy", "dF, forces", "dE, energy")


def _of(rows: list[dict[str, Any]], key: Any) -> list[float]:
    return [value for value in map(key, rows) if value is not None]


def _finding(claim: str, values: list[float], good: float, fair: float, text: str) -> Finding:
    """By the mean over bases and seeds."""
    mean = float(np.mean(values)) if values else None
    verdict = "no" if mean is None or mean > fair else "yes" if mean <= good else "partly"
    return Finding(claim, verdict, text)


def _percents(values: list[float]) -> str:
    return ", ".join(f"{100 * v:.0f} %" for v in values) or "none"


def _plain(values: list[float]) -> str:
    return ", ".join(f"{v:.2f}" for v in values) or "none"


def _rates(row: dict[str, Any]) -> list[tuple[Any, ...]]:
    lines = []
    for error, ensemble in (("forces", "dF"), ("energy", "dE")):
        cells = [row[f"gamma {t:g} {error}"] for t in grades.THRESHOLDS] + [row[ensemble]]
        text = [" / ".join("–" if v is None else f"{100 * v:.0f}" for v in pair) for pair in cells]
        lines.append((row["functions"], row["seed"], error, 1000 * row[f"outlier_{error}"], *text))
    return lines


def draw_sites(figure: Any, found: dict[str, np.ndarray]) -> None:
    """Energy error against the deviation of site energies, and against that of the structure's energy."""
    left, right = figure.subplots(1, 2, sharey=True)
    for place, key, label in ((left, "site", "largest deviation of a site energy (meV)"),
                              (right, "dE", "dE of the structure (meV/atom)")):  # fmt: skip
        for k, role in enumerate(copper.ROLES):
            chosen = found["role"] == k
            place.loglog(np.maximum(1000 * found[key][chosen], 1e-3), np.maximum(1000 * found["energy"][chosen], 1e-3),
                         ".", ms=3, alpha=0.6, color=plots.COLORS[k], label=role)  # fmt: skip
        place.set_xlabel(label)
    left.set_ylabel("energy error (meV/atom)")
    left.legend(fontsize="small")


STUDY = Study(
    name="indicators",
    title="Errors against grades and ensembles, copper",
    figures="Lysogorskiy et al. 2023, Figs. 1, 2 and 11",
    form=IndicatorsForm,
    short={},
    full={"seeds": (0, 1, 2, 3, 4), "train": 450, "members": 10},
    plan=plan,
    run=run,
    sources=("Cu-II",),
)
