"""Extrapolation in composition (Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Fig. 5).

Decorations of fcc, bcc and hcp cells of two to eight atoms with Al and Ni, labelled by EMT. What holds no more Al than
a limit is learnt; all else is graded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk

from aiida_aceal.common.settings import setting

from . import grades, plots
from .study import Finding, Form, Outcome, Step, Study, Table

if TYPE_CHECKING:
    from .bench import Bench

ROLES = ("train", "test", "beyond")
#: lattice constants of fcc by EMT, Angstrom
LATTICE = {"Al": 3.99, "Ni": 3.49}


class AlNiForm(Form):
    """Settings of the study."""

    structures: int = setting(500, "Decorations in all.", ge=20)
    limit: float = setting(0.5, "Largest share of Al that is learnt.", gt=0, lt=1)
    held: float = setting(0.2, "Fraction of those up to the limit that is not learnt.", gt=0, lt=1)
    functions: int = setting(150, "Functions for each element.", ge=4)
    cutoff: float = setting(7.0, "Of the potential.", unit="A", gt=0)
    members: int = setting(8, "Members of the ensemble.", ge=2)


def decorations(count: int, seed: int) -> list[Atoms]:
    """Different decorations, with some strain and displacement; info ``x_Al``."""
    rng = np.random.default_rng(seed)
    found: list[Atoms] = []
    seen = set()
    while len(found) < count:
        crystal = str(rng.choice(["fcc", "bcc", "hcp"]))
        atoms = _cell(crystal, int(rng.integers(2, 9)), rng)
        n_al = int(rng.integers(0, len(atoms) + 1))
        share = n_al / len(atoms)
        # one volume per atom for all lattices, that of fcc at this composition
        volume = (share * LATTICE["Al"] ** 3 + (1 - share) * LATTICE["Ni"] ** 3) / 4
        symbols = np.array(["Ni"] * len(atoms), dtype=object)
        symbols[rng.permutation(len(atoms))[:n_al]] = "Al"
        atoms.symbols[:] = list(symbols)
        key = (crystal, tuple(np.round(atoms.cell.lengths(), 3)), "".join(symbols))
        if key in seen and rng.random() < 0.9:  # small cells have few decorations: most repeats are left out
            continue
        seen.add(key)
        strain = np.eye(3) + rng.normal(0.0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell @ strain * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.04, atoms.positions.shape)
        atoms.info.update(x_Al=share, crystal=crystal)
        found.append(atoms)
    return found


def _cell(crystal: str, size: int, rng: np.random.Generator) -> Atoms:
    """A cell of ``size`` atoms (hcp: even numbers only, the next larger one)."""
    unit = bulk("Ni", crystal, a=3.5, **({"c": 5.7} if crystal == "hcp" else {}))
    factor = -(-size // len(unit))
    shapes = [(a, b, factor // (a * b)) for a in (1, 2) for b in (1, 2) if factor % (a * b) == 0]
    atoms = unit.repeat(shapes[int(rng.integers(len(shapes)))])
    return atoms


def plan(form: AlNiForm) -> list[Step]:
    """Jobs of the study."""
    work = form.functions / 150 * form.structures / 500
    steps = []
    for seed in form.seeds:
        steps += [
            Step(f"labels by EMT, seed {seed}", 10 + form.structures / 100),
            Step(f"fit and ensemble, seed {seed}", 15 + 20 * work),
            Step(f"active set, seed {seed}", 10 + 8 * work),
            Step(f"grades, seed {seed}", 15 + 20 * work),
        ]
    return steps


def run(bench: Bench, form: AlNiForm) -> Outcome:
    """All seeds: other structures, split and ensemble."""
    rows, found = [], []
    for seed in form.seeds:
        frames = bench.label(f"labels by EMT, seed {seed}", decorations(form.structures, seed), {"calculator": "emt"})
        rng = np.random.default_rng(seed + 1)
        for atoms in frames:
            low = atoms.info["x_Al"] <= form.limit + 1e-9
            atoms.info["group"] = "beyond" if not low else "test" if rng.random() < form.held else "train"
        train = [atoms for atoms in frames if atoms.info["group"] == "train"]
        basis = {
            "elements": ["Al", "Ni"], "cutoff": form.cutoff, "number_of_functions_per_element": form.functions,
            "nradmax_by_orders": [13, 3, 2, 2, 1], "lmax_by_orders": [0, 2, 2, 1, 1],
        }  # fmt: skip
        fit = bench.fit(
            f"fit and ensemble, seed {seed}", basis, train, {"ensemble": {"members": form.members}}, seed
        )  # fmt: skip
        active = bench.active_set(f"active set, seed {seed}", fit, train)
        result = bench.evaluate(f"grades, seed {seed}", fit, frames, active, fit.ensemble)
        one = grades.per_structure(result.frames, ROLES)
        one["x_Al"] = np.array([atoms.info["x_Al"] for atoms in result.frames])
        limits = {"gamma": grades.INSIDE, "dE": result.report["ensemble"]["thresholds"].get("energy")}
        found.append((one, limits))
        rows.append({"seed": seed, **numbers(one, limits)})
    return conclude(rows, found, form)


def numbers(one: dict[str, np.ndarray], limits: dict[str, float | None]) -> dict[str, Any]:
    """What the findings are judged by, of one seed."""
    row: dict[str, Any] = {}
    for k, role in enumerate(ROLES):
        chosen = one["role"] == k
        row[role] = int(chosen.sum())
        row[f"energy error {role}"] = 1000 * float(np.median(one["energy"][chosen])) if chosen.any() else None
        for name, limit in limits.items():
            known = limit is not None and chosen.any()
            row[f"{name} outside {role}"] = float(np.mean(one[name][chosen] > limit)) if known else None
            row[f"{name} {role}"] = float(np.median(one[name][chosen])) if chosen.any() else None
    for name in limits:
        row[f"rank {name}"] = grades.correlation(one[name], one["energy"])
    return row


def conclude(rows: list[dict[str, Any]], found: list[Any], form: AlNiForm) -> Outcome:
    """Verdicts on the means over the seeds."""

    def mean(key: str) -> float | None:
        values = [row[key] for row in rows if row[key] is not None]
        return float(np.mean(values)) if values else None

    findings = []
    rise = _ratio(mean("energy error beyond"), mean("energy error test"))
    findings.append(
        Finding(
            "The energy error rises beyond the composition that was learnt",
            "no" if rise is None or rise < 1.5 else "yes" if rise >= 5 else "partly",
            f"median error {_number(mean('energy error test'))} meV/atom up to x_Al = {form.limit:g} (not learnt), "
            f"{_number(mean('energy error beyond'))} beyond it",
        )
    )
    for name, sign in (("gamma", "γ"), ("dE", "dE")):
        beyond, inner = mean(f"{name} outside beyond"), mean(f"{name} outside test")
        good = beyond is not None and inner is not None
        verdict = (
            "yes" if good and beyond >= 0.9 and inner <= 0.2 else "partly" if good and beyond - inner > 0.4 else "no"
        )
        findings.append(
            Finding(
                f"{sign} tells interpolation from extrapolation in composition",
                verdict,
                f"above its threshold: {_share(beyond)} of the structures beyond the limit, {_share(inner)} of those "
                "up to it that were not learnt; rank correlation with the energy error "
                f"{_number(mean(f'rank {name}'))}",
            )
        )
    columns = ("seed", *ROLES, *(f"energy error {r} (meV/atom)" for r in ROLES),
               *(f"{n} outside {r} (%)" for n in ("gamma", "dE") for r in ROLES))  # fmt: skip
    lines = [
        (row["seed"], *(row[r] for r in ROLES), *(row[f"energy error {r}"] for r in ROLES),
         *(None if row[f"{n} outside {r}"] is None else 100 * row[f"{n} outside {r}"] for n in ("gamma", "dE")
           for r in ROLES))
        for row in rows
    ]  # fmt: skip
    remarks = [
        "Data set 10B of the paper is not at hand: decorations of fcc, bcc and hcp cells of two to eight atoms, with "
        "some strain and displacement, are labelled by ASE's EMT.",
        f"What is learnt ends at x_Al = {form.limit:g}, a choice of ours.",
        f"Ensemble: {form.members} linear fits with random weights of the structures. Energies are learnt relative to "
        "a least-squares fit on the composition.",
    ]
    image = plots.picture(lambda figure: draw(figure, *found[0], form.limit), 6.5, 6.5)
    return Outcome(findings, [Table("Each seed", columns, lines)], {"": image}, {"seeds": rows}, remarks)


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.0f} %"


def draw(figure: Any, one: dict[str, np.ndarray], limits: dict[str, float | None], limit: float) -> None:
    """Energy error, gamma and dE against the share of Al."""
    axes = figure.subplots(3, 1, sharex=True)
    for place, (key, label, scale) in zip(axes, (("energy", "energy error (meV/atom)", 1000.0), ("gamma", "γ", 1.0),
                                                 ("dE", "dE (meV/atom)", 1000.0))):  # fmt: skip
        for k, role in enumerate(ROLES):
            chosen = one["role"] == k
            place.semilogy(one["x_Al"][chosen], np.maximum(scale * one[key][chosen], 1e-3), ".", ms=4, alpha=0.6,
                           color=plots.COLORS[k], label=role)  # fmt: skip
        for share in np.unique(one["x_Al"]):
            values = scale * one[key][one["x_Al"] == share]
            place.vlines(share, max(values.min(), 1e-3), max(values.max(), 1e-3), color="0.8", zorder=0)
        if limits.get(key) is not None:
            place.axhline(scale * limits[key], color="0.4", linestyle=":")
        place.axvline(limit, color="0.4", linestyle="--")
        place.set_ylabel(label)
    axes[0].legend(fontsize="small")
    axes[-1].set_xlabel("share of Al")


STUDY = Study(
    name="al-ni",
    title="Extrapolation in composition, Al-Ni",
    figures="Lysogorskiy et al. 2023, Fig. 5",
    form=AlNiForm,
    short={"seeds": (0, 1)},
    full={"seeds": (0, 1, 2, 3, 4), "structures": 1500},
    plan=plan,
    run=run,
)
