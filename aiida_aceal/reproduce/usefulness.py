"""Accuracy against usefulness of uncertainties, on homogeneous and heterogeneous sets.

After "Model accuracy and data heterogeneity shape uncertainty quantification in machine learning interatomic
potentials": one series of bases of growing size, several seeds; rank correlation of indicators with errors,
calibration, and how well they tell kinds of structures that were not learnt. Global and local active sets, and an
ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.settings import setting
from aiida_aceal.common.words import counted

from . import plots
from .study import Finding, Form, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

SERIES = {"nradmax_by_orders": [15, 6, 4, 3, 2], "lmax_by_orders": [0, 4, 3, 2, 1]}
INDICATORS = ("global", "own", "minimum", "switch", "ensemble dF")
LEARNT, NOVEL = "learnt kinds", "novel kinds"
MEASURES = ("rank", "novelty", "missed", "alarms", "calibration")
#: kinds whose names start with these are the perfect crystal, strained
CRYSTAL = ("EOS", "Strain", "Shear", "Bulk")


@dataclass(frozen=True)
class Case:
    """A set of which some kinds are learnt; the novel ones are only graded."""

    source: str
    elements: tuple[str, ...]
    cutoff: float
    homogeneous: bool
    learnt: tuple[str, ...]
    novel: tuple[str, ...]


CASES = {
    "InP crystals": Case("InP", ("In", "P"), 5.0, True, CRYSTAL, ("a", "i", "v")),
    "InP with defects": Case("InP", ("In", "P"), 5.0, False, (*CRYSTAL, "a", "v"), ("i",)),
    "Mo dynamics": Case("Mo training", ("Mo",), 5.0, True, ("AIMD",), ("Elastic", "Surface", "Vacancy")),
    "Mo mixed": Case("Mo training", ("Mo",), 5.0, False, ("AIMD", "Elastic", "Surface"), ("Vacancy",)),
    "W all": Case("W", ("W",), 5.0, False, ("",), ()),
}


class UsefulnessForm(Form):
    """Settings of the study."""

    cases: tuple[str, ...] = setting(tuple(CASES), "Sets.", choices=lambda: CASES, items=(1, None))
    sizes: tuple[int, ...] = setting((20, 40, 80, 160, 320), "Functions for each element.", ge=4, items=(2, None))
    train: int = setting(80, "Structures that are learnt, at most.", ge=5)
    test: int = setting(80, "Structures that are graded, at most; half of them novel.", ge=10)
    max_atoms: int = setting(70, "Larger structures are left out.", ge=1)
    clusters: int = setting(6, "Clusters of the local active sets.", ge=1)
    members: int = setting(8, "Members of the ensemble.", ge=2)


def plan(form: UsefulnessForm) -> list[Step]:
    """Jobs of the study."""
    steps = []
    for name in form.cases:
        elements = len(CASES[name].elements)
        for seed in form.seeds:
            for size in form.sizes:
                work = size / 80 * elements * (form.train + form.test) / 160
                steps.append(Step(_label(name, size, seed), 15 + 12 * work))
    return steps


def _label(name: str, size: int, seed: int) -> str:
    return f"{name}: {size} functions, seed {seed}"


def kind(atoms: Atoms) -> str:
    """Kind of a structure without the mark of strain (``s_``)."""
    return str(atoms.info.get("group", "")).removeprefix("s_")


def split(frames: Sequence[Atoms], case: Case, form: UsefulnessForm, seed: int) -> tuple[list[Atoms], list[Atoms]]:
    """What is learnt and what is graded; info ``group``: `LEARNT` or `NOVEL`."""
    rng = np.random.default_rng(seed)
    usable = [atoms for atoms in frames if len(atoms) <= form.max_atoms]
    known = [k for k, atoms in enumerate(usable) if kind(atoms).startswith(case.learnt)]
    novel = [k for k, atoms in enumerate(usable) if case.novel and kind(atoms).startswith(case.novel)]
    known, novel = (rng.permutation(part).astype(int) for part in (known, novel))
    of_known = form.test // 2 if case.novel else form.test
    held, rest = known[:of_known], known[of_known : of_known + form.train]
    parts = []
    for indices, group in ((rest, LEARNT), (held, LEARNT), (novel[: form.test // 2], NOVEL)):
        part = []
        for k in indices:
            atoms = usable[k].copy()
            atoms.calc = usable[k].calc
            atoms.info["group"] = group
            part.append(atoms)
        parts.append(part)
    return parts[0], parts[1] + parts[2]


def run(bench: Bench, form: UsefulnessForm) -> Outcome:
    """All cases, sizes and seeds."""
    rows = []
    for name in form.cases:
        case = CASES[name]
        frames = bench.read(case.source)
        for seed in form.seeds:
            train, test = split(frames, case, form, seed)
            for size in form.sizes:
                basis = {
                    "elements": list(case.elements), "cutoff": case.cutoff, **SERIES,
                    "number_of_functions_per_element": size,
                }  # fmt: skip
                settings = {"clusters": form.clusters, "ensemble": {"members": form.members}}
                found = bench.compare_uncertainty(_label(name, size, seed), basis, train, test, settings, seed)
                rows.append({"case": name, "homogeneous": case.homogeneous, "functions": size, "seed": seed,
                             **numbers(found)})  # fmt: skip
    return conclude(rows, form)


def numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    """What one comparison gives; forces in meV/A."""
    errors, groups = np.array(found["errors"]["forces"]), np.array(found["groups"])
    row: dict[str, Any] = {
        "force RMSE": 1000 * found["test"]["forces"]["rmse"],
        # accuracy is that on the kinds it was made for: errors on novel kinds grow as functions are added
        "error": 1000 * float(np.median(errors[groups == LEARNT])),
    }
    for name in INDICATORS:
        entry = found["indicators"][name]
        row[f"rank {name}"] = entry["spearman"]
        row[f"novelty {name}"] = entry["novelty"]["auc"] if "novelty" in entry else None
        row[f"calibration {name}"] = entry["calibration"]["mean_error"] if "calibration" in entry else None
        row[f"missed {name}"] = entry.get("false_negative_rate")
        row[f"alarms {name}"] = entry.get("false_positive_rate")
    return row


def conclude(rows: list[dict[str, Any]], form: UsefulnessForm) -> Outcome:
    """Verdicts on means over the seeds."""

    def mean(key: str, **where: Any) -> float | None:
        values = [r[key] for r in rows if r[key] is not None and all(r[k] == v for k, v in where.items())]
        return float(np.mean(values)) if values else None

    findings = []
    for what, words in (("rank", "rank correlation of indicators with errors"), ("novelty", "detection of new kinds")):
        gains, texts = [], []
        for case in form.cases:
            worst, *_, best = sorted(form.sizes, key=lambda size: -mean("error", case=case, functions=size))
            for name in ("global", "ensemble dF"):
                a, b = (mean(f"{what} {name}", case=case, functions=size) for size in (worst, best))
                if a is not None and b is not None:
                    gains.append(b - a)
                    texts.append(f"{case}, {name}: {a:.2f} to {b:.2f}")
        better = float(np.mean([g > 0.0 for g in gains])) if gains else 0.0
        findings.append(
            Finding(
                f"A more accurate potential has a better {words}",
                "yes" if better >= 0.8 else "partly" if better > 0.5 else "no",
                "from the least to the most accurate: " + "; ".join(texts),
            )
        )
    alarms = [mean(f"alarms {name}") for name in ("global", "ensemble dF")]
    missed = [mean(f"missed {name}") for name in ("global", "ensemble dF")]
    known = all(v is not None for v in (*alarms, *missed))
    findings.append(
        Finding(
            "D-optimality is the more conservative one",
            "yes" if known and alarms[0] > alarms[1] and missed[0] < missed[1]
            else "partly" if known and (alarms[0] > alarms[1] or missed[0] < missed[1]) else "no",
            f"means of all cases: false alarms {_percent(alarms[0])} (dF {_percent(alarms[1])}), "
            f"misses {_percent(missed[0])} (dF {_percent(missed[1])})",
        )
    )  # fmt: skip
    pairs = []
    for name in ("global", "ensemble dF"):
        homo, hetero = (mean(f"calibration {name}", homogeneous=flag) for flag in (True, False))
        pairs.append((name, homo, hetero))
    worse = [h is not None and o is not None and o > h for _, h, o in pairs]
    findings.append(
        Finding(
            "Calibration is good on homogeneous sets and worse on heterogeneous ones",
            "yes" if all(worse) else "partly" if any(worse) else "no",
            "calibration error, homogeneous / heterogeneous: "
            + ", ".join(f"{n} {_percent(h)} / {_percent(o)}" for n, h, o in pairs),
        )
    )
    areas = {name: mean(f"novelty {name}", homogeneous=False) for name in ("global", "own", "minimum", "switch")}
    base = areas["global"]
    gain = max((v - base for k, v in areas.items() if k != "global" and v is not None), default=None) if base else None
    findings.append(
        Finding(
            "Local active sets of clusters detect novel kinds better on heterogeneous sets",
            "no" if gain is None or gain <= 0.02 else "yes" if gain >= 0.1 else "partly",
            "ROC area: " + ", ".join(f"{k} {'none' if v is None else f'{v:.2f}'}" for k, v in areas.items()),
        )
    )
    columns = (
        "set",
        "functions",
        "error on learnt kinds, meV/Å",
        "force RMSE of all, meV/Å",
        *(f"{name}" for name in INDICATORS),
    )
    lines = []
    for case in form.cases:
        for size in form.sizes:
            where = {"case": case, "functions": size}
            cells = []
            for name in INDICATORS:
                parts = [mean(f"{key} {name}", **where) for key in MEASURES]
                cells.append("; ".join([_two(parts[0]), _two(parts[1]), f"{_hundred(parts[2])} / {_hundred(parts[3])}",
                                        _hundred(parts[4])]))  # fmt: skip
            lines.append((case, size, mean("error", **where), mean("force RMSE", **where), *cells))
    title = (
        f"Mean of {counted(len(form.seeds), 'seed')}: rank correlation; ROC area of novelty; misses / false alarms "
        "(%); calibration error (%)"
    )
    remarks = [
        "Accuracy is the median of the largest force error of each structure of learnt kinds that was not learnt.",
        "InP crystals and Mo dynamics are homogeneous (one kind is learnt), the others heterogeneous; info `group` "
        "names the kinds. W has no kinds: all of it is learnt and graded, and nothing is novel.",
        f"Structures of more than {form.max_atoms} atoms are left out. Ensemble: {form.members} linear fits with "
        f"random weights; local active sets of {form.clusters} k-means clusters.",
    ]
    image = plots.picture(lambda figure: draw(figure, rows, form), 2.6 * len(form.cases) + 0.8, 5.0)
    return Outcome(findings, [Table(title, columns, lines)], {"": image}, {"rows": rows}, remarks)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _hundred(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.0f} %"


def draw(figure: Any, rows: list[dict[str, Any]], form: UsefulnessForm) -> None:
    """Rank correlation and area of novelty against the error of the potential."""
    axes = figure.subplots(2, len(form.cases), sharey="row", squeeze=False)
    for column, case in enumerate(form.cases):
        for k, name in enumerate(INDICATORS):
            for place, what in zip(axes[:, column], ("rank", "novelty")):
                points = []
                for size in form.sizes:
                    chosen = [r for r in rows if r["case"] == case and r["functions"] == size]
                    values = [r[f"{what} {name}"] for r in chosen if r[f"{what} {name}"] is not None]
                    if values:
                        points.append((np.mean([r["error"] for r in chosen]), np.mean(values)))
                if points:
                    place.semilogx(*np.array(points).T, "o-", ms=3, color=plots.COLORS[k], label=name)
        axes[0, column].set_title(case, fontsize="medium")
        axes[1, column].axhline(0.5, color="0.6", linestyle=":")
        axes[1, column].set_xlabel("error on learnt kinds (meV/Å)")
        ticks = [np.mean([r["error"] for r in rows if r["case"] == case and r["functions"] == n]) for n in form.sizes]
        for place in axes[:, column]:
            place.set_xscale("log")
            place.set_xticks(ticks, [f"{tick:.2g}" if tick < 10 else f"{tick:.0f}" for tick in ticks])
            place.minorticks_off()
    axes[0, 0].set_ylabel("rank correlation")
    axes[1, 0].set_ylabel("ROC area of novelty")
    axes[0, 0].legend(fontsize="x-small")


STUDY = Study(
    name="usefulness",
    title="Accuracy against usefulness of uncertainties",
    figures="Model accuracy and data heterogeneity, all findings",
    form=UsefulnessForm,
    short={
        "cases": ("InP crystals", "InP with defects", "W all"), "sizes": (20, 60, 180), "train": 50, "test": 50,
    },
    full={"seeds": (0, 1, 2, 3, 4), "sizes": (40, 80, 160, 320, 640), "train": 400, "test": 200, "max_atoms": 140},
    plan=plan,
    run=run,
    sources=("InP", "Mo training", "W"),
    chosen_sources=lambda form: tuple(dict.fromkeys(CASES[name].source for name in form.cases)),
)  # fmt: skip
