"""Active exploration (PRM 7, 043801, Sec. V.C): structures made to be unknown, without refitting the potential.

A reference structure is drawn at random, its atoms are moved until the largest grade reaches the target, the find
enters the active set, and so on. Attempts run in rounds of ``batch``; those of a round see the same active set and may
run in parallel, and their finds are merged in the order of the attempts, graded anew. So the result depends on
``seed`` and ``batch``, never on the number of workers or on which of them was faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import model_validator

from aiida_aceal.ace import AceModel, AcePotential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import is_number, setting
from aiida_aceal.uncertainty import update_active_set

from .filters import ABOVE_WINDOW
from .geometry import Constraints
from .objective import StructureGrader
from .search import SearchResult, SearchSettings, search, target_in_window

Progress = Callable[[str], None]


class ActiveSettings(SearchSettings, Constraints):
    """When active exploration stops, how it searches, and what may move: all keys in one flat mapping.

    With ``gamma_hi`` and without ``target_gamma`` (a campaign states its window only) the target is that of
    :func:`~aiida_aceal.exploration.search.target_in_window`.
    """

    heading = "Active exploration"

    count: int = setting(20, "Number of structures wanted.", ge=1)
    attempts: int = setting(100, "Largest number of searches.", ge=1)
    gamma_lo: float = setting(2.0, "A structure below this grade does not count as a find.", ge=1)
    gamma_hi: float | None = setting(None, "Nor does a structure above this grade; null: no limit.", gt=1)
    patience: int = setting(10, "Stop after this many searches in a row without a find.", ge=1)
    batch: int = setting(1, "Number of searches in one round (affects the result, unlike workers).", ge=1)
    workers: int = setting(1, "Processes.", ge=1)

    @model_validator(mode="before")
    @classmethod
    def _target(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        high, low = values.get("gamma_hi"), values.get("gamma_lo", cls.model_fields["gamma_lo"].default)
        if "target_gamma" in values or not (is_number(high) and is_number(low) and high > low):
            return values
        target, tolerance = target_in_window(low, high)
        return {"target_tolerance": tolerance, **values, "target_gamma": target}

    @model_validator(mode="after")
    def _window(self) -> ActiveSettings:
        if self.gamma_lo > self.target_gamma:
            raise ValueError(f"gamma_lo ({self.gamma_lo}) must not be above target_gamma ({self.target_gamma})")
        if self.gamma_hi is not None and self.gamma_hi <= self.gamma_lo:
            raise ValueError(f"gamma_hi ({self.gamma_hi}) must be above gamma_lo ({self.gamma_lo})")
        if self.gamma_hi is not None and self.gamma_hi <= self.target_gamma:
            raise ValueError(
                f"gamma_hi ({self.gamma_hi}) must be above target_gamma ({self.target_gamma}), else no search can end "
                "with a find"
            )
        return self


@dataclass
class ActiveResult:
    """``candidates`` in the order found (array ``gamma``, info ``gamma_max``, ``source``, ``kind``), the active set
    with all of them, and a ``report`` of plain numbers and text."""

    candidates: list[Atoms]
    active_set: Any
    report: dict[str, Any]


def explore_active(
    potential: AcePotential,
    active_set: Any,
    references: Sequence[Atoms],
    settings: ActiveSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ActiveResult:
    """Find up to ``settings.count`` structures that ``active_set`` does not cover.

    :param active_set: an :class:`~aiida_aceal.uncertainty.ActiveSet`; of a local one the global part is explored
    :param references: structures the searches start from (of the size and elements to be explored)
    :raises AceError: no references, elements that the potential does not know, impossible constraints
    """
    settings = settings or ActiveSettings()
    if not references:
        raise AceError("active exploration: no structures to start from")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise AceError(f"seed: {seed!r} is not a non-negative integer")
    say = progress or (lambda text: None)
    model = AceModel(potential, threads=1)
    if hasattr(active_set, "global_set"):
        say("local active set: only its global part, which can be updated by swaps, is explored")
        active_set = active_set.global_set()
    if hasattr(active_set, "check"):
        active_set.check(model)
    for atoms in references:
        StructureGrader(model, active_set).check_elements(atoms)
    state = _State(model, active_set, settings, say)
    seeds = np.random.SeedSequence(int(seed)).spawn(settings.attempts)
    with ExitStack() as stack:
        run = _runner(stack, potential, model, settings)
        while (status := state.status()) is None:
            numbers = range(state.attempts, min(state.attempts + settings.batch, settings.attempts))
            tasks = []
            for number in numbers:
                rng = np.random.default_rng(seeds[number])
                origin = int(rng.integers(len(references)))
                tasks.append((state.active_set, references[origin], rng, settings, origin))
            for result, task in zip(run(tasks), tasks):
                state.take(result, references[task[4]], task[4])
                if state.status() is not None:
                    break
    state.fall_back()
    return ActiveResult(state.candidates, state.active_set, state.report(status))


class _State:
    """What the rounds change: active set, finds, counters."""

    def __init__(self, model: AceModel, active_set: Any, settings: ActiveSettings, say: Progress) -> None:
        self.model, self.active_set, self.settings, self.say = model, active_set, settings, say
        self.candidates: list[Atoms] = []
        self.above: list[Atoms] = []
        self.attempts = self.idle = self.evaluations = self.reached = self.overtaken = 0
        self.history: list[dict[str, Any]] = []
        self.begin = time.perf_counter()
        # along an unseen direction the grade is (size / floor): what is a hundred times smaller is no find, and
        # counting it as seen would only make the inverse ill-conditioned
        floor = float(getattr(active_set, "floor", np.nan))
        self.rank_tolerance = 1e-2 * (floor if np.isfinite(floor) else 1e-4)
        labels = getattr(active_set, "environments", {}).values()
        #: index of the first find in the labels of the active set
        self.first_label = 1 + max((int(rows[:, 0].max(initial=-1)) for rows in labels), default=-1)

    def status(self) -> str | None:
        """Why to stop, or None."""
        if len(self.candidates) >= self.settings.count:
            return "count_reached"
        if self.attempts >= self.settings.attempts:
            return "attempts_used"
        return "nothing_found" if self.idle >= self.settings.patience else None

    def take(self, result: SearchResult, origin: Atoms, index: int) -> None:
        """Judge the result of one search under the present active set, and learn from it."""
        self.attempts += 1
        self.evaluations += result.evaluations
        settings = self.settings
        gamma = None if result.atoms is None else StructureGrader(self.model, self.active_set).gamma(result.atoms)
        top = 0.0 if gamma is None else float(gamma.max(initial=0.0))
        high = float("inf") if settings.gamma_hi is None else settings.gamma_hi
        found = gamma is not None and settings.gamma_lo < top < high and bool(np.isfinite(gamma).all())
        self.history.append({"attempt": self.attempts - 1, "origin": index, "gamma": top, "found": found})
        if gamma is not None and high <= top < float("inf") and not self.candidates:
            result.atoms.calc = None
            result.atoms.arrays["gamma"] = gamma
            result.atoms.info = {"gamma_max": top, "above_window": True, **self._facts(origin, index)}
            self.above.append(result.atoms)
        if not found:
            # a find of this round has covered it: the search itself was a success
            covered = result.gamma > settings.gamma_lo >= top
            self.overtaken += covered
            self.idle += not covered
            self.say(f"attempt {self.attempts}: largest gamma {top:.2f}, no find")
            return
        self.idle = 0
        self.reached += result.reached
        atoms = result.atoms
        atoms.calc = None
        atoms.arrays["gamma"] = gamma
        atoms.info = {"gamma_max": top, **self._facts(origin, index)}
        self.candidates.append(atoms)
        self._learn()
        self.say(f"attempt {self.attempts}: find {len(self.candidates)}/{settings.count}, gamma {top:.2f}")

    def fall_back(self) -> None:
        """Nothing in the window: the least extrapolating structures above it, as with walkers and pools."""
        if self.candidates or not self.above:
            return
        self.candidates = sorted(self.above, key=lambda atoms: atoms.info["gamma_max"])[
            : min(ABOVE_WINDOW, self.settings.count)
        ]
        self._learn()
        self.say(f"nothing in the window: the {len(self.candidates)} least extrapolating finds above it are kept")

    def _facts(self, origin: Atoms, index: int) -> dict[str, Any]:
        source = str(origin.info.get("source", f"reference#{index}"))
        return {"source": source, "kind": "active", "attempt": self.attempts - 1}

    def _learn(self) -> None:
        # all finds, not only the last: a swap can bring an environment of an earlier one above 1 again
        self.active_set = update_active_set(
            self.active_set,
            self.model,
            self.candidates,
            structure_offset=self.first_label,
            rank_tolerance=self.rank_tolerance,
        )

    def report(self, status: str) -> dict[str, Any]:
        grades = [float(atoms.info["gamma_max"]) for atoms in self.candidates]
        return {
            "mode": "active",
            "status": "completed",
            "reason": status,
            "steps_reached": self.attempts,
            "steps_total": self.settings.attempts,
            "n_candidates": len(self.candidates),
            "first_label": self.first_label,
            "max_gamma": max((entry["gamma"] for entry in self.history), default=0.0),
            "gammas": grades,
            "n_target_reached": self.reached,
            "n_overtaken": self.overtaken,
            "evaluations": self.evaluations,
            "wall_seconds": time.perf_counter() - self.begin,
            "history": self.history,
        }


def _attempt(model: AceModel, task: tuple) -> SearchResult:
    active_set, origin, rng, settings, _ = task
    return search(StructureGrader(model, active_set), origin, settings, settings, rng)


_WORKER: dict[str, AceModel] = {}  # one model for each worker process, set once by its initialiser


def _initialise(text: str) -> None:
    _WORKER["model"] = AceModel(AcePotential.from_yaml(text), threads=1)


def _remote_attempt(task: tuple) -> SearchResult:
    return _attempt(_WORKER["model"], task)


def _runner(
    stack: ExitStack, potential: AcePotential, model: AceModel, settings: ActiveSettings
) -> Callable[[list[tuple]], Any]:
    """Runs the tasks of a round, in order: here, or in worker processes."""
    if min(settings.workers, settings.batch) == 1:
        return lambda tasks: map(lambda task: _attempt(model, task), tasks)
    # spawn: a forked process would inherit locks of the threads of the numerical libraries
    pool = stack.enter_context(
        ProcessPoolExecutor(
            min(settings.workers, settings.batch),
            mp_context=get_context("spawn"),
            initializer=_initialise,
            initargs=(potential.to_yaml(),),
        )
    )
    return lambda tasks: pool.map(_remote_attempt, tasks)
