"""What all selection strategies share: the pool with its features, budgets, and the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceModel
from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty import ActiveSet
from aiida_aceal.uncertainty.emptiness import REASON

from .reference import ReferenceStatistics, fractions

Progress = Callable[[str], None]
#: structures are evaluated together up to this many atoms: bounds the memory of projections
CHUNK_ATOMS = 4000


class Indicator(Protocol):
    """Uncertainty of structures other than gamma, e.g. an ensemble."""

    def indicator(self, structures: Sequence[Atoms]) -> np.ndarray:
        """[N], larger where the model is less certain."""


class Pick(NamedTuple):
    """A candidate in the order of a strategy: index, score (larger is better), why, and the round it came in."""

    index: int
    score: float
    reason: str
    round: int = 0


@dataclass(frozen=True)
class Budget:
    """When to stop: whichever limit is met first. A structure that does not fit is passed over.

    ``cost`` is in units of ``n_atoms ** cost_power``: cubic for plane-wave DFT of cells with many electrons.
    """

    structures: int | None = None
    atoms: int | None = None
    cost: float | None = None
    cost_power: float = 3.0

    def __post_init__(self) -> None:
        limits = (self.structures, self.atoms, self.cost)
        if all(limit is None for limit in limits):
            raise AceError("a selection needs a budget: a number of structures, of atoms, or a label cost")
        if any(limit is not None and not limit > 0 for limit in limits):
            raise AceError(f"budget {self}: every limit must be above 0")

    def label_cost(self, n_atoms: int) -> float:
        """Estimated cost of one label."""
        return float(n_atoms) ** self.cost_power

    def admits(self, structures: int, atoms: int, cost: float) -> bool:
        """Whether these totals are within all limits."""
        return (
            (self.structures is None or structures <= self.structures)
            and (self.atoms is None or atoms <= self.atoms)
            and (self.cost is None or cost <= self.cost * (1.0 + 1e-12))
        )


@dataclass
class Selection:
    """Chosen candidates in the order of choice.

    ``indices`` [n] into the candidates, ``scores``, ``reasons`` and ``rounds`` of each; ``dropped``: near-duplicates
    left out, as (index, index of the chosen one it resembles); ``passed_over``: candidates that did not fit the budget;
    ``reference``: statistics the strategy judged by, if any; ``notes``: what was assumed or left out.
    """

    strategy: str
    indices: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)
    passed_over: list[int] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    reference: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Plain JSON facts."""
        return {
            "strategy": self.strategy,
            "n_selected": len(self.indices),
            "selected": [
                {"index": i, "score": s, "reason": r, "round": n}
                for i, s, r, n in zip(self.indices, self.scores, self.reasons, self.rounds)
            ],
            "rounds": max(self.rounds, default=-1) + 1,
            "near_duplicates": [list(pair) for pair in self.dropped],
            "passed_over": self.passed_over,
            "notes": self.notes,
            **({"reference": self.reference} if self.reference is not None else {}),
            **({"log": self.log} if self.log else {}),
        }


