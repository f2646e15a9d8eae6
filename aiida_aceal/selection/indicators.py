"""Indicators of uncertainty side by side: what `aiida-aceal compare uncertainty` runs.

Fits a potential to a training set, builds active sets and ensembles from the same set, and lets all of them grade a
test set (Y. Lysogorskiy et al., Phys. Rev. Mater. 7, 043801 (2023), Figs. 1 and 2; local grades: science of
`aiida_aceal.uncertainty.local`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ase import Atoms
from pydantic import model_validator

from aiida_aceal.ace import AceModel, AcePotential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, memory_size, section, setting
from aiida_aceal.fitting.ensemble_settings import EnsembleSettings
from aiida_aceal.fitting.settings import FitSettings

#: name -> what it is
INDICATORS = {
    "global": "gamma of the one active set of all environments",
    "own": "gamma of the active set of the environment's own cluster",
    "minimum": "smallest gamma over the active sets of all clusters",
    "switch": "own cluster's gamma in clusters of few environments, the global one elsewhere",
    "ensemble": "deviation of an ensemble's members: dE and dF",
}


class IndicatorSettings(Settings):
    """What a comparison of indicators needs beside potential, training set, test set and seed."""

    heading = "Comparison of uncertainty indicators"

    indicators: tuple[str, ...] = setting(
        tuple(INDICATORS), "Names of the indicators to compare.", items=(1, None), choices=lambda: INDICATORS
    )
    kind: Literal["linear", "full"] = setting("linear", "Projections of the active sets: linear or full.")
    clusters: int = setting(8, "Number of clusters of the local active sets, found by k-means.", ge=1, le=1000)
    cluster_by_group: bool = setting(False, "Whether the groups of the training set are used instead.")
    switch: float = setting(0.5, "As in the settings of active sets.", gt=0)
    group_key: str = setting(
        "group", "Info entry that names the kind of a structure; kinds that the training set does not have are novel."
    )
    gamma_threshold: float = setting(1.0, "gamma above which a structure counts as uncertain.", gt=0)
    tolerance: float = setting(1.001, "Of MaxVol.", ge=1)
    memory: str | int | float = memory_size("1GiB", "Of MaxVol.")
    threads: int | None = setting(None, "Number of threads; null: all that the job has.", ge=1)
    fit: FitSettings = section(FitSettings, "Of the potential.")
    ensemble: EnsembleSettings = section(
        EnsembleSettings, "Settings of the ensemble; its thresholds come from the IQR rule."
    )

    @model_validator(mode="after")
    def _together(self) -> IndicatorSettings:
        if len(set(self.indicators)) != len(self.indicators):
            raise ValueError(f"indicators: give each name once, found {list(self.indicators)}")
        self.ensemble.method_for(self.fit.method)
        return self


def compare_indicators(
    potential: AcePotential,
    train: Sequence[Atoms],
    test: Sequence[Atoms],
    settings: IndicatorSettings | Mapping | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Fit, build, grade, and compare; see `aiida_aceal.fitting.compare_uncertainty` for the numbers.

    :param potential: the basis; its coefficients are fitted here.
    :param train, test: labelled structures (energies and forces in ASE's usual place).
    :returns: JSON types: those of `compare_uncertainty`, and ``train``, ``test`` (errors of the fit), ``seconds`` (of
        fit, active sets, ensemble), ``n_train``, ``seed``, ``gamma_threshold``.
    :raises AceError: bad settings or labels.
    """
    from aiida_aceal.fitting import compare_uncertainty, fit, fit_ensemble
    from aiida_aceal.fitting.labels import collect_labels
    from aiida_aceal.fitting.metrics import predict
    from aiida_aceal.uncertainty import build_active_set, build_local_active_set

    settings = IndicatorSettings.read(settings)
    say = progress or (lambda line: None)
    fit_settings = settings.fit.replace(seed=seed, threads=settings.threads or settings.fit.threads)
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    result = fit(potential, train, fit_settings)  # without the test set: a nonlinear fit would stop early by it
    seconds["fit"] = time.perf_counter() - start
    model = AceModel(result.potential, threads=settings.threads)
    labels = collect_labels(test, potential.elements, what="test set")
    errors = predict(model, labels, result.potential.reference_energies).metrics()
    say(f"fitted: test forces RMSE {1000 * errors['forces']['rmse']:.1f} meV/A")
    shared = {"tolerance": settings.tolerance, "memory": settings.memory, "seed": seed, "threads": settings.threads}
    local_names = [name for name in settings.indicators if name in ("own", "minimum", "switch")]
    graders: dict[str, object] = {}
    start = time.perf_counter()
    if local_names:
        where = {"groups": _groups(train, settings.group_key)} if settings.cluster_by_group else {}
        local = build_local_active_set(model, train, settings.kind, clusters=settings.clusters, **where, **shared)
        seconds["local active sets"] = time.perf_counter() - start
        graders["global"] = local.global_set()
        graders["own"] = local.with_definition("own")
        graders["minimum"] = local.with_definition("minimum")
        graders["switch"] = local.with_definition("own", settings.switch)
    elif "global" in settings.indicators:
        graders["global"] = build_active_set(model, train, settings.kind, **shared)
        seconds["active set"] = time.perf_counter() - start
    graders = {name: graders[name] for name in settings.indicators if name in graders}
    say(f"active sets: {', '.join(graders) or 'none'}")
    ensembles = {}
    if "ensemble" in settings.indicators:
        start = time.perf_counter()
        # nonlinear members keep the radial functions that the fit has optimised
        basis = result.potential if fit_settings.method == "nonlinear" else potential
        ensembles["ensemble"] = fit_ensemble(basis, train, fit_settings, settings.ensemble)
        seconds["ensemble"] = time.perf_counter() - start
        say(f"ensemble of {len(ensembles['ensemble'])} members ({ensembles['ensemble'].method})")
    groups = known = None
    if all(settings.group_key in atoms.info for atoms in test):
        groups = _groups(test, settings.group_key)
        known = sorted({str(a.info[settings.group_key]) for a in train if settings.group_key in a.info}) or None
    found = compare_uncertainty(
        result.potential, test, train, graders, ensembles, settings.gamma_threshold, groups, known, settings.threads
    )
    return {
        **found,
        "n_train": len(train),
        "seed": seed,
        "gamma_threshold": settings.gamma_threshold,
        "train": result.metrics["train"],
        "test": errors,
        "seconds": seconds,
    }


def _groups(structures: Sequence[Atoms], key: str) -> list[str]:
    missing = [k for k, atoms in enumerate(structures) if key not in atoms.info]
    if missing:
        raise AceError(f"structure {missing[0]} has no info entry '{key}'; name another group_key")
    return [str(atoms.info[key]) for atoms in structures]
