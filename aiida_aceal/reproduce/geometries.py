"""Indicators along simple paths (Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), App. D and Fig. 13).

Homogeneous deformation of fcc copper, far beyond the cutoff, and one atom that approaches its neighbour. References and
labels are by EMT, which both paths can be computed with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_aceal.common.settings import setting

from . import copper, grades, plots
from .study import Finding, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

LATTICE = 3.61  # Angstrom
NEIGHBOUR = LATTICE / np.sqrt(2.0)
PATHS = ("volume", "approach")
#: error of the force on the atom that moves, as a part of the force, that counts as accurate
ACCURATE = 0.2


class GeometriesForm(copper.CopperForm):
    """Settings of the study; of Cu-II only the structures are used, labelled anew by EMT."""

    functions: int = setting(150, "Functions of the basis.", ge=5)
    members: int = setting(8, "Members of the ensemble.", ge=2)
    points: int = setting(60, "Structures on each path.", ge=10)


def paths(form: GeometriesForm) -> list[Atoms]:
    """Both paths: info ``path`` and ``distance`` to the nearest neighbour (Angstrom)."""
    found = []
    for d in np.linspace(1.8, 1.15 * form.cutoff, form.points):
        atoms = bulk("Cu", "fcc", a=d * np.sqrt(2.0))
        atoms.info.update(path="volume", distance=float(d))
        found.append(atoms)
    repeat = int(np.ceil(2.0 * 5.5 / LATTICE))
    for d in np.linspace(1.0, NEIGHBOUR, form.points):
        atoms = bulk("Cu", "fcc", a=LATTICE, cubic=True) * repeat
        bond = atoms.get_distance(0, 1, mic=True, vector=True)
        atoms.positions[0] += bond * (1.0 - d / np.linalg.norm(bond))
        atoms.info.update(path="approach", distance=float(d))
        found.append(atoms)
    return found


def plan(form: GeometriesForm) -> list[Step]:
    """Jobs of the study."""
    work = form.functions / 150
    steps = []
    for seed in form.seeds:
        steps += [
            Step(f"labels of the training set, seed {seed}", 10 + form.train / 60),
            Step(f"labels of the paths, seed {seed}", 10 + form.points / 20),
            Step(f"fit and ensemble, seed {seed}", 15 + 12 * work * form.train / 300),
        ]
        for name in ("with", "without"):
            steps.append(Step(f"active set {name} emptiness, seed {seed}", 10 + 5 * work * form.train / 300))
            steps.append(Step(f"grades {name} emptiness, seed {seed}", 12 + 12 * work * form.points / 60))
    return steps


def run(bench: Bench, form: GeometriesForm) -> Outcome:
    """All seeds; the figure is that of the first."""
    frames = bench.read("Cu-II")
    rows, first = [], None
    emt = {"calculator": "emt"}
    for seed in form.seeds:
        train = bench.label(f"labels of the training set, seed {seed}", copper.split(frames, form, seed)[0], emt)
        scan = bench.label(f"labels of the paths, seed {seed}", paths(form), emt)
        settings = {"ensemble": {"members": form.members}}
        fit = bench.fit(
            f"fit and ensemble, seed {seed}", copper.basis(form.functions, form.cutoff), train, settings, seed
        )
        found: dict[str, Any] = {}
        for name in ("with", "without"):
            active = bench.active_set(
                f"active set {name} emptiness, seed {seed}", fit, train, {"emptiness": name == "with"}
            )
            result = bench.evaluate(f"grades {name} emptiness, seed {seed}", fit, scan, active, fit.ensemble)
            found[name] = np.array([atoms.arrays["gamma"].max() for atoms in result.frames])
            found["dE threshold"] = result.report["ensemble"]["thresholds"].get("energy")
        found |= arrays(result.frames)
        found["known"] = known_range(found, form.energy_limit)
        rows.append({"seed": seed, **numbers(found, form.cutoff)})
        first = first or found
    return conclude(rows, first, form)


def arrays(frames: list[Atoms]) -> dict[str, np.ndarray]:
    """Path, distance, energies (eV/atom), dE, and force along the path with its error (eV/A)."""
    force = [atoms.arrays["reference_forces"][0] for atoms in frames]
    return {
        "path": np.array([PATHS.index(a.info["path"]) for a in frames]),
        "distance": np.array([a.info["distance"] for a in frames]),
        "energy": np.array([a.get_potential_energy() / len(a) for a in frames]),
        "reference": np.array([a.info["reference_energy"] / len(a) for a in frames]),
        "dE": np.array([a.info["dE"] for a in frames]),
        "force": np.array([np.linalg.norm(f) for f in force]),
        "error": np.array([np.linalg.norm(a.get_forces()[0] - f) for a, f in zip(frames, force)]),
    }


def known_range(found: dict[str, Any], limit: float) -> list[float]:
    """Smallest and largest distance of the deformed crystals that lie in the range of energies that is learnt.

    Volumes of the training set do not say it: cells with vacuum have large ones.
    """
    volume = found["path"] == 0
    d, energy = found["distance"][volume], found["reference"][volume]
    near = d[energy - energy.min() <= limit]
    return [float(near.min()), float(near.max())]


def numbers(found: dict[str, Any], cutoff: float) -> dict[str, Any]:
    """What the findings are judged by, of one seed."""
    volume, approach = (found["path"] == k for k in (0, 1))
    d, low, high = found["distance"], *found["known"]
    gamma, limit = found["without"], found["dE threshold"]
    inside = volume & (d >= low) & (d <= high)
    outside = volume & ((d < 0.97 * low) | (d > 1.03 * high)) & (d < 0.98 * cutoff)
    blind = volume & (d > 1.02 * cutoff)
    row: dict[str, Any] = {"known from": low, "known to": high, "points inside": int(inside.sum())}
    row["inside, gamma"] = _share(gamma[inside] <= grades.INSIDE)
    row["outside, gamma"] = _share(gamma[outside] > grades.INSIDE)
    row["inside, dE"] = _share(found["dE"][inside] <= limit) if limit is not None else None
    row["outside, dE"] = _share(found["dE"][outside] > limit) if limit is not None else None
    row["blind, gamma"] = float(gamma[blind].max()) if blind.any() else None
    row["blind, gamma with emptiness"] = float(found["with"][blind].min()) if blind.any() else None
    row["blind, dE"] = 1000 * float(found["dE"][blind].max()) if blind.any() else None
    error = np.abs(found["energy"] - found["reference"])
    row["blind, energy error"] = 1000 * float(error[blind].max()) if blind.any() else None
    wrong = approach & (found["error"] > ACCURATE * np.maximum(found["force"], 0.5))
    flagged = approach & (gamma > grades.INSIDE)
    row["approach, gamma above 1 below"] = float(d[flagged].max()) if flagged.any() else None
    row["approach, forces wrong below"] = float(d[wrong].max()) if wrong.any() else 0.0
    return row


def _share(good: np.ndarray) -> float | None:
    return float(np.mean(good)) if len(good) else None


def conclude(rows: list[dict[str, Any]], first: dict[str, Any], form: GeometriesForm) -> Outcome:
    """Verdicts on the means over the seeds."""

    def mean(key: str) -> float | None:
        values = [row[key] for row in rows if row[key] is not None]
        return float(np.mean(values)) if values else None

    findings = []
    for name, sign in (("gamma", "γ"), ("dE", "dE")):
        inner, outer = mean(f"inside, {name}"), mean(f"outside, {name}")
        known = inner is not None and outer is not None
        clear = known and inner >= 0.9 and outer >= 0.9
        verdict = "yes" if clear else "partly" if known and inner + outer >= 1.5 else "no"
        text = f"{_percent(inner)} of the volumes inside what was learnt lie below its threshold, {_percent(outer)} of "
        findings.append(
            Finding(f"{sign} marks off the volumes that were learnt", verdict, text + "those outside above")
        )
    start, wrong = mean("approach, gamma above 1 below"), mean("approach, forces wrong below")
    gap = None if start is None else start - wrong
    blind = mean("blind, gamma")
    findings += [
        Finding(
            "Forces on an approaching atom stay accurate well below the distance where γ exceeds 1",
            "no" if gap is None or gap <= 0.05 else "yes" if gap >= 0.3 else "partly",
            f"γ above 1 below {_number(start)} Å, force error above {100 * ACCURATE:.0f} % below {_number(wrong)} Å "
            "(paper: 2.1 and 1.5 Å)",
        ),
        Finding(
            "Beyond the cutoff γ and dE see nothing (not in the paper: the blind spot of both)",
            "yes" if blind is not None and blind <= 1 else "no",
            f"largest γ {_number(blind)} and dE {_number(mean('blind, dE'))} meV/atom at an energy error "
            f"of {_number(mean('blind, energy error'))} meV/atom; with the record of empty environments γ is at least "
            f"{_number(mean('blind, gamma with emptiness'))}",
        ),
    ]
    table = Table(
        "Each seed", ("quantity", *(f"seed {row['seed']}" for row in rows)),
        [(key, *(row[key] for row in rows)) for key in rows[0] if key != "seed"],
    )  # fmt: skip
    remarks = [
        "No DFT for these paths is at hand: structures of Cu-II are labelled anew by EMT, and so are the paths. "
        "Volumes count as learnt whose energy is within `energy_limit` of the lowest (shaded).",
        f"Ensemble: {form.members} linear fits with random weights of the structures.",
    ]
    image = plots.picture(lambda figure: draw(figure, first), 9.0, 6.5)
    return Outcome(findings, [table], {"": image}, {"seeds": rows}, remarks)


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.0f} %"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def draw(figure: Any, found: dict[str, Any]) -> None:
    """Energy, gamma and dE along both paths; what was learnt is shaded."""
    axes = figure.subplots(3, 2, sharex="col")
    titles = ("homogeneous deformation of fcc", "one atom approaches its neighbour")
    for k in (0, 1):
        chosen = found["path"] == k
        d = found["distance"][chosen]
        top, middle, bottom = axes[:, k]
        low = found["reference"][chosen].min()
        top.plot(d, found["reference"][chosen] - low, "k-", label="EMT")
        top.plot(d, found["energy"][chosen] - low, "--", color=plots.COLORS[1], label="ACE")
        span = np.ptp(found["reference"][chosen])
        top.set_ylim(-0.1 * span, 1.1 * span)
        middle.semilogy(d, np.maximum(found["with"][chosen], 1e-3), color=plots.COLORS[3], label="with emptiness")
        middle.semilogy(d, np.maximum(found["without"][chosen], 1e-3), color=plots.COLORS[0], label="without")
        middle.axhline(1.0, color="0.5", linestyle=":")
        bottom.semilogy(d, np.maximum(1000 * found["dE"][chosen], 1e-6), color=plots.COLORS[2])
        if found["dE threshold"] is not None:
            bottom.axhline(1000 * found["dE threshold"], color="0.5", linestyle=":")
        top.set_title(titles[k], fontsize="medium")
        bottom.set_xlabel("distance to the nearest neighbour (Å)")
        if k == 0:
            for place, label in zip(axes[:, 0], ("energy (eV/atom)", "γ", "dE (meV/atom)")):
                place.set_ylabel(label)
                place.axvspan(*found["known"], color="0.9", zorder=0)
            top.legend(fontsize="small")
            middle.legend(fontsize="small")


STUDY = Study(
    name="geometries",
    title="Grades and ensembles along simple paths, copper",
    figures="Lysogorskiy et al. 2023, App. D and Fig. 13",
    form=GeometriesForm,
    short={},
    full={"seeds": (0, 1, 2, 3, 4), "train": 450, "functions": 732},
    plan=plan,
    run=run,
    sources=("Cu-II",),
)
