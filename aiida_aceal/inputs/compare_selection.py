"""From the input of ``aiida-aceal compare selection`` to a builder of ``aceal.compare.selection``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ase import Atoms
from pydantic import model_validator

from aiida_aceal.ace import AcePotential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, build, setting
from aiida_aceal.common.yaml import load_mapping
from aiida_aceal.inputs.prepare import (
    basis_node,
    basis_of,
    check_builder,
    elements_in,
    read_sets,
    refusals_of_ports,
    split_at_random,
)
from aiida_aceal.inputs.schema import Comparison
from aiida_aceal.workflows.protocol import protocol_inputs

S = TypeVar("S", bound=Settings)
#: what is compared if the input names no strategies
DEFAULT_STRATEGIES = ("random", "uncertainty", "d_optimal", "cur", "diversity", "hybrid", "viability")


class NamedStrategy(Settings):
    """A strategy with arguments, under a name of its own."""

    name: str = setting(help="Shown in tables and plots.")
    strategy: str = setting(help="Entry point of `aiida_aceal.strategies`.")
    options: dict[str, Any] = setting({}, "Arguments of the strategy.")


class SelectionComparison(Comparison):
    """Input of `aiida-aceal compare selection`."""

    pool: list[str] = setting(help="Files of labelled configurations to choose from.", items=(1, None))
    test: list[str] = setting([], "Files of labelled configurations that are never chosen.")
    test_fraction: float | None = setting(None, "Instead of `test`: a random part of the pool.", gt=0, lt=1)
    split_seed: int = setting(0, "Random seed of `test_fraction`.", ge=0)
    ensemble: dict[str, Any] | None = setting(
        None, "Settings of an ensemble (`members`, ...) that gives the uncertainty in place of gamma."
    )
    strategies: list[str | NamedStrategy] = setting(
        list(DEFAULT_STRATEGIES), "Names of strategies, or mappings with `name`, `strategy` and `options`.",
        items=(1, None),
    )  # fmt: skip
    baseline: str = setting("random", "Strategy that all others are compared with; added if it is not listed.")
    seeds: int | list[int] = setting(5, "Number of seeds (0, 1, ...), or a list of seeds.", ge=0)
    sizes: list[int] = setting([20, 40, 80, 160], "Sizes of the training set; the first is the random start.", ge=1)
    unit: Literal["structures", "atoms"] = setting("structures", "Unit of `sizes`.")
    descriptor: Literal["projections", "composition"] = setting("projections", "Descriptors that measure diversity.")
    duplicate_distance: float = setting(1e-3, "Near-duplicates in a batch are dropped below this distance.", ge=0)
    targets: dict[str, list[float]] = setting(
        {}, "forces_rmse, forces_max (eV/A), energy_rmse (eV/atom): errors to be reached."
    )
    level: float = setting(0.95, "Level of the confidence intervals.", gt=0, lt=1)
    max_concurrent: int = setting(1, "Number of jobs that run at the same time.", gt=0)

    @model_validator(mode="after")
    def _one_test_set(self) -> SelectionComparison:
        if bool(self.test) == (self.test_fraction is not None):
            raise ValueError("give either `test` (files) or `test_fraction`")
        return self


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
    return validated(SelectionComparison, data, source, ("pool", "test"))


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
    folder = Path(folder)
    # what is in both stays out of the pool
    files = {"test": comparison.test, "pool": comparison.pool}
    sets, repeated = read_sets(files, folder, comparison.energy_key, comparison.forces_key)
    pool, test = sets["pool"], sets["test"]
    if comparison.test_fraction is not None:
        pool, test = split_at_random(pool, max(1, round(comparison.test_fraction * len(pool))), comparison.split_seed)
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
    comparison: Comparison, structures: list[Atoms], folder: Path
) -> tuple[dict[str, Any] | None, AcePotential, dict[str, Any]]:
    """Description of the basis (None if it is that of a file), the basis, and the settings of fits.

    :raises AceError: unknown protocol, a basis that cannot be made, no such file
    """
    sections = protocol_inputs(comparison.protocol, {"basis": comparison.basis, "fit": comparison.fit})
    basis, potential = basis_of(comparison.potential, sections["basis"], elements_in(structures), folder)
    return basis, potential, sections["fit"]


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
    from aiida_aceal.workflows.compare_selection import CompareSelectionWorkChain

    comparison = prepared.comparison
    builder = CompareSelectionWorkChain.get_builder()
    builder.metadata.label = (comparison.title or "Comparison of selection strategies")[:255]
    with refusals_of_ports():
        builder.code = find_code(comparison.codes.worker, "aceal-worker", "codes.worker")
        builder.potential = basis_node(prepared.basis, prepared.potential, 0, store)
        builder.pool = ConfigurationsData.from_atoms(prepared.pool, source="pool")
        builder.test = ConfigurationsData.from_atoms(prepared.test, source="test")
        builder.strategies = orm.Dict(prepared.strategies)
        builder.seeds = orm.List(prepared.seeds)
        builder.settings = orm.Dict(prepared.settings)
        builder.max_concurrent = orm.Int(comparison.max_concurrent)
        builder.options = orm.Dict(comparison.job_options())
    if not store:
        check_builder(builder)
    return builder
