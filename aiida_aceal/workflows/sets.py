"""The three roles of data: training, validation (gate, best potential, calibration) and test (only reported)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.common.errors import AceError
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.fitting.split import split_roles

#: sets that are never fitted -> the namespace of the process that makes one
SAMPLERS = {"validation": "sampler", "test": "test_sampler"}


def set_fractions(given: Mapping[str, Any], protocol: Mapping[str, Any], n_labelled: int) -> dict[str, float]:
    """Role -> share of the labelled structures, for the roles that are given as a number or not at all.

    :param given: role -> a set, a fraction, or ``None``
    :param protocol: section `sets` of the protocol
    :raises AceError: no validation set, and too few labelled structures to take one from
    """
    found = {}
    for role in SAMPLERS:
        value = given.get(role)
        enough = n_labelled >= protocol["min_labelled"]
        share = protocol[role] if value is None and enough else value
        if isinstance(share, (int, float)) and share > 0:
            found[role] = share
        elif share is None and role == "validation":
            raise AceError(
                "validation: give structures, dynamics of the reference method, or a fraction such as 0.1 of the data; "
                f"without it, a part of the labelled structures is taken if there are {protocol['min_labelled']}, and "
                f"there are {n_labelled}"
            )
    return found


@calcfunction
def split_configurations(configurations: ConfigurationsData, fractions: orm.Dict, seed: orm.Int) -> dict[str, Any]:
    """``training`` and the roles of ``fractions``, by :func:`split_roles`."""
    parts = split_roles(configurations.to_atoms(), fractions.get_dict(), seed.value)
    return {role: configurations.select(indices, source=role) for role, indices in parts.items()}


def split_node(node: ConfigurationsData, fractions: Mapping[str, float], seed: int) -> dict[str, ConfigurationsData]:
    """``initial`` and the roles of ``fractions`` out of a set; with its provenance if the set is stored."""
    if not fractions:
        return {}
    if node.is_stored:
        parts = split_configurations(node, orm.Dict(dict(fractions)), orm.Int(seed))
        return {"initial" if role == "training" else role: part for role, part in parts.items()}
    parts = split_roles(node.to_atoms(), fractions, seed)
    return {
        "initial" if role == "training" else role: node.select(indices, source=role) for role, indices in parts.items()
    }


def check_apart(inputs: Mapping[str, Any]) -> str | None:
    """What two sets of different roles have in common, or ``None``: what was fitted says nothing about errors."""
    roles = {
        "training": {"initial": inputs.get("initial"), **_named("dataset", inputs.get("dataset"))},
        **{role: {role: inputs.get(role)} for role in SAMPLERS},
    }
    known: dict[str, dict[str, ConfigurationsData]] = {
        role: {name: node for name, node in nodes.items() if isinstance(node, ConfigurationsData)}
        for role, nodes in roles.items()
    }
    for one, other in combinations(known, 2):
        for name, node in known[one].items():
            for other_name, other_node in known[other].items():
                shared = set(node.hashes) & set(other_node.hashes)
                if shared:
                    index = next(k for k, digest in enumerate(other_node.hashes) if digest in shared)
                    where = other_node.infos[index].get("source", "no source known")
                    return (
                        f"{other_name}: {len(shared)} of {len(other_node)} structures stand in `{name}` as well (the "
                        f"first: number {index}, {where}); take them out of one of the two"
                    )
    return None


def _named(prefix: str, nodes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {f"{prefix}.{key}": node for key, node in (nodes or {}).items()}
