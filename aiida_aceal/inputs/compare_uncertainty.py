"""From the input of ``aiida-aceal compare uncertainty`` to a builder of ``aceal.compare_uncertainty``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_aceal.ace import AceError, AcePotential
from aiida_aceal.common.configurations import configuration_hash, read_configurations
from aiida_aceal.common.yaml import load_mapping
from aiida_aceal.inputs.compare_selection import basis_and_fit, validated
from aiida_aceal.inputs.schema import Codes, Section
from aiida_aceal.selection.indicators import INDICATORS, IndicatorSettings
from aiida_aceal.workflows.protocol import merged

#: part of the learnt kinds that is graded if `train_groups` is all that is said of the test set
HELD_OUT = 0.2


class UncertaintyComparison(Section):
    """Input of `aiida-aceal compare uncertainty`."""

    title: str = Field("", description="Shown in tables and reports.")
    train: list[str] = Field(description="Files of labelled configurations to learn from.", min_length=1)
    test: list[str] = Field(default_factory=list, description="Files of labelled configurations that are graded.")
    test_fraction: float | None = Field(None, gt=0, lt=1, description="Instead of `test`: a random part of `train`.")
    train_groups: list[str] = Field(
        default_factory=list,
        description="Only these kinds are learnt; the rest of `train` is graded as novel (together with a fifth of the "
        "learnt kinds if there is no other test set).",
    )
    group_key: str = Field("group", description="Info entry that names the kind of a configuration.")
    seed: int = Field(0, ge=0, description="Random seed of the split, the fits and the clusters.")
    energy_key: str | None = Field(None, description="Info entry with the energies [default: ASE's usual place].")
    forces_key: str | None = Field(None, description="Array with the forces [default: ASE's usual place].")
    protocol: str = Field("fast", description="Where the defaults of `basis` and `fit` come from.")
    basis: dict[str, Any] = Field(
        default_factory=dict, description="Overrides the protocol's basis: see Basis description."
    )
    potential: str | None = Field(None, description="File of a potential (.yaml) whose basis is used instead.")
    fit: dict[str, Any] = Field(default_factory=dict, description="Settings of the fit; they override the protocol's.")
    indicators: list[str] = Field(
        default_factory=lambda: list(INDICATORS), description="global, own, minimum, switch, ensemble.", min_length=1
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="clusters, switch, gamma_threshold, ensemble, ...: see IndicatorSettings."
    )
    codes: Codes = Field(default_factory=Codes)
    options: dict[str, Any] = Field(default_factory=dict, description="AiiDA's metadata.options for the job.")
    threads: int | None = Field(None, gt=0, description="Number of cores for the job [default: all of this machine].")


@dataclass
class PreparedUncertainty:
    """Everything a comparison needs, with nothing stored yet."""

    comparison: UncertaintyComparison
    potential: AcePotential
    basis: dict[str, Any] | None
    train: list[Atoms]
    test: list[Atoms]
    settings: dict[str, Any]


def read_uncertainty_input(path: str | Path, overrides: Mapping[str, Any] | None = None) -> PreparedUncertainty:
    """Read and check an input file and the files it names; ``overrides`` (from the command line) win.

    :raises AceError: anything that is wrong with them
    """
    source = str(path)
    data = {**load_mapping(path, "such as `test: ...`"), **(overrides or {})}
    return prepare_uncertainty(validated(UncertaintyComparison, data, source, ("train", "test")), Path(path).parent)


def prepare_uncertainty(comparison: UncertaintyComparison, folder: str | Path = ".") -> PreparedUncertainty:
    """Read the files, split them, make the basis; relative paths start from ``folder``.

    :raises AceError: anything that is wrong with them
    """
    folder, keys = Path(folder), {"energy_key": comparison.energy_key, "forces_key": comparison.forces_key}
    sets: dict[str, list[Atoms]] = {"train": [], "test": []}
    seen: set[str] = set()
    for name in ("test", "train"):  # what is in both is graded, not learnt
        for file in getattr(comparison, name):
            for atoms in read_configurations(folder / file, **keys, require=("energy", "forces")):
                digest = configuration_hash(atoms)
                if digest not in seen:
                    sets[name].append(atoms)
                seen.add(digest)
    train, test = sets["train"], sets["test"]
    if comparison.test_fraction is not None:
        order = np.random.default_rng(comparison.seed).permutation(len(train))
        held = set(order[: max(1, round(comparison.test_fraction * len(train)))].tolist())
        train, test = [a for k, a in enumerate(train) if k not in held], test + [train[k] for k in sorted(held)]
    if comparison.train_groups:
        wanted, key = set(comparison.train_groups), comparison.group_key
        found = {str(a.info.get(key)) for a in train}
        if wanted - found:
            raise AceError(
                f"train_groups: no configuration has {key} = {sorted(wanted - found)}; there are {sorted(found)}"
            )
        train, other = ([a for a in train if (str(a.info.get(key)) in wanted) is take] for take in (True, False))
        if not test:  # some of the learnt kinds too, or novelty could not be told from anything
            order = np.random.default_rng(comparison.seed).permutation(len(train))
            held = set(order[: round(HELD_OUT * len(train))].tolist())
            train, test = [a for k, a in enumerate(train) if k not in held], [train[k] for k in sorted(held)]
        test = test + other
    if not train or not test:
        raise AceError(
            "nothing is left to learn from, or nothing to grade: give `test`, `test_fraction` or `train_groups`"
        )
    basis, potential, fit = basis_and_fit(comparison, [*train, *test], folder)
    settings = merged({"fit": fit}, comparison.settings)
    settings |= {"indicators": comparison.indicators, "group_key": comparison.group_key}
    IndicatorSettings.read(settings)
    return PreparedUncertainty(comparison, potential, basis, train, test, settings)


def make_uncertainty_builder(
    prepared: PreparedUncertainty, find_code: Callable[[str | None, str | None, str], Any], store: bool
) -> Any:
    """Builder of the job; with ``store`` false it is checked against all its ports.

    :raises AceError: what the ports refuse
    """
    from aiida import orm

    from aiida_aceal.calculations.job import AceCompareUncertaintyCalculation
    from aiida_aceal.data.dataset import ConfigurationsData
    from aiida_aceal.data.potential import AcePotentialData
    from aiida_aceal.workflows import functions

    comparison = prepared.comparison
    threads = comparison.threads or len(os.sched_getaffinity(0))
    resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": threads}
    builder = AceCompareUncertaintyCalculation.get_builder()
    try:
        builder.code = find_code(comparison.codes.worker, "aceal-worker", "codes.worker")
        if prepared.basis is not None and store:
            builder.potential = functions.build_basis(orm.Dict(prepared.basis), orm.Int(0))
        else:
            builder.potential = AcePotentialData(potential=prepared.potential)
        builder.train = ConfigurationsData.from_atoms(prepared.train, source="train")
        builder.test = ConfigurationsData.from_atoms(prepared.test, source="test")
        builder.settings = orm.Dict(prepared.settings)
        builder.seed = orm.Int(comparison.seed)
        builder.metadata.label = (comparison.title or "Comparison of uncertainty indicators")[:255]
        builder.metadata.options = merged({"resources": resources, "withmpi": False}, comparison.options)
    except ValueError as error:
        if isinstance(error, AceError):
            raise
        raise AceError(str(error).removeprefix("invalid attribute value ")) from error
    if not store:
        problem = AceCompareUncertaintyCalculation.spec().inputs.validate(dict(builder._inputs(prune=True)))
        if problem:
            raise AceError(str(getattr(problem, "message", problem)).strip())
    return builder
