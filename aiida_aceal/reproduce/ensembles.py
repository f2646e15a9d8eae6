"""Weak against strong ensembles (Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), App. B and Fig. 12).

Nonlinear fits with two densities. Members of the weak ensemble share the radial functions and differ in their
coefficients, those of the strong one differ in the radial functions too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.settings import setting

from . import copper, grades, plots
from .study import Finding, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

METHODS = ("weak", "strong")


class EnsemblesForm(copper.CopperForm):
    """Settings of the study."""

    train: int = setting(80, "Structures that are learnt.", ge=2)
    test: int = setting(80, "Structures of the same kind that are graded.", ge=1)
    wide: int = setting(150, "Structures above the limit that are graded.", ge=1)
    functions: int = setting(40, "Functions of the basis.", ge=5)
    cutoff: float = setting(6.0, "Of the potential.", unit="A", gt=0)
    evaluations: int = setting(30, "Largest number of evaluations of the nonlinear fit.", ge=1)
    members: int = setting(4, "Members of each ensemble.", ge=2)


def plan(form: EnsemblesForm) -> list[Step]:
    """Jobs of the study."""
    work = form.functions / 40 * form.train / 80
    steps = []
    for seed in form.seeds:
        for method in METHODS:
            each = 30 + 0.25 * work * form.evaluations * (1 + 2 * form.members)
            steps += [Step(f"{method} ensemble, seed {seed}", each), Step(f"{method} deviations, seed {seed}", 15)]
    return steps


def run(bench: Bench, form: EnsemblesForm) -> Outcome:
    """Both ensembles on the same structures; the figure is that of the first seed."""
    frames = bench.read("Cu-II")
    rows, first = [], None
    for seed in form.seeds:
        train, graded = copper.split(frames, form, seed)
        basis = copper.basis(form.functions, form.cutoff, 2)
        found, thresholds, seconds = {}, {}, {}
        for method in METHODS:
            settings = {
                "method": "nonlinear", "reference_energies": "none", "nonlinear": {"evaluations": form.evaluations},
                "ensemble": {"members": form.members, "method": method},
            }  # fmt: skip
            fit = bench.fit(f"{method} ensemble, seed {seed}", basis, train, settings, seed)
            result = bench.evaluate(f"{method} deviations, seed {seed}", fit, graded, ensemble=fit.ensemble)
            found[method] = grades.per_structure(result.frames, copper.ROLES)
            thresholds[method] = result.report["ensemble"]["thresholds"]
            seconds[method] = result.report["seconds"]
        rows.append({"seed": seed, **numbers(found, thresholds), "seconds": seconds})
        first = first or (found, thresholds)
    return conclude(rows, first, form)


def numbers(found: dict[str, dict[str, np.ndarray]], thresholds: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Agreement of the two, of one seed; structures that were not learnt and whose forces do not vanish."""
    weak, strong = (found[method] for method in METHODS)
    new = (weak["role"] > 0) & ~weak["vanish"]
    row: dict[str, Any] = {"structures": int(new.sum())}
    for key, error, limit in (("dF", "forces", "forces"), ("dE", "energy", "energy")):
        a, b = weak[key][new], strong[key][new]
        row[f"{key}: rank correlation of the two"] = grades.correlation(a, b)
        row[f"{key}: strong / weak"] = float(np.exp(np.mean(np.log(np.maximum(b, 1e-9) / np.maximum(a, 1e-9)))))
        for method in METHODS:
            one = found[method]
            row[f"{key}: rank correlation with the error, {method}"] = grades.correlation(
                one[key][new], one[error][new]
            )
            star, threshold = grades.outliers(one)[error], thresholds[method].get(limit)
            rates = (None, None) if threshold is None else grades.rates(one[error][new], star, one[key][new], threshold)
            row[f"{key}: missed, {method}"], row[f"{key}: false alarms, {method}"] = rates
    return row


def conclude(rows: list[dict[str, Any]], first: Any, form: EnsemblesForm) -> Outcome:
    """Verdicts on the means over the seeds."""

    def mean(key: str) -> float | None:
        values = [row[key] for row in rows if row[key] is not None]
        return float(np.mean(values)) if values else None

    both = [mean(f"{key}: rank correlation of the two") for key in ("dF", "dE")]
    known = all(v is not None for v in both)
    skill = [mean(f"dF: rank correlation with the error, {method}") for method in METHODS]
    findings = [
        Finding(
            "The weak ensemble gives much the same as the strong one",
            "yes" if known and min(both) >= 0.8 else "partly" if known and max(both) >= 0.8 else "no",
            f"rank correlation of their deviations: dF {_two(both[0])}, dE {_two(both[1])}; with the force error: weak "
            f"{_two(skill[0])}, strong {_two(skill[1])}",
        ),
        Finding(
            "The weak ensemble is the cheaper one to evaluate",
            "yes" if all(r["seconds"]["weak"] < r["seconds"]["strong"] for r in rows) else "no",
            "energies and forces of all structures, wall time of one job each: "
            + ", ".join(f"{r['seconds']['weak']:.1f} against {r['seconds']['strong']:.1f} s" for r in rows),
        ),
    ]
    keys = [key for key in rows[0] if key not in ("seed", "seconds")]
    table = Table(
        "Each seed", ("quantity", *(f"seed {row['seed']}" for row in rows)), [(k, *(r[k] for r in rows)) for k in keys]
    )
    image = plots.picture(lambda figure: draw(figure, *first), 10.0, 3.6)
    return Outcome(findings, [table], {"": image}, {"seeds": rows}, [copper.REMARK])


def _two(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def draw(figure: Any, found: dict[str, dict[str, np.ndarray]], thresholds: dict[str, dict[str, float]]) -> None:
    """Force errors against dF of each, and one against the other."""
    axes = figure.subplots(1, 3)
    for place, method in zip(axes, METHODS):
        one = found[method]
        for k, role in enumerate(copper.ROLES):
            chosen = (one["role"] == k) & ~one["vanish"]
            place.loglog(1000 * one["dF"][chosen], 1000 * one["forces"][chosen], ".", ms=4, alpha=0.6,
                         color=plots.COLORS[k], label=role)  # fmt: skip
        if "forces" in thresholds[method]:
            place.axvline(1000 * thresholds[method]["forces"], color="0.4", linestyle=":")
        place.set(xlabel=f"dF, {method} ensemble (meV/Å)", ylabel="force error (meV/Å)")
    axes[0].legend(fontsize="small")
    moved = ~found["weak"]["vanish"]
    axes[2].loglog(1000 * found["weak"]["dF"][moved], 1000 * found["strong"]["dF"][moved], ".", ms=4, color="0.3")
    axes[2].set(xlabel="dF, weak (meV/Å)", ylabel="dF, strong (meV/Å)")


STUDY = Study(
    name="ensembles",
    title="Weak against strong ensembles, copper",
    figures="Lysogorskiy et al. 2023, App. B and Fig. 12",
    form=EnsemblesForm,
    short={},
    full={"seeds": (0, 1, 2), "train": 450, "wide": 300, "functions": 150, "cutoff": 7.0, "evaluations": 300,
          "members": 10},
    plan=plan,
    run=run,
    sources=("Cu-II",),
)  # fmt: skip
