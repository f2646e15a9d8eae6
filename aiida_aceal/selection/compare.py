"""Learning curves: how fast the errors on a fixed test set fall when a strategy chooses from a labelled pool.

PRM 7, 043801, Sec. V.A and Fig. 6. One (strategy, seed) is one call of `learning_curve`, with nothing random but its
seed,
so that it can be a job of its own. `aiida_aceal.selection.summary` compares the curves of strategies and seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import model_validator

from aiida_aceal.ace import AceModel, AcePotential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, build, memory_size, section, setting
from aiida_aceal.fitting.ensemble_settings import EnsembleSettings
from aiida_aceal.fitting.settings import FitSettings
from aiida_aceal.uncertainty import build_active_set

from .base import Budget, Indicator
from .select import load_strategy, select, strategy_names
from .settings import strategy_settings

Progress = Callable[[str], None]


class CurveSettings(Settings):
    """What a learning curve needs beside potential, pool, test set and seed."""

    heading = "Learning curves of selection strategies"

    strategy: str = setting("d_optimal", "Name of a selection strategy.", choices=strategy_names)
    sizes: tuple[int, ...] = setting(
        (20, 40, 80), "Ascending sizes of the training set, in unit; the first is the random start, the same for every "
        "strategy of one seed.", ge=1, items=(2, None), allowed="at least two ascending positive integers",
    )  # fmt: skip
    unit: Literal["structures", "atoms"] = setting("structures", "Unit of the sizes.")
    options: dict[str, Any] = setting({}, "Arguments of the strategy.")
    descriptor: Literal["projections", "composition"] = setting("projections", "Descriptors that measure diversity.")
    duplicate_distance: float = setting(
        1e-3, "Candidates closer than this to a chosen one are dropped as near-duplicates; 0 keeps all.", ge=0
    )
    tolerance: float = setting(1.001, "Of MaxVol.", ge=1)
    memory: str | int | float = memory_size("1GiB", "Of MaxVol.")
    threads: int | None = setting(None, "Number of threads; null: all that the job has.", ge=1)
    fit: FitSettings = section(FitSettings, "Settings of every refit.")
    ensemble: EnsembleSettings | None = setting(
        None, "An ensemble fitted to the training set of each step gives the uncertainty in place of gamma."
    )

    @model_validator(mode="after")
    def _together(self) -> CurveSettings:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes: must be at least two ascending positive integers, found {list(self.sizes)}")
        build(strategy_settings(self.strategy), self.options, "options")
        if self.ensemble is not None:
            self.ensemble.method_for(self.fit.method)
        return self


def learning_curve(
    potential: AcePotential,
    pool: Sequence[Atoms],
    test: Sequence[Atoms],
    settings: CurveSettings | Mapping | None = None,
    seed: int = 0,
    *,
    indicator: Callable[[AcePotential, Sequence[Atoms]], Indicator] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Grow a training set from ``pool`` by one strategy, refit at every size, and test.

    Each round: refit on what has been chosen, active set of what has been chosen, errors on ``test``, next choice among
    the rest. If a strategy names fewer structures than the next size asks for (``viability`` accepts few; near
    duplicates are dropped), random ones are added, as in PRM 7, 043801, and counted as ``n_random``. ``viability``
    takes
    its reference statistics from the training set of the round unless its options name some.

    :param potential: the basis.
    :param pool, test: labelled structures (energies and forces in ASE's usual place).
    :param seed: of the start (the same for every strategy) and of the strategy.
    :param indicator: ``(fitted potential, training set) -> Indicator`` that takes the place of gamma.
    :returns: JSON types: ``strategy``, ``seed``, ``start`` (indices), ``points``: for each size ``n_structures``,
        ``n_atoms``, ``chosen`` (indices new at this size), ``energy_rmse``, ``energy_max`` (eV/atom), ``forces_rmse``,
        ``forces_max`` (components, eV/Angstrom), ``train_*``, and ``seconds`` of selection, fit and test.
    :raises AceError: bad settings or labels, a pool smaller than the largest size.
    """
    settings = CurveSettings.read(settings)
    say: Progress = progress or (lambda _: None)
    pool, test = list(pool), list(test)
    load_strategy(settings.strategy)
    atoms_of = np.array([len(atoms) for atoms in pool], dtype=np.int64)
    available = len(pool) if settings.unit == "structures" else int(atoms_of.sum())
    if not test:
        raise AceError("the test set is empty; the comparison needs labelled structures that are never chosen")
    if settings.sizes[-1] > available:
        raise AceError(
            f"sizes: the largest is {settings.sizes[-1]} {settings.unit}, but the pool has only {available}; "
            "take smaller sizes or a larger pool"
        )
    began = time.perf_counter()
    # one stream for the start, so that all strategies of a seed have the same; another for the strategy
    start_rng, own = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    order = start_rng.permutation(len(pool))
    chosen = _take([int(i) for i in order], atoms_of, settings.unit, settings.sizes[0], 0)
    if not chosen:
        raise AceError(f"sizes: the first, {settings.sizes[0]} {settings.unit}, holds no structure of the pool")
    curve: dict[str, Any] = {
        "strategy": settings.strategy,
        "options": settings.options,
        "seed": int(seed),
        "unit": settings.unit,
        "n_pool": len(pool),
        "n_test": len(test),
        "n_test_atoms": int(sum(len(atoms) for atoms in test)),
        "points": [],
    }
    fresh, added, selecting = list(chosen), 0, 0.0
    for number, size in enumerate(settings.sizes):
        fitted, point = _refit(potential, [pool[i] for i in chosen], test, settings)
        point.update(
            size=size, n_structures=len(chosen), n_atoms=int(atoms_of[chosen].sum()), chosen=fresh, n_random=added
        )
        point["seconds"]["select"] = selecting
        curve["points"].append(point)
        say(
            f"{settings.strategy}, seed {seed}: {len(chosen)} structures, {point['n_atoms']} atoms: forces RMSE "
            f"{1000 * point['forces_rmse']:.1f}, max {1000 * point['forces_max']:.0f} meV/A, energy RMSE "
            f"{1000 * point['energy_rmse']:.2f} meV/atom"
        )
        if number + 1 == len(settings.sizes):
            break
        clock = time.perf_counter()
        fresh, added = _next(fitted, pool, chosen, atoms_of, settings, settings.sizes[number + 1], own, indicator)
        chosen += fresh
        selecting = time.perf_counter() - clock
    curve["seconds"] = time.perf_counter() - began
    return curve


