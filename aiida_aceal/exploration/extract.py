"""Local environments out of structures too large for a label (PRM 7, 043801, Sec. V.D).

For every group of atoms above gamma_lo: a box about the worst one is cut and made periodic, its size chosen between
twice the cutoff and the label budget so that the seam disturbs least; overlaps are removed, the composition repaired;
the inner sphere is held and the outer atoms are relaxed until every atom but the centre is unremarkable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import model_validator

from aiida_aceal.ace import AceModel
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.uncertainty.emptiness import mark

from .cuts import (
    Cut,
    cut_box,
    cut_cluster,
    formula_unit,
    group_centres,
    molecule_units,
    remove_overlaps,
    repair_stoichiometry,
    scale_limits,
)
from .distances import minimum_distances, shortest
from .geometry import Constraints
from .objective import StructureGrader
from .relax import Relaxation, relax_outer

Progress = Callable[[str], None]


class ExtractSettings(Settings):
    """How local environments are cut."""

    heading = "Local environments"

    mode: Literal["box", "cluster"] = setting("box", "Periodic box or free-standing cluster.")
    gamma_lo: float = setting(2.0, "Atoms with a larger grade are cut out; all others are to end up below it.", gt=0)
    max_atoms: int = setting(150, "Label budget: number of atoms of the largest cell.", ge=1)
    max_cuts: int = setting(10, "Largest number of cuts from one structure, largest grades first.", ge=1)
    inner_radius: float | None = setting(
        None, "Radius of the sphere that is kept exactly; by default the cutoff (a smaller one changes the environment "
        "of the centre).", unit="A", gt=0,
    )  # fmt: skip
    merge_radius: float | None = setting(
        None,
        "Atoms above gamma_lo within this distance of a centre share one cut; by default half the cutoff.",
        unit="A",
        gt=0,
    )
    sizes: int = setting(12, "Number of box sizes tried between the smallest and the budget.", ge=1)
    tries: int = setting(3, "Number of them that are relaxed, best first, until one succeeds.", ge=1)
    relax: bool = setting(True, "Whether the outer atoms are relaxed.")
    max_evaluations: int = setting(300, "Largest number of evaluations in one relaxation.", ge=1)
    relax_to: float = setting(0.95, "Relaxation ends when all others are below this fraction of gamma_lo.", gt=0, le=1)
    overlap_fraction: float = setting(0.7, "Fraction of the sum of covalent radii: see minimum_distance.", gt=0)
    minimum_distance: float | dict[str, float] | None = setting(
        None, "Shortest distance of relaxed atoms and across the seam, for all or by pair; by default the shortest of "
        "its pair in the structure, or overlap_fraction of the sum of covalent radii if that is less.", unit="A", ge=0,
    )  # fmt: skip
    stoichiometry: str = setting(
        "auto", "auto (the formula unit of the structure, if it is a compound), keep, or a formula such as CuI."
    )
    molecules: bool = setting(False, "Whether whole molecules are cut and removed.")
    cluster_radius: float | None = setting(
        None, "Radius of the free cluster; by default inner radius + 2.", unit="A", gt=0
    )
    vacuum: float = setting(8.0, "Vacuum around the free cluster, on each side.", unit="A", gt=0)

    @model_validator(mode="after")
    def _distances(self) -> ExtractSettings:
        minimum_distances((), self.minimum_distance)
        return self


@dataclass
class Extraction:
    """``cells`` and one ``reports`` entry for each group of atoms, cut or not (then with ``reason``)."""

    cells: list[Atoms]
    reports: list[dict[str, Any]]


def extract_environments(
    model: AceModel,
    active_set: Any,
    big: Atoms,
    settings: ExtractSettings | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """Cut the environments of all atoms of ``big`` above ``gamma_lo``.

    Each cell has the arrays ``gamma``, ``inner`` (1: held), ``origin`` (atom of ``big``), and the info ``gamma_max``,
    ``gamma_others`` (largest grade but for the centre and its group), ``centre``, ``source``, ``kind``. A group that
    cannot be cut (budget, composition) costs itself only.

    :raises AceError: elements that the potential does not know
    """
    settings = settings or ExtractSettings()
    say = progress or (lambda text: None)
    grader = StructureGrader(model, active_set)
    grader.check_elements(big)
    gamma, _ = grader.floored(big)
    if not np.isfinite(gamma).all():
        raise AceError(
            f"{big.get_chemical_formula()}: the grade of {int((~np.isfinite(gamma)).sum())} atoms is not finite"
        )
    reach = settings.merge_radius or 0.5 * model.cutoff
    groups = group_centres(big, gamma, settings.gamma_lo, reach)
    work = _Extractor(grader, big, gamma, settings)
    result = Extraction([], [])
    for number, group in enumerate(groups[: settings.max_cuts]):
        entry: dict[str, Any] = {
            "centre": int(group[0]),
            "group": [int(k) for k in group],
            "gamma_centre_original": float(gamma[group[0]]),
            "gamma_group_original": [float(x) for x in gamma[group]],
        }
        try:
            atoms, facts = work.one(group)
        except AceError as error:
            entry.update(status="failed", reason=str(error))
        else:
            atoms.info["source"] = f"{big.info.get('source', 'structure')}/atom{group[0]}"
            atoms.info["gamma_others"] = facts["gamma_others_after"]
            entry.update(facts)
            result.cells.append(atoms)
        result.reports.append(entry)
        say(f"cut {number + 1}/{len(groups)}: atom {group[0]}, gamma {gamma[group[0]]:.2f}: {_story(entry)}")
    for group in groups[settings.max_cuts :]:
        result.reports.append(
            {"centre": int(group[0]), "status": "skipped", "reason": f"max_cuts = {settings.max_cuts}"}
        )
    return result


def _story(entry: dict[str, Any]) -> str:
    if entry["status"] == "failed":
        return entry["reason"]
    return (
        f"{entry['n_atoms']} atoms, others {entry['gamma_others_before']:.2f} -> {entry['gamma_others_after']:.2f}, "
        f"centre {entry['gamma_centre']:.2f}"
    )


class _Extractor:
    def __init__(self, grader: StructureGrader, big: Atoms, gamma: np.ndarray, settings: ExtractSettings) -> None:
        self.grader, self.big, self.gamma, self.settings = grader, big, gamma, settings
        self.radius = settings.inner_radius or grader.model.cutoff
        self.units = molecule_units(big) if settings.molecules else np.arange(len(big))
        self.limits = minimum_distances(set(big.symbols), settings.minimum_distance, settings.overlap_fraction)
        if settings.minimum_distance is None:
            found = shortest(big)
            self.limits = {pair: min(limit, found.get(pair, limit)) for pair, limit in self.limits.items()}
        self.formula = {"auto": formula_unit(big), "keep": None}.get(settings.stoichiometry, settings.stoichiometry)

    def one(self, group: np.ndarray) -> tuple[Atoms, dict[str, Any]]:
        """Cell about the first atom of ``group``, and what there is to say about it."""
        centre = int(group[0])
        mode = self.settings.mode if self.big.pbc.any() else "cluster"
        cuts = [self._cluster(centre)] if mode == "cluster" else self._boxes(centre, group)
        best: tuple[float, Cut, Relaxation, np.ndarray] | None = None
        for cut in cuts[: self.settings.tries]:
            before = self.grader.gamma(cut.atoms)
            others = self._others(cut, group)
            done = self._relaxed(cut, before, others)
            largest = float(done.gamma[others].max(initial=0.0))
            if best is None or largest < best[0]:
                best = (largest, cut, done, before)
            if best[0] < self.settings.gamma_lo:
                break
        return self._describe(*best[1:], group, mode)

    def _relaxed(self, cut: Cut, before: np.ndarray, others: np.ndarray) -> Relaxation:
        goal = self.settings.relax_to * self.settings.gamma_lo
        if not self.settings.relax or self.grader.inverses is None:  # local sets have no gradient
            return Relaxation(cut.atoms.copy(), before, 0, bool(before[others].max(initial=0.0) < goal))
        rules = Constraints(minimum_distance={"-".join(pair): limit for pair, limit in self.limits.items()})
        done = relax_outer(self.grader, cut, others, goal, self.settings.max_evaluations, rules)
        members = ~others
        members[cut.centre] = False
        if not done.reached or not members.any():
            return done
        # members of the group are held, but not their whole neighbourhood: try to make them unremarkable, too
        moved = replace(cut, atoms=done.atoms)
        more = relax_outer(self.grader, moved, others | members, goal, self.settings.max_evaluations, rules)
        more.evaluations += done.evaluations
        better = more.gamma[members].max() < done.gamma[members].max()
        return more if better and more.gamma[others].max() < self.settings.gamma_lo else done

    def _others(self, cut: Cut, group: np.ndarray) -> np.ndarray:
        """All atoms but the centre, and but the members of its group whose environment is partly held, [n] bool."""
        others = ~(np.isin(cut.origin, group) & cut.inner)
        others[cut.centre] = False
        return others

    def _repaired(self, cut: Cut) -> Cut:
        cut = remove_overlaps(cut, self.limits)
        return repair_stoichiometry(cut, self.formula) if self.formula else cut

    def _cluster(self, centre: int) -> Cut:
        radius = self.settings.cluster_radius or self.radius + 2.0
        cut = cut_cluster(self.big, centre, self.radius, radius, self.settings.vacuum, self.units)
        if self.formula:
            cut = repair_stoichiometry(cut, self.formula)
        if len(cut.atoms) > self.settings.max_atoms:
            raise AceError(
                f"the cluster about atom {centre} has {len(cut.atoms)} atoms, the label budget is max_atoms = "
                f"{self.settings.max_atoms}: raise it, or lower cluster_radius or inner_radius"
            )
        return cut

    def _boxes(self, centre: int, group: np.ndarray) -> list[Cut]:
        """Repaired boxes within the budget, the least disturbed first."""
        smallest = scale_limits(self.big, self.radius)
        budget = self.settings.max_atoms
        factors = self._factors(smallest, centre)
        tried: dict[tuple, tuple[float, Cut] | None] = {}

        def attempt(scale: np.ndarray) -> float:
            key = tuple(np.round(scale, 6))
            if key not in tried:
                tried[key] = self._score(centre, scale, budget, group)
            return np.inf if tried[key] is None else tried[key][0]

        # all directions together first, then each on its own about the best
        best = min((np.minimum(1.0, f * smallest) for f in factors), key=attempt)
        for axis in np.flatnonzero(smallest < 1):
            for f in factors:
                scale = best.copy()
                scale[axis] = min(1.0, f * smallest[axis])
                if attempt(scale) < attempt(best):
                    best = scale
        found = sorted((item for item in tried.values() if item is not None), key=lambda item: item[0])
        if not found:
            raise AceError(
                f"no box about atom {centre} fits the label budget max_atoms = {budget} with its composition and "
                f"sphere of {self.radius:.2f} A intact (smallest: about {self._expected(smallest):.0f} atoms): raise "
                "max_atoms, lower inner_radius, or use mode cluster"
            )
        return [cut for _, cut in found]

    def _expected(self, scale: np.ndarray) -> float:
        return len(self.big) * float(np.prod(scale))

    def _factors(self, smallest: np.ndarray, centre: int) -> np.ndarray:
        """Multiples of the smallest box, up to the label budget (some more: repairs remove atoms)."""
        low, high = 1.0, float(1.0 / smallest.min())
        if self._expected(np.minimum(1.0, high * smallest)) > 1.1 * self.settings.max_atoms:
            for _ in range(50):
                middle = 0.5 * (low + high)
                fits = self._expected(np.minimum(1.0, middle * smallest)) <= 1.1 * self.settings.max_atoms
                low, high = (middle, high) if fits else (low, middle)
            high = low
        return np.linspace(1.0, high, self.settings.sizes) if high > 1 else np.ones(1)

    def _score(self, centre: int, scale: np.ndarray, budget: int, group: np.ndarray) -> tuple[float, Cut] | None:
        """Disturbance of a box before relaxation: how far its other atoms are above gamma_lo; None if impossible."""
        try:
            cut = self._repaired(cut_box(self.big, centre, self.radius, scale, self.units))
        except AceError:
            return None
        if len(cut.atoms) > budget or not self._intact(cut, centre):
            return None
        gamma = self.grader.gamma(cut.atoms)[self._others(cut, group)]
        excess = np.log(np.maximum(gamma / self.settings.gamma_lo, 1.0))
        return float(excess.sum()) + 1e-3 * float(gamma.max(initial=0.0)) + 1e-6 * len(cut.atoms), cut

    def _intact(self, cut: Cut, centre: int) -> bool:
        return self.radius < self.grader.model.cutoff - 1e-9 or self._distance(cut.atoms, cut.centre, centre) < 1e-8

    def _distance(self, atoms: Atoms, index: int, centre: int) -> float:
        """Distance of an atom's projections to those of the original, relative to the larger of their norms."""
        width = self.grader.n_functions[self.big.symbols[centre]]
        new = self.grader.projections(atoms)[index, :width]
        old = self._original[centre][:width]
        return float(np.linalg.norm(new - old) / max(np.linalg.norm(old), np.linalg.norm(new), 1e-300))

    @property
    def _original(self) -> np.ndarray:
        if not hasattr(self, "_kept"):
            self._kept = self.grader.projections(self.big)
        return self._kept

    def _describe(
        self, cut: Cut, done: Relaxation, before: np.ndarray, group: np.ndarray, mode: str
    ) -> tuple[Atoms, dict[str, Any]]:
        others = self._others(cut, group)
        members = np.isin(cut.origin, group) & cut.inner
        atoms = done.atoms
        atoms.wrap()
        graded, emptiness = self.grader.floored(atoms)
        atoms.arrays["gamma"] = graded
        atoms.arrays["inner"] = cut.inner.astype(int)
        atoms.arrays["origin"] = cut.origin
        atoms.info = {"gamma_max": float(graded.max()), "centre": cut.centre, "kind": "extract"}
        mark(atoms.info, emptiness)
        after = float(done.gamma[others].max(initial=0.0))
        facts = {
            "status": "ok" if after < self.settings.gamma_lo else "others_above_gamma_lo",
            "mode": mode,
            "n_atoms": len(atoms),
            "n_held": int(cut.inner.sum()),
            "cell_lengths": atoms.cell.lengths().tolist(),
            "removed": cut.removed,
            "formula": self.formula,
            "gamma_centre": float(done.gamma[cut.centre]),
            "gamma_group": [float(x) for x in done.gamma[members]],
            "gamma_others_before": float(before[others].max(initial=0.0)),
            "gamma_others_after": after,
            "n_above": int((done.gamma > self.settings.gamma_lo).sum()),
            "n_others_above_before": int((before[others] > self.settings.gamma_lo).sum()),
            "n_others_above_after": int((done.gamma[others] > self.settings.gamma_lo).sum()),
            "projection_distance": self._distance(atoms, cut.centre, int(group[0])),
            "relaxed": done.evaluations > 0,
            "evaluations": done.evaluations,
        }
        return atoms, facts
