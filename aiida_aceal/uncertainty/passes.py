"""Passes over the rows of all environments until every element's active set is within the tolerance."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import kernels
from .active_rows import FLOOR_ROW, PREVIOUS_ROW, ActiveRows, start_rows
from .element_set import UNKNOWN_ROW, ElementActiveSet
from .emptiness import Emptiest
from .maxvol import column_scale, search
from .sources import Rows, unpack
from .swaps import WORKING_ROWS
from .threads import Team

Progress = Callable[[str], None]

#: Parts of the memory budget: rows held in memory, one chunk of new rows.
_HELD_PART = 0.38
CHUNK_PART = 0.12
_POOL_PART = 0.15
#: Swaps in one block end by themselves, unless rounding errors are as large as the tolerance.
_ROUNDS = 100
#: Attempts to find a larger volume, for up to 400 functions and for more: the same whether rows are streamed or not.
_SHAKES = (60, 20)
#: Streaming looks for a larger volume again when it has converged, so many times.
_POLISHES = 2


@dataclass
class Element:
    """Search state of one element."""

    columns: int
    scale: np.ndarray
    state: ActiveRows | None = None
    blocks: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    pool: tuple[np.ndarray, np.ndarray] | None = None
    n_environments: int = 0
    swaps: int = 0
    reached: float = 0.0
    changed: bool = False
    #: built, not updated: only then swaps within the tolerance are wanted
    fresh: bool = False

    @property
    def held(self) -> int:
        return sum(rows.nbytes for rows, _ in self.blocks)


def _shakes(e: Element) -> int:
    return _SHAKES[0] if e.columns <= 400 else _SHAKES[1]


@dataclass
class Run:
    """Passes over the rows until every element is within the tolerance."""

    source: Rows
    elements: dict[str, Element]
    budget: int
    tolerance: float
    rank_tolerance: float
    max_passes: int
    seed: int
    say: Progress
    passes: int = 0
    streamed: bool = False
    team: Team | None = None

    def __post_init__(self) -> None:
        # working sets and square matrices exist whatever the number of rows; three of them for each set that is built
        k = max(e.columns for e in self.elements.values())
        squares = 10 + 3 * (len(self.elements) - 1)
        self.budget = int(max(0.3 * self.budget, self.budget - 8 * k * (6 * WORKING_ROWS + squares * k)))

    def build(self) -> None:
        self._first_pass()
        polishes = _POLISHES
        while self.streamed and self.passes < self.max_passes:
            last = self.passes == self.max_passes - 1
            if self._pass(measure_only=last):
                continue
            if not polishes or not self._polish_again():
                break
            polishes -= 1

    def _first_pass(self) -> None:
        self.passes = 1
        for e in self.elements.values():
            e.fresh = e.state is None
        for chunk in self.source:
            for el, (rows, labels) in chunk.items():
                e = self.elements[el]
                kernels.column_maxima(rows, e.scale)
                e.n_environments += len(rows)
                e.blocks.append((rows, labels))
            if sum(e.held for e in self.elements.values()) > self.budget * _HELD_PART:
                if not self.streamed:
                    self.say("the rows do not fit into the given memory: streaming them in several passes")
                self.streamed = True
                for el, e in self.elements.items():
                    self._absorb_blocks(el, e)
            self.source.forget_identifiers(self._kept_labels)
        for el, e in self.elements.items():
            if self.streamed:
                self._absorb_blocks(el, e)
                if e.fresh:
                    self._polish(e)
            else:
                self._in_memory(el, e)

    def _in_memory(self, el: str, e: Element) -> None:
        """All rows of the element at once."""
        fresh = e.state is None
        rows = np.concatenate([r for r, _ in e.blocks]) if e.blocks else np.zeros((0, e.columns))
        labels = np.concatenate([x for _, x in e.blocks]) if e.blocks else np.zeros(0, np.int64)
        e.blocks.clear()
        rng = np.random.default_rng(self.seed)
        if fresh:
            e.scale = column_scale(rows[:0], e.scale)
            e.state = start_rows(rows, e.scale.copy(), self.rank_tolerance, self.team, rng)
            real = e.state.labels >= 0
            e.state.labels[real] = labels[e.state.labels[real]]
        limit = np.iinfo(np.int64).max
        rng = rng if fresh else None
        e.reached, e.swaps = search(e.state, rows, labels, self.tolerance, limit, self.team, rng, _shakes(e))
        if e.state.rank < e.columns:
            e.reached = float(e.state.grade(rows, self.team).max(initial=0.0))
        self._tell(el, e, "all in memory")

    def _absorb_blocks(self, el: str, e: Element) -> None:
        """Swap in what the held rows have to offer, then keep only the rows nearest to the tolerance."""
        if e.pool is not None:
            e.blocks.append(e.pool)
            e.pool = None
        if not e.blocks:
            return
        if e.state is None:
            self._start(e)
        for _ in range(_ROUNDS):
            gammas = [e.state.grade(rows, self.team) for rows, _ in e.blocks]
            if not self._swap_worst(e, gammas):
                break
        count = max(1, int(self.budget * _POOL_PART / len(self.elements) / (8 * e.columns)))
        e.pool = _largest(e.blocks, gammas, count, None)
        e.blocks = []
        self._tell(el, e, f"{e.n_environments} environments seen")

    def _polish_again(self) -> bool:
        """Whether the rows kept offer a larger volume to a search that has converged; then another pass checks."""
        if self.passes + 2 > self.max_passes:
            return False
        before = [e.swaps for e in self.elements.values()]
        for e in self.elements.values():
            if e.fresh:
                self._polish(e)
        return [e.swaps for e in self.elements.values()] != before

    def _polish(self, e: Element) -> None:
        """Look for a larger volume among the rows kept; the passes to come see to all the others."""
        if e.pool is None:
            return
        rows, labels = e.pool
        gamma = e.state.grade(rows, self.team)
        best = np.sort(np.argsort(-gamma, kind="stable")[: self._sample_size(e)])
        rng = np.random.default_rng([self.seed, self.passes])
        limit = np.iinfo(np.int64).max
        e.swaps += search(e.state, rows[best], labels[best], self.tolerance, limit, self.team, rng, _shakes(e))[1]

    def _start(self, e: Element) -> None:
        """First active rows: from a sample of the held rows."""
        rng = np.random.default_rng(self.seed)
        e.scale = column_scale(np.zeros((0, e.columns)), e.scale)
        n = sum(len(r) for r, _ in e.blocks)
        count = min(n, self._sample_size(e))
        picks = np.sort(rng.choice(n, count, replace=False))
        edges = np.cumsum([0, *[len(r) for r, _ in e.blocks]])
        parts = [picks[(picks >= a) & (picks < b)] - a for a, b in itertools.pairwise(edges)]
        rows = np.concatenate([r[p] for (r, _), p in zip(e.blocks, parts)])
        labels = np.concatenate([x[p] for (_, x), p in zip(e.blocks, parts)])
        e.state = start_rows(rows, e.scale.copy(), self.rank_tolerance, self.team, rng)
        real = e.state.labels >= 0
        e.state.labels[real] = labels[e.state.labels[real]]
        _, e.swaps = search(e.state, rows, labels, self.tolerance, np.iinfo(np.int64).max, self.team, rng)

    def _sample_size(self, e: Element) -> int:
        """Rows of a search that has rows and coefficients in memory."""
        return int(min(16 * e.columns, max(4 * e.columns, 0.1 * self.budget / (16 * e.columns))))

    def _swap_worst(self, e: Element, gammas: list[np.ndarray]) -> int:
        worst = _largest(e.blocks, gammas, 8 * e.columns, self.tolerance)
        if worst is None:
            return 0
        made = e.state.absorb(*worst, self.tolerance)
        e.swaps += made
        e.changed |= made > 0
        return made

    def _pass(self, measure_only: bool) -> bool:
        """One pass over everything with swaps on the way; whether another one is needed."""
        self.passes += 1
        for e in self.elements.values():
            e.reached, e.changed = 0.0, False
        for chunk in self.source:
            for el, block in chunk.items():
                e = self.elements[el]
                gamma = e.state.grade(block[0], self.team)
                e.reached = max(e.reached, float(gamma.max()))
                if not measure_only and gamma.max() > self.tolerance:
                    e.blocks = [block]
                    for _ in range(_ROUNDS):
                        if not self._swap_worst(e, [gamma]):
                            break
                        gamma = e.state.grade(block[0], self.team)
                    e.blocks = []
            self.source.forget_identifiers(self._kept_labels)
        if measure_only:
            return False
        again = False
        for el, e in self.elements.items():
            if e.changed:
                again = True
                self._absorb_blocks(el, e)
                e.reached = np.inf  # of an older set: the next pass measures
            else:
                self._tell(el, e, f"pass {self.passes}")
        return again

    def _kept_labels(self) -> list[np.ndarray]:
        """Labels of all rows that are or may still become active without being read again."""
        states = [e.state.labels for e in self.elements.values() if e.state is not None]
        pools = [e.pool[1] for e in self.elements.values() if e.pool is not None]
        return [*states, *pools, *(labels for e in self.elements.values() for _, labels in e.blocks)]

    def _tell(self, el: str, e: Element, what: str) -> None:
        reached = f", max gamma {e.reached:.4f}" if np.isfinite(e.reached) and e.reached > 0 else ""
        self.say(f"{el}: {what}: rank {e.state.rank} of {e.columns}, {e.swaps} swaps{reached}")


def _largest(
    blocks: list[tuple[np.ndarray, np.ndarray]], gammas: list[np.ndarray], count: int, above: float | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows and labels of the ``count`` largest gammas, all larger than ``above``; None if there are none."""
    gamma = np.concatenate(gammas)
    bar = -np.inf if above is None else above
    if gamma.size > count:
        bar = max(bar, float(-np.partition(-gamma, count)[count]))
    if not (gamma > bar).any():
        return None
    kept = [g > bar for g in gammas]
    rows = np.concatenate([r[k] for (r, _), k in zip(blocks, kept)])
    return rows, np.concatenate([x[k] for (_, x), k in zip(blocks, kept)])