class Pool:
    """Candidates with the features strategies ask for; each is computed once, in chunks, when first needed.

    :param structures: the candidates.
    :param model: the current model (projections, energies).
    :param active_set: its active set; needed for gamma and ``d_optimal``.
    :param indicator: uncertainty in place of gamma.
    :param descriptor: ``projections`` (B averaged over the atoms of each element) or ``composition``.
    :param reference: the training set of the model, for strategies that compare candidates with it.
    """

    def __init__(
        self,
        structures: Sequence[Atoms],
        model: AceModel,
        active_set: ActiveSet | None = None,
        *,
        indicator: Indicator | None = None,
        descriptor: str = "projections",
        reference: Sequence[Atoms] | None = None,
        progress: Progress | None = None,
        memory: str | float = "1GiB",
    ) -> None:
        if not len(structures):
            raise AceError("there are no candidates to select from")
        if descriptor not in ("projections", "composition"):
            raise AceError(f"descriptor = {descriptor!r} is unknown: choose projections or composition")
        self.structures, self.model, self.active_set = structures, model, active_set
        self._indicator, self.descriptor = indicator, descriptor
        self._reference = reference
        self.progress: Progress = progress or (lambda _: None)
        self.memory = memory
        self.sizes = np.array([len(atoms) for atoms in structures])
        self.log: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.judged_by: ReferenceStatistics | None = None
        #: candidate -> element -> emptiness, of those that are emptier than what was learnt; filled with ``gamma``
        self.emptiest: dict[int, dict[str, float]] = {}

    def __len__(self) -> int:
        return len(self.structures)

    def chunks(self) -> Iterator[tuple[int, Sequence[Atoms]]]:
        """(index of the first, structures) of consecutive pieces."""
        first, atoms = 0, 0
        for i, n in enumerate(self.sizes):
            if atoms and atoms + n > CHUNK_ATOMS:
                yield first, self.structures[first:i]
                first, atoms = i, 0
            atoms += int(n)
        yield first, self.structures[first:]

    def graded_by(self) -> ActiveSet:
        """The active set, or a clear error."""
        if self.active_set is None:
            raise AceError("this strategy needs the extrapolation grade: give an active set (.asi) of the potential")
        return self.active_set

    @cached_property
    def gamma(self) -> np.ndarray:
        """[N] largest extrapolation grade of each structure."""
        active_set = self.graded_by()
        if active_set.emptiness_note:
            self.notes.append(active_set.emptiness_note)
        return self.grades(active_set, np.arange(len(self)), self.emptiest)

    def why(self, index: int) -> str:
        """What to add to the reason of a pick: whether environments emptier than any learnt are in the candidate."""
        return f" ({REASON})" if index in self.emptiest else ""

    def grades(
        self, active_set: ActiveSet, indices: np.ndarray, emptiest: dict[int, dict[str, float]] | None = None
    ) -> np.ndarray:
        """[n] largest extrapolation grade of each candidate of ``indices`` under any active set.

        :param emptiest: gets, for candidates with environments emptier than any that ``active_set`` has learnt,
            element -> the largest emptiness.
        """
        model = self.model.single_threaded()
        model.active_set = active_set
        model.threads, model._pool = self.model.threads, self.model._pool
        gamma = np.empty(len(indices))
        first = 0
        while first < len(indices):
            last = first + 1 + int(np.searchsorted(np.cumsum(self.sizes[indices[first + 1 :]]), CHUNK_ATOMS))
            held = [self.structures[i] for i in indices[first:last]]
            results = model.evaluate_batch(held, forces=False, stress=False, gamma=True)
            gamma[first : first + len(held)] = [r.gamma.max() for r in results]
            for k, (atoms, result) in enumerate(zip(held, results)):
                if emptiest is not None and result.emptiness is not None and result.emptiness.max() > 1.0:
                    symbols = np.array(atoms.get_chemical_symbols())
                    empty = {el: float(result.emptiness[symbols == el].max()) for el in sorted(set(symbols))}
                    emptiest[int(indices[first + k])] = {el: x for el, x in empty.items() if x > 1.0}
            first += len(held)
            self.progress(f"graded {first} of {len(indices)} candidates")
        return gamma

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """[N] the indicator, or gamma."""
        if self._indicator is None:
            return self.gamma
        values = np.asarray(self._indicator.indicator(self.structures), dtype=float)
        if values.shape != (len(self),) or not np.isfinite(values).all():
            raise AceError(f"the uncertainty indicator gave shape {values.shape} for {len(self)} candidates, or NaN")
        return values

    @property
    def uncertainty_name(self) -> str:
        return "gamma" if self._indicator is None else "indicator"

    @cached_property
    def energies(self) -> np.ndarray:
        """[N] energy per atom of the current model, reference energies included, eV."""
        free = self.model.potential.reference_energies
        energies = np.empty(len(self))
        for first, held in self.chunks():
            results = self.model.evaluate_batch(held, forces=False, stress=False)
            for k, (atoms, result) in enumerate(zip(held, results)):
                offset = sum(free.get(s, 0.0) for s in atoms.get_chemical_symbols())
                energies[first + k] = (result.energy + offset) / len(atoms)
        return energies

    @cached_property
    def reference(self) -> ReferenceStatistics:
        """Statistics of the reference set under the current model and uncertainty, or a clear error."""
        if self._reference is None:
            raise AceError(
                "viability needs a reference set: give the training set of the potential (--reference FILE of "
                "aceal-worker select, input `reference` of aceal.select, argument `reference` of select), or its "
                "numbers as option `reference`: {U, sU, E, sE}; the candidates themselves are no measure of what is "
                "unphysical"
            )
        known = Pool(self._reference, self.model, self.active_set, indicator=self._indicator, memory=self.memory)
        free = self.model.potential.reference_energies
        return ReferenceStatistics.of(known.structures, known.uncertainty, known.energies, self.model.elements, free)

    @cached_property
    def descriptors(self) -> np.ndarray:
        """[N, D] one vector per structure, columns scaled to unit standard deviation (constant ones dropped)."""
        if self.descriptor == "composition":
            raw = fractions(self.structures, self.model.elements)
        else:
            raw = self._averaged_projections()
        return standardised(raw)

    def _averaged_projections(self) -> np.ndarray:
        """B summed over the atoms of each element and divided by the number of all atoms, elements side by side."""
        sizes = [self.model.n_functions[el] for el in self.model.elements]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        out = np.zeros((len(self), offsets[-1]))
        for first, held in self.chunks():
            for k, part in enumerate(self.model.projections(held).values()):
                if len(part.rows):
                    present, start = np.unique(part.structure, return_index=True)
                    sums = np.add.reduceat(part.rows, start, axis=0)
                    out[first + present, offsets[k] : offsets[k + 1]] = sums / self.sizes[first + present, None]
            self.progress(f"described {first + len(held)} of {len(self)} candidates")
        return out


def standardised(X: np.ndarray, block: int = 2048) -> np.ndarray:
    """Columns of X [N, D] with mean 0 and standard deviation 1, those that hardly vary dropped.

    Works on X itself, a block of rows at a time: with 100 000 candidates every copy of X is hundreds of megabytes.
    """
    blocks = [slice(k, k + block) for k in range(0, len(X), block)]
    mean = X.mean(axis=0)
    spread = np.sqrt(sum(((X[b] - mean) ** 2).sum(axis=0) for b in blocks) / len(X))
    largest = max(float(np.abs(X[b]).max(initial=0.0)) for b in blocks)
    keep = spread > 1e-12 * max(1e-300, largest)
    for b in blocks:
        X[b] -= mean
        X[b, keep] /= spread[keep]
    if keep.all():
        return X
    return X[:, keep] if keep.any() else np.zeros((len(X), 1))


class Strategy(Protocol):
    """A selection strategy: candidates in the order it would take them; called once per selection.

    ``wanted`` is the number of structures the budget admits at most. Entry point group ``aiida_aceal.strategies``.
    """

    def __call__(self, pool: Pool, wanted: int, rng: np.random.Generator, **options: Any) -> Iterator[Pick]: ...
