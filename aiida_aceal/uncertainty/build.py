"""Active sets of configurations: all in memory where they fit, streamed in several passes where they do not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.memory import parse_memory

from .active_rows import FLOOR, RANK_TOLERANCE, ActiveRows
from .active_set import KINDS, ActiveSet
from .element_set import ElementActiveSet
from .maxvol import TOLERANCE, check_numbers, coarser_rank_tolerance, column_scale
from .passes import CHUNK_PART, Element, Progress, Run, finish
from .sources import Rows, force_outliers, natural_scale
from .threads import Team

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_aceal.ace import AceModel


def build_active_set(
    model: AceModel,
    structures: Iterable[Atoms],
    kind: str = "linear",
    *,
    tolerance: float = TOLERANCE,
    memory: str | float = "2GiB",
    floor: float = FLOOR,
    rank_tolerance: float = RANK_TOLERANCE,
    exclude_outliers: bool = False,
    exclude: np.ndarray | None = None,
    emptiness: bool = True,
    max_passes: int = 20,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ActiveSet:
    """Active set of all environments of ``structures``, an element at a time (science: MaxVol, see ``maxvol``).

    :param model: an ``AceModel``; the linear kind needs no fitted coefficients.
    :param structures: list of Atoms, or an object that can be iterated several times (for files larger than memory).
    :param kind: "linear" (rows B) or "full" (rows dE/dc; needs fitted coefficients).
    :param tolerance: largest gamma of a training environment, >= 1.
    :param memory: what the search may add to the memory of the process (bytes or "2GiB"). Rows that do not fit are
        streamed in chunks, and passes are repeated until no environment exceeds the tolerance. One structure is
        always treated at once.
    :param floor: size of floor rows, relative to the size of each function (see ``maxvol``).
    :param exclude_outliers: leave out environments with a force error beyond Q3 + 1.5 IQR; they are recorded.
    :param exclude: [n, 2] (structure, atom) to leave out.
    :param emptiness: record the emptiest environments, so that emptier ones are flagged (see :mod:`~.emptiness`).
    :param max_passes: give up after so many passes; ``tolerance_reached`` then says how far it got.
    :param seed: of the probes that give the natural size of functions and of the start.
    :param threads: default: OMP_NUM_THREADS, else the cores available.
    :param progress: called with one line of text now and then.
    :raises AceError: bad arguments, no structure, an element without functions, a full set without fitted coefficients.
    """
    check_numbers(tolerance, floor, rank_tolerance)
    check_kind(model, kind)
    budget = parse_memory(memory)
    extra: dict = {} if emptiness else {"emptiness": False}
    if exclude_outliers:
        found, extra["excluded"] = force_outliers(model, structures)
        exclude = found if exclude is None else np.vstack([exclude, found])
    source = Rows(model, structures, kind, budget * CHUNK_PART, exclude)
    first = first_structures(structures)
    scale = natural_scale(model, first, kind, seed)
    sets, facts = run_search(
        source, scale, budget, tolerance=tolerance, floor=floor, rank_tolerance=rank_tolerance, max_passes=max_passes,
        seed=seed, threads=threads, progress=progress, emptiness=emptiness,
    )  # fmt: skip
    return ActiveSet(sets, kind, tolerance=tolerance, floor=floor, extra={**extra, **facts})


def run_search(
    source: Rows,
    scale: dict[str, np.ndarray],
    budget: int,
    *,
    tolerance: float,
    floor: float,
    rank_tolerance: float,
    max_passes: int,
    seed: int,
    threads: int | None,
    progress: Progress | None,
    emptiness: bool = True,
) -> tuple[dict[str, ElementActiveSet], dict[str, Any]]:
    """New active rows for every key of ``source.columns`` (an element, or a cluster of one), and facts of the run."""
    tell = progress or (lambda _: None)
    while True:
        elements = {el: Element(k, scale[el].copy()) for el, k in source.columns.items()}
        run = Run(source, elements, budget, tolerance, rank_tolerance, max_passes, seed, tell)
        with Team(threads) as team:
            run.team = team
            run.build()
            learnt = source.emptiest if emptiness else {}
            sets = {el: finish(e, floor, run, source, emptiest=learnt.get(el)) for el, e in elements.items()}
        reached = max((one.tolerance_reached for one in sets.values()), default=0.0)
        coarser = coarser_rank_tolerance(reached, tolerance, rank_tolerance, floor)
        if coarser is None or run.passes >= max_passes:
            break
        rank_tolerance = coarser
        tell(f"gamma reached {reached:.4g} through rounding errors: trying again with rank tolerance {coarser:g}")
    facts = {"passes": run.passes, "streamed": run.streamed, "n_structures": source.n_structures}
    return sets, {**facts, "rank_tolerance": rank_tolerance}


def update_active_set(
    active_set: ActiveSet,
    model: AceModel,
    structures: Iterable[Atoms],
    *,
    tolerance: float | None = None,
    memory: str | float = "2GiB",
    rank_tolerance: float = RANK_TOLERANCE,
    structure_offset: int | None = None,
    exclude: np.ndarray | None = None,
    max_passes: int = 20,
    threads: int | None = None,
    progress: Progress | None = None,
) -> ActiveSet:
    """A new active set: the old one with environments of ``structures`` swapped in where gamma exceeds the tolerance.

    Only ``structures`` are read: hand in the new ones (seconds), or all of them to have every one checked against
    the new set. ``tolerance_reached`` speaks of what was handed in.

    :param tolerance: default: that of the old set.
    :param structure_offset: added to the indices of ``structures`` in the labels (default: one more than the largest
        index in the old set).
    :raises AceError: the old set belongs to another potential, or is a pseudo-inverse without rows.
    """
    active_set.check(model)
    check_kind(model, active_set.kind)
    tolerance = tolerance if tolerance is not None else active_set.tolerance
    tolerance = tolerance if np.isfinite(tolerance) else TOLERANCE
    floor = active_set.floor if np.isfinite(active_set.floor) else FLOOR
    check_numbers(tolerance, floor, rank_tolerance)
    budget = parse_memory(memory)
    if structure_offset is None:
        structure_offset = 1 + max((int(s.environments[:, 0].max()) for s in active_set.sets.values()), default=-1)
        structure_offset = max(structure_offset, 0)
    source = Rows(model, structures, active_set.kind, budget * CHUNK_PART, exclude)
    elements = {}
    for el, old in active_set.sets.items():
        is_floor = old.floor_rows
        if is_floor.any():
            rows = old.active_rows()
            scale = np.abs(rows[~is_floor]).max(axis=0, initial=0.0)
            scale[np.abs(rows[is_floor]).argmax(axis=1)] = np.abs(rows[is_floor]).max(axis=1) / floor
            scale = column_scale(rows[:0], scale)
            state = ActiveRows.from_active(rows, is_floor, scale.copy(), rank_tolerance)
        else:
            state = ActiveRows.from_inverse(old.inverse)
            scale = state.scale.copy()
        elements[el] = Element(source.columns[el], scale, state)
    run = Run(source, elements, budget, tolerance, rank_tolerance, max_passes, 0, progress or (lambda _: None))
    with Team(threads) as team:
        run.team = team
        run.build()
        sets = {}
        for el, e in elements.items():
            old = active_set.sets[el]
            # what the old environments were like cannot be told from their rows: unknown stays unknown
            learnt = None if old.emptiest is None else old.emptiest.joined(source.emptiest[el])
            sets[el] = finish(e, floor, run, source, old, structure_offset, learnt)
    extra = {**active_set.extra, "passes": run.passes, "streamed": run.streamed}
    extra["n_structures"] = int(active_set.extra.get("n_structures", structure_offset)) + source.n_structures
    return ActiveSet(sets, active_set.kind, tolerance=tolerance, floor=floor, extra=extra)


def check_kind(model: AceModel, kind: str) -> None:
    if kind not in KINDS:
        raise AceError(f"kind = {kind!r} is unknown: choose {' or '.join(KINDS)}")
    model.potential.require_functions()
    if kind == "full" and not model.potential.is_fitted:
        raise AceError("a full active set needs fitted coefficients: fit the potential first, or use kind = 'linear'")
    if kind == "full" and all(p == 1 for p in model.n_densities.values()):
        raise AceError(
            "every element has one density: an .asi file cannot tell a full set from a linear one then; use kind "
            "= 'linear'"
        )


def first_structures(structures: Iterable[Atoms], count: int = 200) -> list[Atoms]:
    first = []
    for atoms in structures:
        first.append(atoms)
        if len(first) == count:
            break
    if not first:
        raise AceError("no structures: an active set needs at least one")
    return first
