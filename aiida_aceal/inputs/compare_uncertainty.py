"""From the input of ``aiida-aceal compare uncertainty`` to a builder of ``aceal.compare_uncertainty``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from aiida_aceal.ace import AcePotential
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting
from aiida_aceal.common.yaml import load_mapping
from aiida_aceal.inputs.compare_selection import basis_and_fit, validated
from aiida_aceal.inputs.prepare import basis_node, check_builder, read_sets, refusals_of_ports, split_at_random
from aiida_aceal.inputs.schema import Comparison
from aiida_aceal.selection.indicators import INDICATORS, IndicatorSettings
from aiida_aceal.workflows.protocol import merged

#: part of the learnt kinds that is graded if `train_groups` is all that is said of the test set
HELD_OUT = 0.2


class UncertaintyComparison(Comparison):
    """Input of `aiida-aceal compare uncertainty`."""

    train: list[str] = setting(help="Files of labelled configurations to learn from.", items=(1, None))
    test: list[str] = setting([], "Files of labelled configurations that are graded.")
    test_fraction: float | None = setting(None, "Instead of `test`: a random part of `train`.", gt=0, lt=1)
    train_groups: list[str] = setting(
        [], "Only these kinds are learnt; the rest of `train` is graded as novel (together with a fifth of the learnt "
        "kinds if there is no other test set).",
    )  # fmt: skip
    group_key: str = setting("group", "Info entry that names the kind of a configuration.")
    seed: int = setting(0, "Random seed of the split, the fits and the clusters.", ge=0)
    indicators: list[str] = setting(
        list(INDICATORS), "Ways to grade that are compared.", items=(1, None), choices=lambda: INDICATORS
    )
    settings: dict[str, Any] = setting(
        {}, "clusters, switch, gamma_threshold, ensemble, ...: see Comparison of uncertainty indicators."
    )


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
    folder = Path(folder)
    # what is in both is graded, not learnt
    files = {"test": comparison.test, "train": comparison.train}
    sets, _ = read_sets(files, folder, comparison.energy_key, comparison.forces_key)
    train, test = sets["train"], sets["test"]
    if comparison.test_fraction is not None:
        count = max(1, round(comparison.test_fraction * len(train)))
        train, held = split_at_random(train, count, comparison.seed)
        test = test + held
    if comparison.train_groups:
        wanted, key = set(comparison.train_groups), comparison.group_key
        found = {str(a.info.get(key)) for a in train}
        if wanted - found:
            raise AceError(
                f"train_groups: no configuration has {key} = {sorted(wanted - found)}; there are {sorted(found)}"
            )
        train, other = ([a for a in train if (str(a.info.get(key)) in wanted) is take] for take in (True, False))
        if not test:  # some of the learnt kinds too, or novelty could not be told from anything
            train, test = split_at_random(train, round(HELD_OUT * len(train)), comparison.seed)
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

    comparison = prepared.comparison
    builder = AceCompareUncertaintyCalculation.get_builder()
    with refusals_of_ports():
        builder.code = find_code(comparison.codes.worker, "aceal-worker", "codes.worker")
        builder.potential = basis_node(prepared.basis, prepared.potential, 0, store)
        builder.train = ConfigurationsData.from_atoms(prepared.train, source="train")
        builder.test = ConfigurationsData.from_atoms(prepared.test, source="test")
        builder.settings = orm.Dict(prepared.settings)
        builder.seed = orm.Int(comparison.seed)
        builder.metadata.label = (comparison.title or "Comparison of uncertainty indicators")[:255]
        builder.metadata.options = comparison.job_options()
    if not store:
        check_builder(builder)
    return builder
