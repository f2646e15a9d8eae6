"""Cut: of candidates too large for a label, ``aceal.extract`` cuts out the unknown environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.explorers.walkers import ABOVE_WINDOW
from aiida_aceal.workflows.generation.outcome import (
    Call,
    Outcome,
    Started,
    known_hashes,
    report_of,
    worker_child,
)
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


@dataclass(frozen=True, kw_only=True)
class Cut(Outcome):
    """Small candidates and cuts in place of large ones; ``None`` if there is nothing left."""

    candidates: ConfigurationsData | None


def is_needed(candidates: ConfigurationsData | None, max_label_atoms: int | None) -> bool:
    """Whether there are candidates with more atoms than a label may have (``None``: no limit)."""
    if max_label_atoms is None or candidates is None:
        return False
    return bool(candidates.sizes.max() > max_label_atoms)


def _split(candidates: ConfigurationsData, limits: Mapping[str, Any], call: Call) -> dict[str, Any]:
    chosen = orm.Dict({key: limits[key] for key in ("max_label_atoms", "max_cut_candidates")})
    return call("split_large", split_large, candidates=candidates, settings=chosen)


def start(
    *,
    candidates: ConfigurationsData,
    limits: Mapping[str, Any],
    gamma_lo: float,
    potential: AcePotentialData,
    active_set: ActiveSetData,
    worker: Mapping[str, Any],
    call: Call,
) -> Started:
    """The job that cuts.

    :param limits: the section ``limits``: ``max_label_atoms``, ``max_cut_candidates``, ``extract``
    :param gamma_lo: of the window in force; atoms above it are unknown
    """
    parts = _split(candidates, limits, call)
    settings = {
        "max_cuts": CutSection.read(limits["extract"] or {}).max_cuts,
        **(limits["extract"] or {}),
        "gamma_lo": gamma_lo,
        "max_atoms": limits["max_label_atoms"],
    }
    child = worker_child(
        "extract",
        "aceal.extract",
        worker,
        "cut local environments",
        potential=potential,
        active_set=active_set,
        configurations=parts["large"],
        settings=orm.Dict(settings),
    )
    numbers = parts["report"]
    line = (
        f"{numbers['n_large']} candidates exceed max_label_atoms {limits['max_label_atoms']}; "
        f"cutting the unknown environments of {numbers['n_to_cut']}"
    )
    return Started(children=[child], facts={"n_large": numbers["n_large"]}, lines=[line])


def collect(
    *,
    child: orm.ProcessNode,
    candidates: ConfigurationsData,
    limits: Mapping[str, Any],
    gamma_hi: float,
    datasets: Mapping[str, ConfigurationsData],
    quarantine: Iterable[str],
    call: Call,
) -> Cut:
    """The cuts in place of the large candidates; if there are none, the small ones are left.

    :param child: the finished job
    :param candidates: small and large ones, as for :func:`start`
    :param gamma_hi: of the window in force; cuts with other atoms above it are dropped
    :param datasets: the training set, whose configurations are no candidates
    :param quarantine: content hashes of other configurations that are no candidates
    """
    parts, lines = _split(candidates, limits, call), []
    if not child.is_finished_ok:
        lines.append(f"the large candidates could not be cut and are lost: {why(child)}")
    cuts = output(child, "candidates")
    sets = {key: node for key, node in (("small", parts.get("small")), ("cuts", cuts)) if node is not None}
    joined = {}
    if sets:
        excluded = orm.List(sorted({*quarantine, *known_hashes(datasets, sets)}))
        joined = call("join_cuts", join_cuts, excluded=excluded, gamma_hi=orm.Float(gamma_hi), **sets)
    found, number = joined.get("candidates"), 0 if cuts is None else len(cuts)
    facts: dict[str, Any] = {"n_cuts": number, "n_candidates": 0 if found is None else len(found)}
    if found is None:
        facts["status"] = "no_candidates"
    lines.append(
        f"{counted(number, 'cell')} cut"
        + (f", {report_of(child).get('n_failed', 0)} cuts failed" if child.is_finished_ok else "")
        + (f", {joined['report']['n_bad_cuts']} dropped because other atoms are above gamma_hi" if joined else "")
        + f"; {facts['n_candidates']} candidates"
    )
    return Cut(candidates=found, facts=facts, lines=lines)
