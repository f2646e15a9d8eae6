"""`select`: one interface to all strategies, ours and those of other packages."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceModel
from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty import ActiveSet

from .base import Budget, Indicator, Pool, Progress, Selection, Strategy

GROUP = "aiida_aceal.strategies"


def strategy_names() -> list[str]:
    """Names of all installed strategies."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_strategy(name: str) -> Strategy:
    """The strategy of an entry point name.

    :raises AceError: no such strategy; names the nearest known one.
    """
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        known = strategy_names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise AceError(f"selection strategy {name!r} is unknown: {hint}known: {', '.join(known)}")
    return found[0].load()


def select(
    strategy: str | Strategy,
    candidates: Sequence[Atoms],
    count: int | None = None,
    seed: int = 0,
    model: AceModel | None = None,
    active_set: ActiveSet | None = None,
    *,
    budget: Budget | None = None,
    indicator: Indicator | None = None,
    descriptor: str = "projections",
    reference: Sequence[Atoms] | None = None,
    duplicate_distance: float = 1e-3,
    memory: str | float = "1GiB",
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Choose from candidates.

    :param strategy: entry point name (group ``aiida_aceal.strategies``) or a callable of the same form.
    :param count: number of structures, or use ``budget`` (structures, atoms, label cost).
    :param seed: of everything random in the strategy.
    :param model: the current model; all but ``random`` need it.
    :param active_set: for gamma and ``d_optimal``.
    :param indicator: object with ``indicator(structures)`` that takes the place of gamma, e.g. an ensemble.
    :param reference: the training set of the model; `viability` judges candidates by its statistics under the model.
    :param duplicate_distance: candidates of the same composition closer than this to a chosen one (root mean square
        difference of the scaled descriptors) are dropped as near-duplicates; 0 keeps all.
    :param options: further arguments of the strategy.
    :raises AceError: unknown strategy or option, no budget, no candidates, elements the model does not know, a
        strategy that needs an active set or a reference set which was not given.
    """
    if model is None:
        raise AceError("a selection needs the current model (potential)")
    if budget is None:
        budget = Budget(structures=count)
    elif count is not None:
        raise AceError("give a count or a budget, not both")
    function = load_strategy(strategy) if isinstance(strategy, str) else strategy
    name = strategy if isinstance(strategy, str) else getattr(function, "__name__", "custom")
    if active_set is not None:
        active_set.check(model)
    pool = Pool(
        candidates, model, active_set, indicator=indicator, descriptor=descriptor, reference=reference,
        progress=progress, memory=memory,
    )  # fmt: skip
    wanted = _most(budget, pool.sizes)
    rng = np.random.default_rng(seed)
    try:
        picks = function(pool, wanted, rng, **dict(options or {}))
    except TypeError as error:
        raise AceError(f"strategy {name!r}: {error}") from error
    return _fill(Selection(name), picks, pool, budget, duplicate_distance)


def _most(budget: Budget, sizes: np.ndarray) -> int:
    """Largest number of structures any choice could reach."""
    totals = np.cumsum(np.sort(sizes))
    costs = np.cumsum([budget.label_cost(int(n)) for n in np.sort(sizes)])
    return max(1, sum(budget.admits(k + 1, int(totals[k]), float(costs[k])) for k in range(len(sizes))))


def _fill(selection: Selection, picks, pool: Pool, budget: Budget, duplicate_distance: float) -> Selection:
    """Take picks in their order as long as the budget lasts; near-duplicates inside the batch are dropped."""
    atoms, cost = 0, 0.0
    smallest = int(pool.sizes.min())
    formulas: dict[int, str] = {}
    for pick in picks:
        n = int(pool.sizes[pick.index])
        more = budget.label_cost(n)
        if not budget.admits(len(selection.indices) + 1, atoms + n, cost + more):
            selection.passed_over.append(pick.index)
            least = budget.label_cost(smallest)
            if not budget.admits(len(selection.indices) + 1, atoms + smallest, cost + least):
                selection.passed_over.pop()
                break
            continue
        twin = _twin(pick.index, selection.indices, pool, duplicate_distance, formulas)
        if twin is not None:
            selection.dropped.append((pick.index, twin))
            continue
        selection.indices.append(pick.index)
        selection.scores.append(pick.score)
        selection.reasons.append(pick.reason)
        selection.rounds.append(pick.round)
        atoms, cost = atoms + n, cost + more
        if not budget.admits(len(selection.indices) + 1, atoms + smallest, cost + budget.label_cost(smallest)):
            break
    selection.log, selection.notes = pool.log, pool.notes
    selection.reference = None if pool.judged_by is None else pool.judged_by.to_dict()
    return selection


def _twin(index: int, chosen: list[int], pool: Pool, distance: float, formulas: dict[int, str]) -> int | None:
    """A chosen structure that is nearly the same, if there is one."""
    if distance <= 0.0 or not chosen or pool.descriptor == "composition":
        return None
    X = pool.descriptors
    near = np.sqrt(((X[chosen] - X[index]) ** 2).mean(axis=1)) < distance
    for k in np.flatnonzero(near):
        for i in (index, chosen[k]):
            formulas.setdefault(i, pool.structures[i].get_chemical_formula())
        if formulas[index] == formulas[chosen[k]]:
            return chosen[k]
    return None
