"""Linear against full extrapolation grade (Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Figs. 3 and 4).

One potential with two densities; gamma from the linear projections and from the full ones (gradient of the energy by
all coefficients), for the same environments, against the errors of the forces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.settings import setting
from aiida_aceal.fitting.calibration import spearman

from . import copper, plots
from .study import Finding, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

KINDS = ("linear", "full")


class LinearFullForm(copper.CopperForm):
    """Settings of the study."""

    functions: int = setting(150, "Functions of the basis.", ge=5)
    evaluations: int = setting(60, "Largest number of evaluations of the nonlinear fit.", ge=1)


def plan(form: LinearFullForm) -> list[Step]:
    """Jobs of the study."""
    size = form.functions / 150 * (form.train + form.test + form.wide) / 700
    steps = []
    for seed in form.seeds:
        steps.append(Step(f"fit, seed {seed}", 60 + 4.0 * form.evaluations * form.functions / 150 * form.train / 300))
        for kind in KINDS:
            steps += [Step(f"{kind} active set, seed {seed}", 15 + 20 * size)]
            steps += [Step(f"{kind} grades, seed {seed}", 15 + 20 * size)]
    return steps


def run(bench: Bench, form: LinearFullForm) -> Outcome:
    """Fit, build both active sets, grade; numbers of all seeds together, figure of the first."""
    frames = bench.read("Cu-II")
    found = []
    for seed in form.seeds:
        train, graded = copper.split(frames, form, seed)
        settings = {
            "method": "nonlinear", "reference_energies": "none", "nonlinear": {"evaluations": form.evaluations},
        }  # fmt: skip
        fit = bench.fit(f"fit, seed {seed}", copper.basis(form.functions, form.cutoff, 2), train, settings, seed)
        results = {}
        for kind in KINDS:
            active = bench.active_set(f"{kind} active set, seed {seed}", fit, train, {"kind": kind})
            results[kind] = bench.evaluate(f"{kind} grades, seed {seed}", fit, graded, active).frames
        found.append(collect(results))
    return conclude(found, form)


def collect(results: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    """Arrays over atoms (``error`` eV/A, ``linear``, ``full``, ``structure``, ``role``) that were not learnt."""
    columns: dict[str, list[Any]] = {name: [] for name in ("error", "structure", "role", *KINDS)}
    for k, pair in enumerate(zip(*(results[kind] for kind in KINDS))):
        atoms = pair[0]
        difference = atoms.get_forces() - atoms.arrays["reference_forces"]
        columns["error"].append(np.linalg.norm(difference, axis=1))
        columns["structure"].append(np.full(len(atoms), k))
        columns["role"].append(np.full(len(atoms), copper.ROLES.index(atoms.info["group"])))
        for kind, graded in zip(KINDS, pair):
            columns[kind].append(graded.arrays["gamma"])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def structures(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Largest grades and errors of each structure."""
    _, first = np.unique(found["structure"], return_index=True)
    return {name: np.maximum.reduceat(found[name], first) for name in ("error", "role", *KINDS)}


def numbers(found: dict[str, np.ndarray]) -> dict[str, float]:
    """What the findings are judged by, of one seed; structures and atoms that were not learnt."""
    new = found["role"] > 0
    whole = structures(found)
    unknown = whole["role"] > 0
    line, full = (whole[kind][unknown] for kind in KINDS)
    above = line > 10.0
    result = {
        "structures": int(unknown.sum()), "atoms": int(new.sum()),
        "same side of 1": float(np.mean((line > 1.0) == (full > 1.0))),
        "outside, linear": float(np.mean(line > 1.0)), "outside, full": float(np.mean(full > 1.0)),
        "rank correlation of the two": spearman(line, full),
        "correlation of their logarithms": float(np.corrcoef(np.log(line), np.log(full))[0, 1]),
        "above ten": int(above.sum()),
        "full / linear, linear above ten": float(np.median(full[above] / line[above])) if above.any() else float("nan"),
        "full / linear, linear 1 to 10": _ratio(full, line, (line > 1.0) & ~above),
    }  # fmt: skip
    error = found["error"][new]
    for kind in KINDS:
        gamma = found[kind][new]
        near, ten = error[gamma <= 1.0], error[(gamma > 5.0) & (gamma <= 20.0)]
        result[f"{kind}: rank correlation with the force error"] = spearman(gamma, error)
        result[f"{kind}: median error inside, meV/A"] = _median(near)
        result[f"{kind}: median error at 5 to 20, meV/A"] = _median(ten)
    return result


def _ratio(full: np.ndarray, line: np.ndarray, where: np.ndarray) -> float:
    return float(np.median(full[where] / line[where])) if where.any() else float("nan")


def _median(values: np.ndarray) -> float:
    return 1000 * float(np.median(values)) if len(values) else float("nan")


