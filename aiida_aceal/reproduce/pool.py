"""Random, CUR and MaxVol selection from a pool (Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Fig. 6).

A potential of 732 functions knows a small set of copper near its ground state. Structures of a wider pool are added by
three strategies; errors on structures of both kinds that are never chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting

from . import copper, plots
from .study import Finding, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

#: name -> strategy of `aceal.select` and its options; random needs no job
STRATEGIES: dict[str, tuple[str, dict[str, Any]] | None] = {
    "random": None,
    "CUR": ("cur", {"scaled": False}),
    "CUR, scaled": ("cur", {}),
    "MaxVol": ("d_optimal", {}),
}


class PoolForm(copper.CopperForm):
    """Settings of the study; `test` and `wide` are the numbers of structures of both kinds that are never chosen."""

    train: int = setting(100, "Structures near the ground state that are learnt at first.", ge=2)
    test: int = setting(60, "Structures of the same kind that are tested.", ge=1)
    wide: int = setting(60, "Structures above the limit that are tested.", ge=1)
    functions: int = setting(732, "Functions of the basis.", ge=5)
    sizes: tuple[int, ...] = setting((25, 50, 100, 200), "Structures that are added.", ge=1, items=(1, None))


def plan(form: PoolForm) -> list[Step]:
    """Jobs of the study."""
    work = form.functions / 732
    steps = []
    for seed in form.seeds:
        steps += [Step(f"first fit, seed {seed}", 20 + 20 * work * form.train / 100),
                  Step(f"active set, seed {seed}", 10 + 15 * work * form.train / 100)]  # fmt: skip
        for name, choice in STRATEGIES.items():
            for size in form.sizes:
                if choice is not None:
                    steps.append(Step(f"{name}, {size} chosen, seed {seed}", 25 + 40 * work))
                steps.append(Step(f"{name}, {size} learnt, seed {seed}", 20 + 25 * work * (form.train + size) / 150))
        steps.append(Step(f"all of the pool learnt, seed {seed}", 20 + 120 * work))
    return steps


def parts(frames: Sequence[Atoms], form: PoolForm, seed: int) -> tuple[list[Atoms], list[Atoms], list[Atoms]]:
    """Start, pool and test set.

    :raises AceError: too few structures
    """
    start, graded = copper.split(frames, form, seed)
    test = [atoms for atoms in graded if atoms.info["group"] != "train"]
    used = {configuration_hash(atoms) for atoms in graded}
    pool = [atoms for atoms in frames if configuration_hash(atoms) not in used]
    if len(pool) < form.sizes[-1]:
        raise AceError(f"sizes: {form.sizes[-1]} are to be added, but the pool has {len(pool)} structures")
    return start, pool, test


def run(bench: Bench, form: PoolForm) -> Outcome:
    """All seeds, strategies and sizes."""
    frames = bench.read("Cu-II")
    rows = []
    basis = copper.basis(form.functions, form.cutoff)
    for seed in form.seeds:
        start, pool, test = parts(frames, form, seed)
        settings = {"reference_energies": "none"}
        first = bench.fit(f"first fit, seed {seed}", basis, start, settings, seed, test)
        active = bench.active_set(f"active set, seed {seed}", first, start)
        order = np.random.default_rng([seed, 6]).permutation(len(pool))
        rows.append(numbers(first, "start", seed, start))
        for name, choice in STRATEGIES.items():
            for size in form.sizes:
                chosen: list[Atoms] = []
                if choice is not None:
                    strategy, options = choice
                    chosen = bench.select(
                        f"{name}, {size} chosen, seed {seed}", first, active, pool,
                        {"strategy": strategy, "options": options, "count": size}, seed,
                    )  # fmt: skip
                entered = len(chosen)
                known = {configuration_hash(atoms) for atoms in chosen}
                fill = (pool[k] for k in order if configuration_hash(pool[k]) not in known)
                chosen = [*chosen, *(atoms for atoms, _ in zip(fill, range(size - entered)))]
                fit = bench.fit(f"{name}, {size} learnt, seed {seed}", basis, [*start, *chosen], settings, seed, test)
                rows.append({**numbers(fit, name, seed, [*start, *chosen]), "added": size, "entered": entered})
        whole = [*start, *pool]
        fit = bench.fit(f"all of the pool learnt, seed {seed}", basis, whole, settings, seed, test)
        rows.append(numbers(fit, "all", seed, whole))
    return conclude(rows, form)


def numbers(fit: Any, name: str, seed: int, train: Sequence[Atoms]) -> dict[str, Any]:
    """Errors on the test set (meV/A, meV/atom) and size of the training set."""
    tested = fit.report["validation"]
    return {
        "strategy": name, "seed": seed, "atoms": sum(map(len, train)), "structures": len(train),
        "force RMSE": 1000 * tested["forces"]["rmse"], "largest force error": 1000 * tested["forces"]["max"],
        "energy RMSE": 1000 * tested["energy"]["rmse"],
    }  # fmt: skip


def curve(rows: Sequence[dict[str, Any]], name: str, key: str, sizes: Sequence[int]) -> np.ndarray:
    """Geometric mean over the seeds (plain mean of atoms) at each size."""
    found = []
    for size in sizes:
        values = [r[key] for r in rows if r["strategy"] == name and r.get("added") == size]
        found.append(np.mean(values) if key == "atoms" else np.exp(np.mean(np.log(values))))
    return np.array(found)


def conclude(rows: list[dict[str, Any]], form: PoolForm) -> Outcome:
    """Verdicts on geometric means over seeds and sizes."""

    def level(name: str, key: str) -> float:
        return float(np.exp(np.log(curve(rows, name, key, form.sizes)).mean()))

    def verdict(name: str, key: str, rivals: Sequence[str]) -> str:
        ratios = [level(name, key) / level(rival, key) for rival in rivals]
        return "yes" if max(ratios) < 1.0 else "partly" if min(ratios) < 1.0 else "no"

    def words(key: str) -> str:
        return ", ".join(f"{name} {level(name, key):.0f}" for name in STRATEGIES)

    last, whole = form.sizes[-1], [r for r in rows if r["strategy"] == "all"]
    ratio = float(np.exp(np.mean([np.log(r["force RMSE"]) for r in rows
                                  if r["strategy"] == "MaxVol" and r.get("added") == last])
                         - np.mean([np.log(r["force RMSE"]) for r in whole])))  # fmt: skip
    findings = [
        Finding("MaxVol has the lowest force RMSE", verdict("MaxVol", "force RMSE", ("random", "CUR")),
                f"geometric means over sizes and seeds, meV/Å: {words('force RMSE')}"),
        Finding("MaxVol has the smallest largest force errors",
                verdict("MaxVol", "largest force error", ("random", "CUR")),
                f"meV/Å: {words('largest force error')}"),
        Finding("Random selection leaves the largest force errors",
                verdict("MaxVol", "largest force error", ("random",)) if level("random", "largest force error")
                > level("CUR", "largest force error") else "no",
                f"meV/Å: {words('largest force error')}"),
        Finding("CUR (unscaled) lowers the force RMSE most slowly",
                "yes" if level("CUR", "force RMSE") > max(level("random", "force RMSE"), level("MaxVol", "force RMSE"))
                else "no",
                f"meV/Å: {words('force RMSE')}"),
        Finding("MaxVol reaches the errors of training on all",
                "yes" if ratio <= 1.15 else "partly" if ratio <= 1.5 else "no",
                f"with {last} added its force RMSE is {ratio:.2f} times that of the whole pool"),
    ]  # fmt: skip
    keys = ("strategy", "added", "seed", "structures", "atoms", "entered", "force RMSE", "largest force error",
            "energy RMSE")  # fmt: skip
    heads = {"force RMSE": "force RMSE (meV/Å)", "largest force error": "largest force error (meV/Å)",
             "energy RMSE": "energy RMSE (meV/atom)"}  # fmt: skip
    table = Table("Every fit", tuple(heads.get(k, k) for k in keys), [[row.get(k) for k in keys] for row in rows])
    remarks = [
        copper.REMARK,
        "The pool is what is left of both kinds. A strategy that names fewer structures than asked for (`entered`) is "
        "filled up at random, as in the paper. `CUR` takes the projections as they are, `CUR, scaled` scales them.",
    ]
    image = plots.picture(lambda figure: draw(figure, rows, form), 9.0, 3.8)
    return Outcome(findings, [table], {"": image}, {"rows": rows}, remarks)


def draw(figure: Any, rows: list[dict[str, Any]], form: PoolForm) -> None:
    """Force RMSE and largest force error against the number of atoms."""
    whole = [r for r in rows if r["strategy"] == "all"]
    start = [r for r in rows if r["strategy"] == "start"]
    for axes, key in zip(figure.subplots(1, 2), ("force RMSE", "largest force error")):
        for k, name in enumerate(STRATEGIES):
            for r in rows:
                if r["strategy"] == name:
                    axes.loglog(r["atoms"], r[key], ".", ms=3, color=plots.COLORS[k], alpha=0.5)
            x = [np.mean([r["atoms"] for r in start]), *curve(rows, name, "atoms", form.sizes)]
            y = [np.exp(np.mean(np.log([r[key] for r in start]))), *curve(rows, name, key, form.sizes)]
            axes.loglog(x, y, "o-", ms=4, color=plots.COLORS[k], label=name)
        level = np.exp(np.mean(np.log([r[key] for r in whole])))
        axes.axhline(level, color="0.4", linestyle=":", label="whole pool")
        axes.set(xlabel="atoms in the training set", ylabel=f"{key} (meV/Å)")
    figure.axes[0].legend(fontsize="small")


STUDY = Study(
    name="pool",
    title="Random, CUR and MaxVol selection from a pool, copper",
    figures="Lysogorskiy et al. 2023, Fig. 6",
    form=PoolForm,
    short={"functions": 300, "sizes": (50, 100)},
    full={"seeds": (0, 1, 2, 3, 4)},
    plan=plan,
    run=run,
    sources=("Cu-II",),
)
