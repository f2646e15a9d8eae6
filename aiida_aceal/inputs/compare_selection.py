"""From the input of ``aiida-aceal compare selection`` to a builder of ``aceal.compare.selection``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_aceal.ace import AceError, AcePotential, build_potential
from aiida_aceal.common.configurations import configuration_hash, read_configurations
from aiida_aceal.common.settings import build
from aiida_aceal.common.yaml import load_mapping
from aiida_aceal.inputs.schema import Codes, Section
from aiida_aceal.workflows.protocol import merged, protocol_inputs

S = TypeVar("S", bound=Section)
#: what is compared if the input names no strategies
DEFAULT_STRATEGIES = ("random", "uncertainty", "d_optimal", "cur", "diversity", "hybrid", "viability")


class NamedStrategy(Section):
    """A strategy with arguments, under a name of its own."""

    name: str = Field(description="Shown in tables and plots.")
    strategy: str = Field(description="Entry point of `aiida_aceal.strategies`.")
    options: dict[str, Any] = Field(default_factory=dict, description="Arguments of the strategy.")


class SelectionComparison(Section):
    """Input of `aiida-aceal compare selection`."""

    title: str = Field("", description="Shown in tables and reports.")
    pool: list[str] = Field(description="Files of labelled configurations to choose from.", min_length=1)
    test: list[str] = Field(default_factory=list, description="Files of labelled configurations that are never chosen.")
    test_fraction: float | None = Field(None, gt=0, lt=1, description="Instead of `test`: a random part of the pool.")
    split_seed: int = Field(0, ge=0, description="Random seed of `test_fraction`.")
    energy_key: str | None = Field(None, description="Info entry with the energies [default: ASE's usual place].")
    forces_key: str | None = Field(None, description="Array with the forces [default: ASE's usual place].")
    protocol: str = Field("fast", description="Where the defaults of `basis` and `fit` come from.")
    basis: dict[str, Any] = Field(
        default_factory=dict, description="Overrides the protocol's basis: see Basis description."
    )
    potential: str | None = Field(None, description="File of a potential (.yaml) whose basis is used instead.")
    fit: dict[str, Any] = Field(
        default_factory=dict, description="Settings of every refit; they override the protocol's."
    )
    ensemble: dict[str, Any] | None = Field(
        None, description="Settings of an ensemble (`members`, ...) that gives the uncertainty in place of gamma."
    )
    strategies: list[str | NamedStrategy] = Field(
        default_factory=lambda: list(DEFAULT_STRATEGIES),
        description="Names of strategies, or mappings with `name`, `strategy` and `options`.",
        min_length=1,
    )
    baseline: str = Field(
        "random", description="Strategy that all others are compared with; added if it is not listed."
    )
    seeds: int | list[int] = Field(5, description="Number of seeds (0, 1, ...), or a list of seeds.")
    sizes: list[int] = Field(
        default_factory=lambda: [20, 40, 80, 160],
        description="Sizes of the training set; the first is the random start.",
    )
    unit: Literal["structures", "atoms"] = Field("structures", description="Unit of `sizes`.")
    descriptor: Literal["projections", "composition"] = Field(
        "projections", description="Descriptors that measure diversity."
    )
    duplicate_distance: float = Field(1e-3, ge=0, description="Near-duplicates in a batch are dropped.")
    targets: dict[str, list[float]] = Field(
        default_factory=dict, description="forces_rmse, forces_max (eV/A), energy_rmse (eV/atom): errors to be reached."
    )
    level: float = Field(0.95, gt=0, lt=1, description="Level of the confidence intervals.")
    codes: Codes = Field(default_factory=Codes)
    options: dict[str, Any] = Field(default_factory=dict, description="AiiDA's metadata.options for all jobs.")
    threads: int | None = Field(None, gt=0, description="Number of cores for each job [default: all of this machine].")
    max_concurrent: int = Field(1, gt=0, description="Number of jobs that run at the same time.")


def read_comparison(path: str | Path, overrides: Mapping[str, Any] | None = None) -> tuple[SelectionComparison, Path]:
    """Read and check an input file; ``overrides`` (from the command line) win.

    :raises AceError: no such file, no YAML, unknown keys (the nearest known one is named), wrong types
    """
    data = load_mapping(path, "such as `test: ...`")
    return check_comparison_input({**data, **(overrides or {})}, str(path)), Path(path).resolve().parent


def check_comparison_input(data: Mapping[str, Any], source: str = "input") -> SelectionComparison:
    """Check a mapping; ``source`` starts the message of the error.

    :raises AceError: see :func:`read_comparison`
    """
    checked = validated(SelectionComparison, data, source, ("pool", "test"))
    if bool(checked.test) == (checked.test_fraction is not None):
        raise AceError(f"{source}: give either `test` (files) or `test_fraction`")
    if checked.potential is not None and checked.basis:
        raise AceError(f"{source}: give `potential` or `basis`, not both")
    return checked


def validated(model: type[S], data: Mapping[str, Any], source: str, lists: tuple[str, ...]) -> S:
    """Check a mapping against a section; a single name stands for a list of one in the keys ``lists``.

    :raises AceError: unknown keys (the nearest known one is named), wrong types
    """
    data = dict(data)
    for key in lists:
        if isinstance(data.get(key), str):
            data[key] = [data[key]]
    return build(model, data, Path(source))


@dataclass
class PreparedComparison:
    """Everything a comparison needs, with nothing stored yet."""

    comparison: SelectionComparison
    potential: AcePotential
    basis: dict[str, Any] | None
    pool: list[Atoms]
    test: list[Atoms]
    strategies: dict[str, dict[str, Any]]
    seeds: list[int]
    settings: dict[str, Any]
    #: configurations left out because they stood in the files more than once
    repeated: int = 0


def prepare_comparison(comparison: SelectionComparison, folder: str | Path = ".") -> PreparedComparison:
    """Read the files and make the basis; relative paths start from ``folder``.

    :raises AceError: anything that is wrong with them
    """
    folder, keys = Path(folder), {"energy_key": comparison.energy_key, "forces_key": comparison.forces_key}
    sets: dict[str, list[Atoms]] = {"pool": [], "test": []}
    seen: set[str] = set()
    repeated = 0
    for name in ("test", "pool"):  # what is in both stays out of the pool
        for file in getattr(comparison, name):
            for atoms in read_configurations(folder / file, **keys, require=("energy", "forces")):
                digest = configuration_hash(atoms)
                repeated += digest in seen
                if digest not in seen:
                    sets[name].append(atoms)
                seen.add(digest)
    pool, test = sets["pool"], sets["test"]
    if comparison.test_fraction is not None:
        order = np.random.default_rng(comparison.split_seed).permutation(len(pool))
        count = max(1, round(comparison.test_fraction * len(pool)))
        held = set(order[:count].tolist())
        pool, test = [a for k, a in enumerate(pool) if k not in held], [pool[k] for k in sorted(held)]
    if not pool:
        raise AceError("pool: nothing is left to choose from")
    basis, potential, fit = basis_and_fit(comparison, [*pool, *test], folder)
    strategies: dict[str, dict[str, Any]] = {}
    for item in comparison.strategies:
        name = item if isinstance(item, str) else item.name
        if name in strategies:
            raise AceError(f"strategies: '{name}' occurs twice; give one of them another name")
        strategies[name] = {"strategy": item} if isinstance(item, str) else _plain(item)
    if comparison.baseline not in strategies:
        strategies = {comparison.baseline: {"strategy": comparison.baseline}, **strategies}
    seeds = list(range(comparison.seeds)) if isinstance(comparison.seeds, int) else comparison.seeds
    settings = {
        "sizes": comparison.sizes,
        "unit": comparison.unit,
        "descriptor": comparison.descriptor,
        "duplicate_distance": comparison.duplicate_distance,
        "fit": fit,
        "baseline": comparison.baseline,
        "targets": comparison.targets,
        "level": comparison.level,
    }
    if comparison.ensemble is not None:
        settings["ensemble"] = comparison.ensemble
    return PreparedComparison(comparison, potential, basis, pool, test, strategies, seeds, settings, repeated)


def basis_and_fit(
    comparison: Any, structures: list[Atoms], folder: Path
) -> tuple[dict[str, Any] | None, AcePotential, dict[str, Any]]:
    """Description of the basis (None if it is that of a file), the basis, and the settings of fits.

    :raises AceError: unknown protocol, a basis that cannot be made, no such file
    """
    sections = protocol_inputs(comparison.protocol, {"basis": comparison.basis, "fit": comparison.fit})
    if comparison.potential is not None:
        return None, AcePotential.read(folder / comparison.potential), sections["fit"]
    elements = sorted({s for atoms in structures for s in atoms.get_chemical_symbols()})
    basis = {"elements": elements, **sections["basis"]}
    return basis, build_potential(basis), sections["fit"]


def _plain(item: NamedStrategy) -> dict[str, Any]:
    return {"strategy": item.strategy, **({"options": item.options} if item.options else {})}


def make_comparison_builder(
    prepared: PreparedComparison, find_code: Callable[[str | None, str | None, str], Any], store: bool
) -> Any:
    """Builder of the comparison; with ``store`` false it is checked against all ports of the WorkChain.

    :raises AceError: what the ports refuse
    """
    from aiida import orm

    from aiida_aceal.data.dataset import ConfigurationsData
    from aiida_aceal.data.potential import AcePotentialData
    from aiida_aceal.workflows import functions
    from aiida_aceal.workflows.compare_selection import CompareSelectionWorkChain

    comparison = prepared.comparison
    threads = comparison.threads or len(os.sched_getaffinity(0))
    resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": threads}
    builder = CompareSelectionWorkChain.get_builder()
    builder.metadata.label = (comparison.title or "Comparison of selection strategies")[:255]
    try:
        builder.code = find_code(comparison.codes.worker, "aceal-worker", "codes.worker")
        if prepared.basis is not None and store:
            builder.potential = functions.build_basis(orm.Dict(prepared.basis), orm.Int(0))
        else:
            builder.potential = AcePotentialData(potential=prepared.potential)
        builder.pool = ConfigurationsData.from_atoms(prepared.pool, source="pool")
        builder.test = ConfigurationsData.from_atoms(prepared.test, source="test")
        builder.strategies = orm.Dict(prepared.strategies)
        builder.seeds = orm.List(prepared.seeds)
        builder.settings = orm.Dict(prepared.settings)
        builder.max_concurrent = orm.Int(comparison.max_concurrent)
        builder.options = orm.Dict(merged({"resources": resources, "withmpi": False}, comparison.options))
    except ValueError as error:
        if isinstance(error, AceError):
            raise
        raise AceError(str(error).removeprefix("invalid attribute value ")) from error
    if not store:
        problem = CompareSelectionWorkChain.spec().inputs.validate(dict(builder._inputs(prune=True)))
        if problem:
            raise AceError(str(getattr(problem, "message", problem)).strip())
    return builder
