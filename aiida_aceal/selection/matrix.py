"""Selection strategies on the matrix of projections: D-optimality with peeling rounds, and CUR."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting
from aiida_aceal.uncertainty import ActiveSet, build_active_set, update_active_set
from aiida_aceal.uncertainty.maxvol import TOLERANCE

from .base import Pick, Pool

_OFFSET = 10**9  # structure labels of candidates in an active set that also holds old environments
#: a pool whose projections take more bytes than this is searched in stages (but never in less than 40 K environments)
_SHORTLIST_BYTES = 2**25
_MAX_STAGES = 4
#: stages end when no candidate that extrapolated is above this grade any more
_STAGE_TOLERANCE = 1.05


Tolerance = Annotated[float, setting(help="Grade above which a candidate extrapolates.", ge=1)]
Rank = Annotated[
    int | None, setting(help="Number of singular vectors; by default all above 1e-6 of the largest.", ge=1)
]


def d_optimal(pool: Pool, wanted: int, rng: np.random.Generator, tolerance: Tolerance = TOLERANCE) -> Iterator[Pick]:
    """MaxVol over the active set and the candidates; structures by how many of their environments enter it.

    A set of K rows cannot name more than K structures. Asked for more, it goes on in peeling rounds: what is chosen
    is taken out and MaxVol runs again over the active set and the rest; once none of the rest extrapolates, over the
    rest alone.

    The emptiest environment of each element counts as an active row as well if it is emptier than any learnt: its
    projections are too small to enter, but gamma will flag its like until one of them is learnt (see
    `aiida_aceal.uncertainty.emptiness`).

    Ties are broken by the largest gamma, then by the order of the candidates. Of a large pool, MaxVol first sees the
    candidates of largest gamma, then those that still extrapolate, until none is above 1.05 (or after four stages).
    """
    active_set = pool.graded_by()
    left = np.arange(len(pool))
    gamma = pool.gamma
    base: ActiveSet | None = active_set
    turn = 0
    while len(left):
        if base is not None and gamma[left].max() > tolerance:
            counts = _entering(pool, base, left, gamma[left], tolerance) + _emptiest(pool, left, turn)
            where = "of the active set with the candidates"
        else:
            base = None
            new = build_active_set(
                pool.model, [pool.structures[i] for i in left], active_set.kind, tolerance=tolerance,
                memory=pool.memory, seed=int(rng.integers(2**31)), progress=pool.progress,
            )  # fmt: skip
            where = "of the remaining candidates alone"
            counts = np.zeros(len(left), dtype=int)
            for environments in new.environments.values():
                np.add.at(counts, environments[environments[:, 0] >= 0, 0], 1)
        entered = np.flatnonzero(counts)
        if not len(entered):
            if base is None:
                break  # nothing but vanishing functions is left
            base = None
            continue
        pool.progress(f"round {turn}: {counts.sum()} environments of {len(entered)} structures enter {where}")
        order = entered[np.lexsort((left[entered], -gamma[left[entered]], -counts[entered]))]
        for k in order:
            i = int(left[k])
            why = f"{counts[k]} environments {where}, gamma {gamma[i]:.4g}{pool.why(i)}"
            yield Pick(i, float(counts[k]), why, turn)
        left = np.delete(left, entered)
        turn += 1
    for i in left:
        yield Pick(int(i), 0.0, "nothing new: no further environment enters", turn)


def _emptiest(pool: Pool, left: np.ndarray, turn: int) -> np.ndarray:
    """[len(left)] of how many elements each candidate holds the emptiest environment; in the first round only."""
    counts = np.zeros(len(left), dtype=int)
    for element in pool.model.elements if turn == 0 else ():
        found = [pool.emptiest.get(int(i), {}).get(element, 0.0) for i in left]
        if max(found) > 1.0:
            counts[int(np.argmax(found))] += 1
    return counts


def _entering(pool: Pool, base: ActiveSet, left: np.ndarray, gamma: np.ndarray, tolerance: float) -> np.ndarray:
    """[len(left)] how many environments of each candidate are in the active set once all had their chance.

    :param gamma: [len(left)] grades of the candidates under ``base``.
    """
    sizes = pool.sizes[left]
    columns = max(pool.model.n_functions.values())
    room = max(_SHORTLIST_BYTES // (8 * columns), 40 * columns)
    everything = int(sizes.sum()) <= room
    outside = np.arange(len(left)) if everything else np.flatnonzero(gamma > tolerance)
    grade, current, stages = gamma[outside], base, []
    for stage in range(_MAX_STAGES):
        order = outside[np.argsort(-grade, kind="stable")]
        taken = outside if everything else np.sort(order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), room)))])
        stages.append(taken)
        current = update_active_set(
            current, pool.model, [pool.structures[i] for i in left[taken]], tolerance=tolerance,
            structure_offset=_OFFSET * (stage + 1), memory=pool.memory, progress=pool.progress,
        )  # fmt: skip
        outside = np.setdiff1d(outside, taken)
        if everything or not len(outside) or stage + 1 == _MAX_STAGES:
            break
        grade = pool.grades(current, left[outside])
        pool.progress(f"stage {stage}: {len(taken)} candidates seen, gamma of the others up to {grade.max():.4g}")
        if grade.max() <= _STAGE_TOLERANCE:
            break
        outside, grade = outside[grade > tolerance], grade[grade > tolerance]
    counts = np.zeros(len(left), dtype=int)
    for environments in current.environments.values():
        label = environments[:, 0]
        for stage, taken in enumerate(stages):
            mine = label[label // _OFFSET == stage + 1] % _OFFSET
            np.add.at(counts, taken[mine], 1)
    return counts


def cur(pool: Pool, wanted: int, rng: np.random.Generator, scaled: bool = True, rank: Rank = None) -> Iterator[Pick]:
    """CUR decomposition: structures by the largest leverage score of their environments' projections.

    ``leverage_i = sum_{k <= rank} (b_i . v_k / s_k)^2`` with the right singular vectors and singular values of each
    element's matrix of projections.

    :param scaled: divide every function by its root mean square first. Without it, the few functions of large
        magnitude decide (PRM 7, 043801 blames the spread of magnitudes for the failure of CUR).
    :param rank: number of singular vectors; default: all above 1e-6 of the largest. With all of them the leverage is
        ``b (B^T B)^-1 b^T``, which does not change when functions are rescaled: only a truncated rank feels ``scaled``.
    """
    if rank is not None and rank < 1:
        raise AceError(f"rank = {rank} must be at least 1")
    model = pool.model
    gram = {el: np.zeros((K, K)) for el, K in model.n_functions.items()}
    for first, held in pool.chunks():
        for el, part in model.projections(held).items():
            gram[el] += part.rows.T @ part.rows
        pool.progress(f"CUR: read {first + len(held)} of {len(pool)} candidates")
    transforms = {el: _leverage_transform(G, scaled, rank) for el, G in gram.items() if len(G)}
    score = np.zeros(len(pool))
    element = np.full(len(pool), "", dtype=object)
    for first, held in pool.chunks():
        for el, part in model.projections(held).items():
            if not len(part.rows):
                continue
            leverage = ((part.rows @ transforms[el]) ** 2).sum(axis=1)
            best = np.zeros(len(held))
            np.maximum.at(best, part.structure, leverage)
            better = np.flatnonzero(best > score[first : first + len(held)])
            score[first + better] = best[better]
            element[first + better] = el
    for i in np.argsort(-score, kind="stable"):
        yield Pick(int(i), float(score[i]), f"leverage {score[i]:.4g} of an environment of {element[i]}")


def _leverage_transform(gram: np.ndarray, scaled: bool, rank: int | None) -> np.ndarray:
    """[K, k] matrix T with leverage = ||b T||^2, from the Gram matrix of all rows."""
    size = np.sqrt(np.diag(gram))
    scale = np.where(size > 0, size, 1.0) if scaled else np.ones(len(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    order = np.argsort(values)[::-1]
    values, vectors = np.maximum(values[order], 0.0), vectors[:, order]
    keep = np.sqrt(values) > 1e-6 * np.sqrt(values[0]) if values[0] > 0 else np.zeros(len(values), dtype=bool)
    if rank is not None:
        keep[rank:] = False
    return vectors[:, keep] / np.sqrt(values[keep]) / scale[:, None]
