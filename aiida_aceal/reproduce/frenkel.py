"""What standard data teach of the hop of a cation in CuI, and what active learning adds (Kang et al.).

A potential learns snapshots of dynamics at 300 K. Then snapshots of hot dynamics, where cations leave their sites, are
added by several strategies, and the energy along a Frenkel hop (a Cu atom goes from its site to an empty tetrahedral
one, all other atoms at their places) is compared with the reference: size of the barrier, metastable states invented or
missed. The reference is any ASE calculator; the default is GFN1-xTB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.common.settings import setting

from . import plots
from .study import Finding, Form, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

#: name -> strategy of `aceal.select`; the standard gets more of its own kind
STRATEGIES: dict[str, str | None] = {
    "standard": None, "random": "random", "d_optimal": "d_optimal", "viability": "viability",
}  # fmt: skip


class FrenkelForm(Form):
    """Settings of the study."""

    elements: tuple[str, ...] = setting(("Cu", "I"), "Cation and anion of the zincblende crystal.", items=2)
    lattice: float = setting(6.05, "Lattice constant.", unit="A", gt=0)
    repeat: tuple[int, ...] = setting((2, 2, 1), "Cubic cells along each axis.", items=3, ge=1)
    calculator: str = setting("tblite", "ASE calculator of the reference.")
    method: str = setting("GFN1-xTB", "Method of tblite; no other calculator uses it.")
    hot: float = setting(1000.0, "Temperature of the pool.", unit="K", gt=300)
    steps: int = setting(160, "Steps of each of the two dynamics, of 4 fs.", ge=10)
    interval: int = setting(4, "Steps between snapshots.", ge=1)
    first: int = setting(12, "Snapshots at 300 K that are learnt at first.", ge=2)
    added: int = setting(12, "Snapshots that are added.", ge=1)
    points: int = setting(13, "Structures along the hop.", ge=5)
    functions: int = setting(60, "Functions for each element.", ge=4)
    cutoff: float = setting(5.5, "Of the potential.", unit="A", gt=0)


def crystal(form: FrenkelForm) -> Atoms:
    """The perfect crystal."""
    cation, anion = form.elements
    return bulk(f"{cation}{anion}", "zincblende", a=form.lattice, cubic=True).repeat(form.repeat)


def hop(form: FrenkelForm) -> list[Atoms]:
    """A cation moves along a cubic axis by half the lattice constant; info ``x`` goes from 0 to 1."""
    perfect = crystal(form)
    index = next(k for k, symbol in enumerate(perfect.symbols) if symbol == form.elements[0])
    found = []
    for x in np.linspace(0.0, 1.0, form.points):
        atoms = perfect.copy()
        atoms.positions[index, 0] += x * form.lattice / 2
        atoms.info["x"] = float(x)
        found.append(atoms)
    return found


def plan(form: FrenkelForm) -> list[Step]:
    """Jobs of the study."""
    each = 0.03 * np.prod(form.repeat) * 8  # seconds of a label
    steps = [Step("labels of the hop", 10 + each * form.points)]
    for seed in form.seeds:
        for name in ("300 K", f"{form.hot:g} K"):
            steps.append(Step(f"dynamics at {name}, seed {seed}", 10 + each * form.steps))
        steps += [Step(f"first fit, seed {seed}", 20), Step(f"active set, seed {seed}", 10)]
        for name, strategy in STRATEGIES.items():
            if strategy not in (None, "random"):
                steps.append(Step(f"{name}: choice, seed {seed}", 15))
            steps += [Step(f"{name}: fit, seed {seed}", 20), Step(f"{name}: hop, seed {seed}", 10)]
    return steps


def run(bench: Bench, form: FrenkelForm) -> Outcome:
    """All seeds and strategies."""
    spec: dict[str, Any] = {"calculator": form.calculator}
    if form.calculator == "tblite":
        spec["kwargs"] = {"method": form.method}
    path = bench.label("labels of the hop", hop(form), spec)
    reference = relative([atoms.get_potential_energy() for atoms in path])
    basis = {
        "elements": sorted(form.elements), "cutoff": form.cutoff, "nradmax_by_orders": [10, 4, 3, 1],
        "lmax_by_orders": [0, 3, 2, 1], "number_of_functions_per_element": form.functions,
    }  # fmt: skip
    rows, profiles = [], []
    for seed in form.seeds:
        course = {"steps": form.steps, "interval": form.interval, "timestep": 0.004}
        sets = {}
        for t, name in ((300.0, "300 K"), (form.hot, f"{form.hot:g} K")):
            sets[t] = bench.sample(
                f"dynamics at {name}, seed {seed}", [crystal(form)], {**spec, **course, "temperature": [t, t]}, seed
            )
        rng = np.random.default_rng(seed)
        # the start of a run is not yet at its temperature
        cold, warm = (part[len(part) // 8 :] for part in (sets[300.0], sets[form.hot]))
        cold = [cold[k] for k in rng.permutation(len(cold))]
        warm = [warm[k] for k in rng.permutation(len(warm))]
        standard, more, tested = cut(cold, form.first, form.added)
        test, pool = warm[: len(warm) // 4], warm[len(warm) // 4 :]
        settings = {"reference_energies": "fit"}
        first = bench.fit(f"first fit, seed {seed}", basis, standard, settings, seed, tested)
        active = bench.active_set(f"active set, seed {seed}", first, standard)
        for name, strategy in STRATEGIES.items():
            chosen = more if strategy is None else []
            if strategy not in (None, "random"):
                chosen = bench.select(
                    f"{name}: choice, seed {seed}", first, active, pool,
                    {"strategy": strategy, "count": form.added}, seed, standard if strategy == "viability" else None,
                )  # fmt: skip
            known = {configuration_hash(atoms) for atoms in chosen}
            fill = [atoms for atoms in pool if configuration_hash(atoms) not in known] if strategy else []
            entered = len(chosen)
            chosen = [*chosen, *fill[: form.added - entered]]
            fit = bench.fit(f"{name}: fit, seed {seed}", basis, [*standard, *chosen], settings, seed, test)
            along = bench.evaluate(f"{name}: hop, seed {seed}", fit, path).frames
            profile = relative([atoms.get_potential_energy() for atoms in along])
            profiles.append((name, seed, profile))
            rows.append({
                "strategy": name, "seed": seed, "structures": len(standard) + len(chosen), "entered": entered,
                "MAE at 300 K, energy": 1000 * first.report["validation"]["energy"]["mae"],
                "MAE at 300 K, forces": 1000 * first.report["validation"]["forces"]["mae"],
                "hot force RMSE": 1000 * fit.report["validation"]["forces"]["rmse"],
                **numbers(profile, reference),
            })  # fmt: skip
    return conclude(rows, profiles, reference, form)


def cut(frames: Sequence[Atoms], first: int, added: int) -> tuple[list[Atoms], list[Atoms], list[Atoms]]:
    """The first, those that are added, and the rest to test (the last fifth at least)."""
    usable = frames[: max(2, len(frames) - max(1, len(frames) // 5))]
    return list(usable[:first]), list(usable[first : first + added]), list(frames[len(usable) :])


def relative(energies: Sequence[float]) -> np.ndarray:
    """Energies relative to the first, eV."""
    values = np.asarray(energies, dtype=float)
    return values - values[0]


def minima(profile: np.ndarray, depth: float = 0.02) -> list[int]:
    """Positions of minima that lie lower than the highest points on both sides by ``depth`` (eV); ends may be one."""
    found = []
    n = len(profile)
    for k in range(n):
        left, right = profile[:k], profile[k + 1 :]
        if (k > 0 and profile[k - 1] < profile[k]) or (k < n - 1 and profile[k + 1] <= profile[k]):
            continue
        walls = [part.max() - profile[k] for part in (left, right) if len(part)]
        if min(walls) >= depth:
            found.append(k)
    return found


def numbers(profile: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """A profile against that of the reference (eV, relative to the first point)."""
    top = float(reference.max())
    ours, theirs = minima(profile), minima(reference)
    return {
        "barrier": float(profile.max()), "end": float(profile[-1]),
        "error": float(np.abs(profile - reference).max()) / max(top, 1e-9),
        "invented": sum(min((abs(k - j) for j in theirs), default=99) > 1 for k in ours),
        "missed": sum(min((abs(k - j) for j in ours), default=99) > 1 for k in theirs),
    }  # fmt: skip


def conclude(
    rows: list[dict[str, Any]], profiles: list[tuple[str, int, np.ndarray]], reference: np.ndarray, form: FrenkelForm
) -> Outcome:
    """Verdicts on the means over the seeds."""

    def mean(name: str, key: str) -> float:
        return float(np.mean([row[key] for row in rows if row["strategy"] == name]))

    error = {name: mean(name, "error") for name in STRATEGIES}
    wrong = {name: mean(name, "invented") + mean(name, "missed") for name in STRATEGIES}
    small = [name for name in ("d_optimal", "viability") if error[name] <= 0.5 * error["standard"]]
    cold = mean("standard", "MAE at 300 K, energy"), mean("standard", "MAE at 300 K, forces")
    best = min(("d_optimal", "viability"), key=lambda name: error[name])
    findings = [
        Finding(
            "By its errors on data of its own kind the standard potential looks good",
            "yes" if cold[0] < 5 and cold[1] < 60 else "no",
            f"MAE at 300 K: {cold[0]:.2f} meV/atom, {cold[1]:.0f} meV/Å",
        ),
        Finding(
            "It invents or misses metastable states, or misjudges them",
            "yes" if wrong["standard"] >= 1 else "partly" if error["standard"] > 0.25 else "no",
            f"metastable states wrong: {wrong['standard']:.1f} on average; largest error of the profile "
            f"{100 * error['standard']:.0f} % of the highest point ({reference.max():.2f} eV)",
        ),
        Finding(
            "Active learning repairs it",
            "yes" if len(small) == 2 else "partly" if small else "no",
            "largest error of the profile: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in error.items()),
        ),
        Finding(
            "Choosing by uncertainty and energy is better than at random among hot structures",
            "yes" if error["viability"] < 0.9 * error["random"] else
            "partly" if error[best] < 0.9 * error["random"] else "no",
            f"viability {100 * error['viability']:.0f} %, random {100 * error['random']:.0f} %",
        ),
    ]  # fmt: skip
    keys = (
        "strategy",
        "seed",
        "structures",
        "entered",
        "hot force RMSE",
        "barrier",
        "end",
        "error",
        "invented",
        "missed",
    )
    heads = {
        "hot force RMSE": "force RMSE, hot (meV/Å)", "barrier": "highest point (eV)", "end": "end (eV)",
        "error": "largest error / highest point",
    }  # fmt: skip
    first = ("reference", None, None, None, None, float(reference.max()), float(reference[-1]), 0.0, 0, 0)
    table = Table("Every fit", tuple(heads.get(k, k) for k in keys), [first, *([row[k] for k in keys] for row in rows)])
    name = f"{form.method} by tblite" if form.calculator == "tblite" else form.calculator
    remarks = [
        f"The reference is {name}; what is added comes from its own hot dynamics ({form.hot:g} K) and not from that of "
        f"the potential; {len(crystal(form))} atoms, the other atoms do not follow the hop. Hops per picosecond and "
        "the measure of anharmonicity are not computed.",
    ]
    image = plots.picture(lambda figure: draw(figure, profiles, reference), 6.5, 4.0)
    return Outcome(findings, [table], {"": image}, {"rows": rows, "reference": reference.tolist()}, remarks)


def draw(figure: Any, profiles: list[tuple[str, int, np.ndarray]], reference: np.ndarray) -> None:
    """Energy along the hop."""
    axes = figure.subplots()
    x = np.linspace(0.0, 1.0, len(reference))
    for k, name in enumerate(STRATEGIES):
        label = name
        for other, _, profile in profiles:
            if other == name:
                axes.plot(x, profile, "--" if name == "standard" else "-", color=plots.COLORS[k], lw=1, label=label)
                label = None
    axes.plot(x, reference, "ko-", ms=4, label="reference")
    span = np.ptp(reference)
    axes.set_ylim(reference.min() - 0.6 * span, reference.max() + 0.6 * span)
    axes.set(xlabel="position of the cation between its site and the empty one", ylabel="energy (eV)")
    axes.legend(fontsize="small")


STUDY = Study(
    name="frenkel",
    title="A Frenkel hop in CuI from standard data and from active learning",
    figures="Kang et al., CuI",
    form=FrenkelForm,
    short={},
    full={"seeds": (0, 1, 2, 3, 4), "repeat": (2, 2, 2), "steps": 1000, "first": 40, "added": 40, "functions": 150},
    plan=plan,
    run=run,
)