def finish(
    e: Element,
    floor: float,
    run: Run,
    source: Rows,
    old: ElementActiveSet | None = None,
    offset: int = 0,
    emptiest: Emptiest | None = None,
) -> ElementActiveSet:
    if e.state is None:  # no environment of this element: floor rows only
        e.scale = column_scale(np.zeros((0, e.columns)), e.scale)
        e.state = start_rows(
            np.zeros((0, e.columns)), e.scale.copy(), run.rank_tolerance, run.team, np.random.default_rng(run.seed)
        )
    if e.state.rank < e.columns:
        e.state.rescale(e.scale)  # the size of floor rows: later chunks may have brought larger values
    final = e.state.finish(floor)
    environments = unpack(final.labels)
    identifiers = [source.identifiers.get(int(s), "") for s in environments[:, 0]]
    kept = final.labels <= PREVIOUS_ROW
    fresh = final.labels >= 0
    environments[fresh, 0] += offset
    if old is not None and kept.any():
        places = PREVIOUS_ROW - final.labels[kept]
        environments[kept] = old.environments[places]
        for j, p in zip(np.flatnonzero(kept), places):
            identifiers[j] = old.identifiers[p] if old.identifiers else ""
    else:
        environments[kept] = UNKNOWN_ROW
    for j in np.flatnonzero(final.labels == FLOOR_ROW):
        identifiers[j] = ""
    seen = 0 if old is None else max(old.n_environments, 0)
    return ElementActiveSet(
        inverse=final.inverse / final.scale[:, None],
        environments=environments,
        rank=final.rank,
        log_volume=final.log_volume,
        tolerance_reached=e.reached,
        n_environments=seen + e.n_environments,
        identifiers=tuple(identifiers) if any(identifiers) else (),
        swaps=e.swaps,
        emptiest=emptiest,
    )
