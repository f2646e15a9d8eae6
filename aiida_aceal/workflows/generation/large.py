"""Candidates too large for a label: the loop cuts their uncertain environments out by ``aceal.extract``."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.common.words import counted
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.explorers.walkers import ABOVE_WINDOW
from aiida_aceal.workflows.sections import CutSection


@calcfunction
def split_large(candidates: ConfigurationsData, settings: orm.Dict) -> dict[str, Any]:
    """``small`` candidates, and at most ``max_cut_candidates`` of the others, evenly thinned: ``large``."""
    given = settings.get_dict()
    sizes = candidates.sizes
    small = [k for k, size in enumerate(sizes) if size <= given["max_label_atoms"]]
    large = [k for k, size in enumerate(sizes) if size > given["max_label_atoms"]]
    limit, total = given["max_cut_candidates"], len(large)
    if total > limit:
        large = [large[int(k * total / limit)] for k in range(limit)]
    result: dict[str, Any] = {"report": orm.Dict({"n_small": len(small), "n_large": total, "n_to_cut": len(large)})}
    for name, indices in (("small", small), ("large", large)):
        if indices:
            result[name] = candidates.select(indices, source=name)
    return result


@calcfunction
def join_cuts(excluded: orm.List, gamma_hi: orm.Float, **sets: ConfigurationsData) -> dict[str, Any]:
    """Small candidates and cuts together, without copies and without those of the given content hashes.

    A cut whose other atoms stayed above ``gamma_hi`` would teach its seam: dropped. If that is so for all of them, the
    :data:`~aiida_aceal.workflows.explorers.walkers.ABOVE_WINDOW` least extrapolating cuts are kept, as with walkers.
    """
    seen, chosen, bad = set(excluded.get_list()), [], []
    for key in sorted(sets):
        for atoms in sets[key].iter_atoms():
            if atoms.info["aceal_hash"] not in seen:
                seen.add(atoms.info["aceal_hash"])
                (chosen if atoms.info.get("gamma_others", 0.0) <= gamma_hi.value else bad).append(atoms)
    if not chosen:
        chosen = sorted(bad, key=lambda atoms: atoms.info["gamma_others"])[:ABOVE_WINDOW]
        for atoms in chosen:
            atoms.info["above_window"] = True
        bad = bad[len(chosen) :]
    result: dict[str, Any] = {"report": orm.Dict({"n_candidates": len(chosen), "n_bad_cuts": len(bad)})}
    if chosen:
        result["candidates"] = ConfigurationsData.from_atoms(chosen, source="explore")
    return result


class LargeCandidates:
    """Steps of a generation between exploration and selection, for a WorkChain with the helpers of a generation."""

    def has_large_candidates(self) -> bool:
        """Whether candidates exceed ``max_label_atoms``."""
        limit = self._settings("limits")["max_label_atoms"]
        if limit is None or self.ctx.candidates is None:
            return False
        return bool(orm.load_node(self.ctx.candidates).sizes.max() > limit)

    def _split(self) -> dict[str, Any]:
        limits = self._settings("limits")
        chosen = {key: limits[key] for key in ("max_label_atoms", "max_cut_candidates")}
        return self.call_once(
            "split_large",
            split_large,
            candidates=orm.load_node(self.ctx.candidates),
            settings=orm.Dict(chosen),
        )

    def extract(self) -> None:
        """Start the cutting."""
        limits = self._settings("limits")
        parts = self._split()
        self.ctx.facts["n_large"] = parts["report"]["n_large"]
        settings = {
            "max_cuts": CutSection.read(limits["extract"] or {}).max_cuts,
            **(limits["extract"] or {}),
            "gamma_lo": self.ctx.facts["gamma_lo"],
            "max_atoms": limits["max_label_atoms"],
        }
        cls, inputs = self._worker(
            "aceal.extract",
            potential=self.inputs.potential,
            active_set=self.inputs.active_set,
            configurations=parts["large"],
            settings=orm.Dict(settings),
        )
        self.start_child("extract", cls, inputs, f"generation {self.number}: cut local environments")
        self.report(
            f"generation {self.number}: {parts['report']['n_large']} candidates exceed max_label_atoms "
            f"{limits['max_label_atoms']}; cutting the unknown environments of {parts['report']['n_to_cut']}"
        )

    def inspect_extraction(self) -> None:
        """Put the cuts in place of the large candidates; if there are none, the small ones are left."""
        child, parts = self.ctx["extract"], self._split()
        if not child.is_finished_ok:
            self.report(f"generation {self.number}: the large candidates could not be cut and are lost: {why(child)}")
        cuts = output(child, "candidates")
        sets = {key: node for key, node in (("small", parts.get("small")), ("cuts", cuts)) if node is not None}
        excluded = set(self.inputs.quarantine.get_list()) if "quarantine" in self.inputs else set()
        joined = {}
        if sets:
            excluded = orm.List(sorted({*excluded, *self._known_hashes(sets)}))
            limit = orm.Float(self.ctx.facts["gamma_hi"])
            joined = self.call_once("join_cuts", join_cuts, excluded=excluded, gamma_hi=limit, **sets)
        found = joined.get("candidates")
        self.ctx.candidates = found.uuid if found is not None else None
        number = 0 if cuts is None else len(cuts)
        self.ctx.facts.update({"n_cuts": number, "n_candidates": 0 if found is None else len(found)})
        if found is None:
            self.ctx.facts["status"] = "no_candidates"
        self.report(
            f"generation {self.number}: {counted(number, 'cell')} cut"
            + (f", {self.report_of('extract').get('n_failed', 0)} cuts failed" if child.is_finished_ok else "")
            + (f", {joined['report']['n_bad_cuts']} dropped because other atoms are above gamma_hi" if joined else "")
            + f"; {self.ctx.facts['n_candidates']} candidates"
        )