def conclude(found: list[dict[str, np.ndarray]], form: LinearFullForm) -> Outcome:
    """Means over the seeds, verdicts and figure."""
    each = [numbers(one) for one in found]
    mean = {key: _mean([one[key] for one in each]) for key in each[0]}
    same = mean["same side of 1"]
    ratio, below = mean["full / linear, linear above ten"], mean["full / linear, linear 1 to 10"]
    growth = {k: _over(mean[f"{k}: median error at 5 to 20, meV/A"], mean[f"{k}: median error inside, meV/A"])
              for k in KINDS}  # fmt: skip
    worst = max((g for g in growth.values() if g is not None), default=None)
    findings = [
        Finding(
            "Both grades divide interpolation from extrapolation nearly alike",
            "yes" if same >= 0.9 else "partly" if same >= 0.8 else "no",
            f"{100 * same:.0f} % of the structures on the same side; rank correlation "
            f"{mean['rank correlation of the two']:.2f}",
        ),
        Finding(
            "The full grade is the more conservative one, most of all above ten",
            "no" if ratio is None or ratio <= 1 else "yes" if below is None or ratio > below else "partly",
            f"median of full / linear: {_text(ratio)} where the linear grade is above ten "
            f"({mean['above ten']:.0f} structures), {_text(below)} between one and ten",
        ),
        Finding(
            "Errors stay small up to grades of about ten",
            "no" if worst is None or worst > 20 else "yes" if worst <= 5 else "partly",
            "median force error at grades of 5 to 20 over that inside: "
            + ", ".join(f"{kind} {_text(growth[kind])}" for kind in KINDS),
        ),
    ]
    table = Table(
        "Numbers, for each seed and their mean; structures and atoms that were not learnt",
        ("quantity", *(f"seed {seed}" for seed in form.seeds), "mean"),
        [(key, *(_finite(one[key]) for one in each), mean[key]) for key in mean],
    )
    image = plots.picture(lambda figure: draw(figure, found[0]), 11.0, 4.2)
    return Outcome(findings, [table], {"": image}, {"seeds": each, "mean": mean}, [copper.REMARK])


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _mean(values: list[float]) -> float | None:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else None


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def draw(figure: Any, found: dict[str, np.ndarray]) -> None:
    """Bands of the errors, distributions of errors and grades, and one grade against the other."""
    new = found["role"] > 0
    error = 1000 * np.maximum(found["error"][new], 1e-6)
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 3), width_ratios=(3, 1.2, 3))
    top, main, side = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    cross = figure.add_subplot(grid[:, 2])
    grades = np.concatenate([found[kind][new] for kind in KINDS])
    bins = np.geomspace(max(1e-3, grades.min()), grades.max() * 1.01, 40)
    levels = np.geomspace(max(0.1, error.min()), error.max() * 1.01, 40)
    for kind, color in zip(KINDS, plots.COLORS):
        gamma = found[kind][new]
        plots.steps(top, gamma, bins, color, kind)
        plots.band(main, gamma, error, color, kind)
        plots.steps(side, error[gamma > 1.0], levels, color, f"{kind}, γ > 1", sideways=True)
    inside = error[found["linear"][new] <= 1.0]
    side.hist(inside, levels, histtype="step", color="k", label="γ ≤ 1", orientation="horizontal")
    for axes in (top, main):
        axes.set_xscale("log")
        axes.set_xlim(bins[0], bins[-1])
        axes.axvline(1.0, color="0.5", linestyle=":")
    for axes in (main, side):
        axes.set_yscale("log")
        axes.set_ylim(levels[0], levels[-1])
    top.set(ylabel="atoms", yscale="log")
    main.set(xlabel="extrapolation grade γ of the atom", ylabel="force error (meV/Å)")
    main.legend(fontsize="small", title="median, 68 and 90 %", title_fontsize="small")
    side.set(xlabel="atoms", xscale="log", yticklabels=[])
    side.legend(fontsize="x-small")
    whole = structures(found)
    for role in (1, 2):
        chosen = whole["role"] == role
        cross.loglog(whole["linear"][chosen], whole["full"][chosen], ".", ms=4, color=plots.COLORS[1 + role],
                     label=copper.ROLES[role])  # fmt: skip
    ends = [0.9 * min(whole[kind].min() for kind in KINDS), 1.1 * max(whole[kind].max() for kind in KINDS)]
    cross.plot(ends, ends, color="0.5", lw=0.8)
    cross.axvline(1.0, color="0.5", linestyle=":")
    cross.axhline(1.0, color="0.5", linestyle=":")
    cross.set(xlabel="linear γ of the structure", ylabel="full γ of the structure")
    cross.legend(fontsize="small")


STUDY = Study(
    name="linear-full",
    title="Linear against full extrapolation grade, copper",
    figures="Lysogorskiy et al. 2023, Figs. 3 and 4",
    form=LinearFullForm,
    short={},
    full={"seeds": (0, 1, 2), "train": 450, "functions": 300, "evaluations": 400},
    plan=plan,
    run=run,
    sources=("Cu-II",),
)