def _refit(
    potential: AcePotential, train: list[Atoms], test: list[Atoms], settings: CurveSettings
) -> tuple[AcePotential, dict[str, Any]]:
    """The potential fitted to ``train``, and its errors there and on ``test``."""
    from aiida_aceal.fitting import fit

    plan = settings.fit if settings.threads is None else _with_threads(settings.fit, settings.threads)
    clock = time.perf_counter()
    # errors on the test set come with the fit: they take no part in it
    result = fit(potential, train, plan, test)
    seconds = time.perf_counter() - clock
    metrics = result.metrics
    point: dict[str, Any] = {}
    for name, prefix in (("validation", ""), ("train", "train_")):
        part = metrics[name]
        if "forces" not in part:
            raise AceError(f"the {'test' if name == 'validation' else 'training'} set has no forces: label it first")
        for quantity in ("energy", "forces"):
            for measure in ("rmse", "mae", "max"):
                point[f"{prefix}{quantity}_{measure}"] = part[quantity][measure]
    point["seconds"] = {"fit": seconds}
    return result.potential, point


def _with_threads(fit: FitSettings, threads: int) -> FitSettings:
    return fit.replace(threads=threads)


def _next(
    fitted: AcePotential,
    pool: list[Atoms],
    chosen: list[int],
    atoms_of: np.ndarray,
    settings: CurveSettings,
    size: int,
    rng: np.random.Generator,
    indicator: Callable[[AcePotential, Sequence[Atoms]], Indicator] | None,
) -> tuple[list[int], int]:
    """Indices of the next structures, and how many of them had to be drawn at random."""
    taken = set(chosen)
    rest = [i for i in range(len(pool)) if i not in taken]
    have = len(chosen) if settings.unit == "structures" else int(atoms_of[chosen].sum())
    seed = int(rng.integers(2**31))
    fill = [rest[k] for k in np.random.default_rng(seed).permutation(len(rest))]
    if settings.strategy == "random" and not settings.options:
        return _take(fill, atoms_of, settings.unit, size, have), 0
    budget = Budget(**{settings.unit: size - have})
    model = AceModel(fitted, threads=settings.threads)
    train = [pool[i] for i in chosen]
    active_set = build_active_set(
        model, train, tolerance=settings.tolerance, memory=settings.memory, threads=settings.threads
    )
    members = None if indicator is None else indicator(fitted, train)
    if members is None and settings.ensemble is not None:
        from aiida_aceal.fitting import fit_ensemble

        threads = settings.fit.threads if settings.threads is None else settings.threads
        members = fit_ensemble(fitted, train, settings.fit.replace(threads=threads, seed=seed), settings.ensemble)
    selection = select(
        settings.strategy, [pool[i] for i in rest], seed=seed, model=model, active_set=active_set, budget=budget,
        indicator=members, descriptor=settings.descriptor, duplicate_distance=settings.duplicate_distance,
        reference=train, memory=settings.memory, options=settings.options,
    )  # fmt: skip
    fresh = [rest[k] for k in selection.indices]
    have += len(fresh) if settings.unit == "structures" else int(atoms_of[fresh].sum())
    held = set(fresh)
    more = _take([i for i in fill if i not in held], atoms_of, settings.unit, size, have)
    return fresh + more, len(more)


def _take(order: list[int], atoms_of: np.ndarray, unit: str, size: int, have: int) -> list[int]:
    """The first of ``order`` that fit into ``size``; in units of atoms, those that do not fit are passed over."""
    if unit == "structures":
        return order[: max(0, size - have)]
    taken, smallest = [], int(atoms_of.min())
    for i in order:
        if have + atoms_of[i] <= size:
            taken.append(i)
            have += int(atoms_of[i])
        if have + smallest > size:
            break
    return taken
