"""Grading a pool of structures larger than memory: chunk by chunk, in parallel, with filters."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import model_validator

from aiida_aceal.ace import AceModel
from aiida_aceal.common.settings import Settings, setting
from aiida_aceal.uncertainty.emptiness import mark

from .distances import DEFAULT_FRACTION
from .filters import ABOVE_WINDOW, CompositionFilter, DistanceFilter, DuplicateFilter, FilterChain, WindowFilter
from .objective import StructureGrader

Progress = Callable[[str], None]


class PoolSettings(Settings):
    """What is taken from a pool."""

    heading = "Pool"

    gamma_lo: float = setting(2.0, "Lower limit of the largest grade of a structure.", ge=0)
    gamma_hi: float | None = setting(None, "Upper limit of the largest grade of a structure; null: no limit.", gt=0)
    minimum_distance: float | dict[str, float] | None = setting(
        None, "Shortest distance, for all pairs or by pair {Cu-I: 2.1}; by default from covalent radii.", unit="A", ge=0
    )
    fraction: float = setting(
        DEFAULT_FRACTION, "Default of minimum_distance, as a fraction of the sum of the covalent radii.", ge=0
    )
    duplicates: float | None = setting(1e-4, "Relative tolerance of the duplicate filter; null: no filter.", gt=0, lt=1)
    elements: tuple[str, ...] | None = setting(None, "Allowed elements; by default those of the potential.")
    required: tuple[str, ...] = setting((), "Elements that must be present.")
    atoms: tuple[int, int] | None = setting(None, "Smallest and largest number of atoms.", ge=0)
    fractions: dict[str, tuple[float, float]] = setting(
        {}, "Allowed ranges of atomic fractions, such as {Ni: [0.2, 0.8]}.", ge=0, le=1
    )
    max_candidates: int | None = setting(
        None, "Largest number of candidates kept, those with the largest grades.", ge=1
    )
    chunk_atoms: int = setting(20_000, "Number of atoms graded together; bounds the memory.", ge=1)

    @model_validator(mode="after")
    def _filters(self) -> PoolSettings:
        self.window  # noqa: B018  (checks)
        self.composition(())
        DistanceFilter(self.minimum_distance, self.fraction)
        return self

    @property
    def window(self) -> WindowFilter:
        """Filter of grades."""
        return WindowFilter(self.gamma_lo, float("inf") if self.gamma_hi is None else self.gamma_hi)

    def composition(self, known: Sequence[str]) -> CompositionFilter:
        """Filter of elements and sizes; ``known``: elements of the potential."""
        return CompositionFilter(
            self.elements if self.elements is not None else (known or None),
            self.required,
            self.atoms,
            self.fractions,
        )


class PoolSearch:
    """Iterates over the candidates of a pool; :meth:`report` says what became of the others.

    If no structure lies in the window but some lie above it, the :data:`~.filters.ABOVE_WINDOW` least extrapolating
    of those are the candidates (info ``above_window``), as with walkers: a young active set may know nothing of the
    pool.

    :param known: structures already there (the training set): their duplicates are dropped
    """

    def __init__(
        self,
        model: AceModel,
        active_set: Any,
        settings: PoolSettings | None = None,
        known: Iterable[Atoms] = (),
        progress: Progress | None = None,
    ) -> None:
        self.model, self.settings = model, settings or PoolSettings()
        self.grader = StructureGrader(model.single_threaded(), active_set)
        self.say = progress or (lambda text: None)
        settings = self.settings
        self.before = FilterChain(
            [
                settings.composition(tuple(model.potential.elements)),
                DistanceFilter(settings.minimum_distance, settings.fraction),
            ]
        )
        after: list[Any] = [settings.window]
        self.duplicates = None if settings.duplicates is None else DuplicateFilter(settings.duplicates)
        if self.duplicates is not None:
            for atoms in known:
                self.duplicates(atoms)
            after.append(self.duplicates)
        self.after = FilterChain(after)
        self.n_read = self.n_atoms = 0
        self.max_gamma = 0.0
        self.n_emptier = 0
        self.n_candidates = 0
        self._above: list[tuple[float, int, Atoms]] = []  # heap, the largest grade first
        self._seconds = 0.0

    def __call__(self, frames: Iterable[Atoms]) -> Iterator[Atoms]:
        """Candidates among ``frames``, in their order (by falling grade with ``max_candidates``).

        Each has the array ``gamma`` and the info ``gamma_max``, ``source`` and ``kind``; with atoms in environments
        emptier than any learnt also ``gamma_reason`` and ``n_emptier``.
        """
        limit = self.settings.max_candidates
        if limit is None:
            for atoms in self._stream(frames):
                self.n_candidates += 1
                yield atoms
            return
        heap: list[tuple[float, int, Atoms]] = []
        for number, atoms in enumerate(self._stream(frames)):
            item = (float(atoms.info["gamma_max"]), -number, atoms)
            if len(heap) < limit:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)
        self.n_candidates = len(heap)
        for _, _, atoms in sorted(heap, key=lambda item: (-item[0], -item[1])):
            yield atoms

    def _stream(self, frames: Iterable[Atoms]) -> Iterator[Atoms]:
        begin = time.perf_counter()
        with ThreadPoolExecutor(self.model.threads) as team, ThreadPoolExecutor(1) as reader:
            chunks = self._chunks(frames)
            waiting = reader.submit(next, chunks, None)  # the next chunk is read while this one is graded
            while (chunk := waiting.result()) is not None:
                waiting = reader.submit(next, chunks, None)
                open_ = [atoms for atoms in chunk if self.before.reason(atoms) is None]
                for atoms, (gamma, emptiness) in zip(open_, team.map(self.grader.floored, open_)):
                    top = float(gamma.max(initial=0.0)) if np.isfinite(gamma).all() else float("nan")
                    self.max_gamma = max(self.max_gamma, top) if np.isfinite(top) else self.max_gamma
                    atoms.arrays["gamma"] = gamma
                    atoms.info["gamma_max"] = top
                    atoms.info["kind"] = "pool"
                    self.n_emptier += mark(atoms.info, emptiness)
                    reason = self.after.reason(atoms)
                    if reason is None:
                        yield atoms
                    elif reason == "above_window" and not self.after.counts["kept"]:
                        self._keep_above(top, atoms)
                self._seconds = time.perf_counter() - begin
                self.say(f"{self.n_read} structures read, {self.after.counts['kept']} in the window")
        if not self.after.counts["kept"]:
            for _, _, atoms in sorted(self._above, key=lambda item: (-item[0], -item[1])):
                atoms.info["above_window"] = True
                yield atoms

    def _keep_above(self, grade: float, atoms: Atoms) -> None:
        """Remember the least extrapolating structures above the window that differ from each other."""
        if self.duplicates is not None and self.duplicates(atoms):
            return
        item = (-grade, -self.after.counts["above_window"], atoms)
        if len(self._above) < ABOVE_WINDOW:
            heapq.heappush(self._above, item)
        else:
            heapq.heappushpop(self._above, item)

    def _chunks(self, frames: Iterable[Atoms]) -> Iterator[list[Atoms]]:
        chunk: list[Atoms] = []
        size = 0
        for atoms in frames:
            atoms.info.setdefault("source", f"pool#{self.n_read}")
            self.n_read += 1
            self.n_atoms += len(atoms)
            chunk.append(atoms)
            size += len(atoms)
            if size >= self.settings.chunk_atoms:
                yield chunk
                chunk, size = [], 0
        if chunk:
            yield chunk

    def report(self) -> dict[str, Any]:
        """Plain numbers: what was read, kept, and dropped for which reason."""
        dropped = {**self.before.counts, **self.after.counts}
        dropped.pop("kept", None)
        if self._above and not self.after.counts["kept"]:
            dropped["above_window"] -= self.n_candidates
        return {
            "mode": "pool",
            "status": "completed",
            "steps_reached": self.n_read,
            "steps_total": self.n_read,
            "n_atoms": self.n_atoms,
            "n_candidates": self.n_candidates,
            "n_in_window": int(self.after.counts["kept"]),
            "max_gamma": self.max_gamma,
            "emptiness": {
                "n_structures": self.n_emptier,
                "note": getattr(self.grader.active_set, "emptiness_note", None),
            },
            "dropped": {name: int(number) for name, number in sorted(dropped.items())},
            "wall_seconds": self._seconds,
        }
