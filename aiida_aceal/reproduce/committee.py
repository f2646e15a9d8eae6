"""Query by committee with four strategies on pools of C, Si, Fe and TiO2 (Khan, D'Souza and Choyal).

Learning curves of random, uncertainty, diversity and hybrid selection; the uncertainty is that of a committee, an
ensemble refitted at every size. Labels saved with bootstrap intervals over the seeds, paired tests against random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting
from aiida_aceal.selection.summary import labels_needed, summarise

from . import plots
from .study import Finding, Form, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

STRATEGIES = ("random", "uncertainty", "diversity", "hybrid")
#: pool -> elements, cutoff (A), where it comes from (None: made here)
POOLS: Mapping[str, tuple[tuple[str, ...], float, str | None]] = {
    "C": (("C",), 4.5, None),
    "Si": (("Si",), 5.5, "Si training"),
    "Fe": (("Fe",), 5.0, "Fe"),
    "TiO2": (("O", "Ti"), 5.0, "TiO2"),
}
#: of DFT sets, in eV/A: beyond it labels are not those of structures anybody would simulate
LARGEST_FORCE = 20.0
METRIC = "forces_rmse"


class CommitteeForm(Form):
    """Settings of the study."""

    pools: tuple[str, ...] = setting(tuple(POOLS), "Pools.", choices=lambda: POOLS, items=(1, None))
    pool: int = setting(150, "Structures to choose from.", ge=10)
    test: int = setting(50, "Structures that are never chosen.", ge=2)
    max_atoms: int = setting(64, "Larger structures are left out.", ge=1)
    sizes: tuple[int, ...] = setting((8, 16, 32, 64), "Sizes of the training set; the first is random.", ge=1)
    functions: int = setting(60, "Functions for each element.", ge=4)
    members: int = setting(5, "Members of the committee.", ge=2)
    bootstrap: int = setting(2000, "Samples of the seeds for the intervals.", ge=10)


def plan(form: CommitteeForm) -> list[Step]:
    """Jobs of the study."""
    steps = []
    for name in form.pools:
        if POOLS[name][2] is None:
            steps.append(Step(f"{name}: labels by GFN1-xTB", 20 + 0.4 * (form.pool + form.test)))
        work = form.functions / 60 * len(POOLS[name][0]) * (form.pool + form.test) / 200
        for seed in form.seeds:
            for strategy in STRATEGIES:
                factor = 0.6 if strategy == "random" else 1.0
                steps.append(Step(_label(name, strategy, seed), 8 + 15 * factor * work))
    return steps


def _label(name: str, strategy: str, seed: int) -> str:
    return f"{name}: {strategy}, seed {seed}"


def run(bench: Bench, form: CommitteeForm) -> Outcome:
    """All pools, one after the other."""
    summaries, curves = {}, {}
    for name in form.pools:
        elements, cutoff, source = POOLS[name]
        if source is None:
            frames = bench.label(f"{name}: labels by GFN1-xTB", carbon(form.pool + form.test), XTB)
        else:
            frames = bench.read(source)
        pool, test = halves(frames, form, name)
        basis = {
            "elements": list(elements), "cutoff": cutoff, "nradmax_by_orders": [10, 4, 3],
            "lmax_by_orders": [0, 3, 2], "number_of_functions_per_element": form.functions,
        }  # fmt: skip
        settings = {"sizes": list(form.sizes), "ensemble": {"members": form.members}}
        curves[name] = {strategy: [] for strategy in STRATEGIES}
        for seed in form.seeds:
            for strategy in STRATEGIES:
                curves[name][strategy].append(
                    bench.learning_curve(
                        _label(name, strategy, seed), basis, pool, test, {**settings, "strategy": strategy}, seed
                    )
                )
        summaries[name] = summarise(curves[name])
    saved = {name: {s: savings(curves[name], s, form.bootstrap) for s in STRATEGIES[1:]} for name in form.pools}
    return conclude(summaries, saved, form)


XTB = {"calculator": "tblite", "kwargs": {"method": "GFN1-xTB"}}


def carbon(count: int) -> list[Atoms]:
    """Diamond, strained and shaken, graphene sheets, and melted cells, 8 to 16 atoms."""
    rng = np.random.default_rng(0)
    found: list[Atoms] = []
    while len(found) < count:
        kind = len(found) % 4
        if kind < 2:
            atoms = bulk("C", "diamond", a=3.567, cubic=True)
        else:
            atoms = _sheet()
        strain = np.eye(3) + rng.normal(0.0, 0.03, (3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.05 if kind % 2 == 0 else 0.18, atoms.positions.shape)
        nearest = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
        if nearest.min() > 1.0:
            atoms.info["group"] = ("diamond", "hot diamond", "graphene", "hot graphene")[kind]
            found.append(atoms)
    return found


def _sheet() -> Atoms:
    """Two layers of graphene, 16 atoms, 3.4 Angstrom apart."""
    a = 2.46
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 6.8]]
    places = [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25), (0, 0, 0.75), (2 / 3, 1 / 3, 0.75)]
    return Atoms("C4", scaled_positions=places, cell=cell, pbc=True).repeat((2, 2, 1))


def halves(frames: Sequence[Atoms], form: CommitteeForm, name: str) -> tuple[list[Atoms], list[Atoms]]:
    """Pool and test set, drawn at random with a fixed seed.

    :raises AceError: too few structures
    """
    usable = [
        atoms for atoms in frames
        if len(atoms) <= form.max_atoms and np.abs(atoms.get_forces()).max() <= LARGEST_FORCE
    ]  # fmt: skip
    if len(usable) < form.pool + form.test:
        raise AceError(
            f"{name}: {len(usable)} structures of at most {form.max_atoms} atoms, but {form.pool} + {form.test} are "
            "wanted; take smaller numbers or a larger max_atoms"
        )
    order = np.random.default_rng(0).permutation(len(usable))
    pool, test = order[: form.pool], order[form.pool : form.pool + form.test]
    return [usable[k] for k in sorted(pool)], [usable[k] for k in sorted(test)]


def savings(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], strategy: str, samples: int, level: float = 0.95
) -> dict[str, Any]:
    """Part of the labels that a strategy saves against random selection, with a bootstrap interval over the seeds.

    Of every sample of the seeds: the error that random selection reaches at its last size, on the geometric mean of its
    curves, and the number of structures at which the mean curve of the strategy comes down to it. A curve that does not
    is counted as needing as many as the last size at least, a saving of 0 at most.
    """
    ours, theirs = (
        np.log([[p[METRIC] for p in c["points"]] for c in curves[name]]) for name in (strategy, "random")
    )  # fmt: skip
    amounts = np.array([p["n_structures"] for p in curves["random"][0]["points"]], dtype=float)

    def saving(seeds: np.ndarray) -> tuple[float, bool]:
        target = float(np.exp(theirs[seeds].mean(axis=0)[-1]))
        mine = np.exp(ours[seeds].mean(axis=0))
        needed = labels_needed(amounts, mine, target)
        return (0.0, False) if needed is None else (1.0 - needed / amounts[-1], True)

    n = len(ours)
    value, reached = saving(np.arange(n))
    rng = np.random.default_rng(0)
    drawn = [saving(rng.integers(n, size=n)) for _ in range(samples)]
    low, high = np.quantile([v for v, _ in drawn], [(1 - level) / 2, (1 + level) / 2])
    return {
        "saving": value, "reached": reached, "low": float(low), "high": float(high),
        "reached in": float(np.mean([r for _, r in drawn])),
    }  # fmt: skip


def conclude(summaries: dict[str, Any], saved: dict[str, Any], form: CommitteeForm) -> Outcome:
    """Verdicts over the pools, table, learning curves."""
    tests = {
        name: {s: summary["strategies"][s]["overall"][METRIC] for s in STRATEGIES[1:]}
        for name, summary in summaries.items()
    }
    diversity = {name: tests[name]["diversity"] for name in tests}
    better = [name for name, t in diversity.items() if t["ratio"]["mean"] < 1.0]
    sure = [name for name, t in diversity.items() if t["ratio"]["mean"] < 1.0 and (t["p_holm"] or 1.0) < 0.05]
    worse = [name for name, t in diversity.items() if t["ratio"]["mean"] > 1.0 and (t["p_holm"] or 1.0) < 0.05]
    share = len(better) / len(diversity)
    inside = [name for name in saved if saved[name]["diversity"]["saving"] > 0.0]
    findings = [
        Finding(
            "Diversity sampling has lower errors than random sampling",
            "no" if share < 0.5 or worse else "yes" if share == 1.0 else "partly",
            "force RMSE over that of random, all sizes but the start: "
            + ", ".join(f"{name} {t['ratio']['mean']:.2f} (p {_p(t['p_holm'])})" for name, t in diversity.items())
            + f"; significant in {len(sure)} of {len(diversity)} pools",
        ),
        Finding(
            "It needs 5 to 13 % fewer labels for the same accuracy",
            "yes" if len(inside) == len(saved) else "partly" if inside else "no",
            ", ".join(f"{name} {_saving(saved[name]['diversity'])}" for name in saved),
        ),
    ]
    if "TiO2" in diversity:
        ratio = diversity["TiO2"]["ratio"]["mean"]
        findings.append(
            Finding(
                "On TiO2 it is 10.9 % better",
                "yes" if ratio < 0.95 else "partly" if ratio < 1.0 else "no",
                f"force RMSE {100 * (1 - ratio):+.0f} % better than random",
            )
        )
    rows = []
    for name, summary in summaries.items():
        for strategy in STRATEGIES:
            entry = summary["strategies"][strategy]
            curve = " / ".join(f"{1000 * p[METRIC]['mean']:.0f}" for p in entry["points"])
            if strategy == "random":
                rows.append((name, strategy, curve, None, None, None))
                continue
            t = tests[name][strategy]
            ratio = t["ratio"]
            interval = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            rows.append(
                (name, strategy, curve, f"{ratio['mean']:.2f}{interval}", f"{_p(t['p_holm'])}, {t['wins']} of {t['n']}",
                 _saving(saved[name][strategy]))
            )  # fmt: skip
    sizes = " / ".join(str(size) for size in form.sizes)
    table = Table(
        "Learning curves; all ratios and tests over all sizes but the start, seeds paired",
        ("pool", "strategy", f"force RMSE at {sizes}, meV/Å", "÷ random [95 %]", "p (Holm), seeds better",
         "labels saved [95 %, bootstrap]"),
        rows,
    )  # fmt: skip
    remarks = [
        "The pools of the paper (Materials Project, OQMD) and its networks are replaced: pools with DFT labels as "
        "named, carbon (diamond and graphene, cold and hot) made here with labels by GFN1-xTB; committee of "
        f"{form.members} linear ACE fits with random weights; descriptors are the projections.",
        f"Structures of more than {form.max_atoms} atoms or forces above {LARGEST_FORCE:g} eV/Å are left out.",
        "Labels saved: to reach the force RMSE of random selection at the last size; 0 where it is not reached.",
    ]
    image = plots.picture(lambda figure: draw(figure, summaries), 3.4 * len(summaries) + 0.6, 3.4)
    return Outcome(findings, [table], {"": image}, {"saved": saved, "tests": tests}, remarks)


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value >= 1e-3 else "< 0.001"


def _saving(entry: Mapping[str, Any]) -> str:
    interval = f"[{100 * entry['low']:+.0f}, {100 * entry['high']:+.0f}]"
    return f"{100 * entry['saving']:+.0f} % {interval}" if entry["reached"] else f"not reached {interval}"


def draw(figure: Any, summaries: dict[str, Any]) -> None:
    """Force RMSE against labelled structures, one panel for each pool."""
    for axes, (name, summary) in zip(np.atleast_1d(figure.subplots(1, len(summaries))), summaries.items()):
        for color, strategy in zip(("0.4", *plots.COLORS), STRATEGIES):
            points = summary["strategies"][strategy]["points"]
            x = [p["n_structures"] for p in points]
            axes.loglog(x, [1000 * p[METRIC]["mean"] for p in points], "o-", ms=3, color=color, label=strategy)
            if points[0][METRIC]["low"] is not None and strategy in ("random", "diversity"):
                low, high = ([1000 * p[METRIC][k] for p in points] for k in ("low", "high"))
                axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)
        means = [1000 * p[METRIC]["mean"] for e in summary["strategies"].values() for p in e["points"]]
        axes.set_ylim(0.7 * min(means), 1.4 * max(means))
        axes.set_title(name)
        axes.set_xlabel("labelled structures")
        axes.set_xticks(x, [f"{v:.0f}" for v in x])
        axes.minorticks_off()
    first = figure.axes[0]
    first.set_ylabel("force RMSE (meV/Å)")
    first.legend(fontsize="small")


STUDY = Study(
    name="committee",
    title="Query by committee with four strategies, C, Si, Fe and TiO2",
    figures="Khan et al., strategies over four materials",
    form=CommitteeForm,
    short={
        "seeds": (0, 1, 2, 3, 4), "pools": ("TiO2", "C"), "pool": 80, "test": 25, "sizes": (6, 12, 24, 48),
        "functions": 40,
    },
    full={"seeds": tuple(range(10)), "pool": 150, "sizes": (8, 16, 32, 64, 128), "functions": 150, "max_atoms": 130},
    plan=plan,
    run=run,
    sources=("Si training", "Fe", "TiO2"),
    chosen_sources=lambda form: tuple(source for name in form.pools if (source := POOLS[name][2]) is not None),
)  # fmt: skip
