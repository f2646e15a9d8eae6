"""What is in the data base already: who made a potential, and labels that earlier validations paid for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output

#: inputs of a labeller on which its labels do not depend
_FREE = ("options", "metadata", "restart")


def origin_of(potential: orm.Data) -> tuple[orm.WorkChainNode, dict[str, orm.Data]] | None:
    """The campaign that made a potential, the latest if there are several, and what belongs to that potential.

    It may be the one that the campaign returned, its output ``latest``, or the one of a generation. The mapping has its
    ``active_set`` and ``ensemble``, where there are such.
    """
    found: list[tuple[orm.WorkChainNode, orm.WorkChainNode, str]] = []
    for link in potential.base.links.get_incoming(link_type=LinkType.RETURN).all():
        prefix, _, name = link.link_label.rpartition("potential")
        if name or prefix not in ("", "latest__"):
            continue
        if link.node.process_label == "ActiveLearningWorkChain":
            found.append((link.node, link.node, prefix))
        elif link.node.process_label == "GenerationWorkChain" and link.node.caller is not None:
            found.append((link.node.caller, link.node, prefix))
    if not found:
        return None
    campaign, maker, prefix = max(found, key=lambda one: (one[0].pk, one[0].pk == one[1].pk))
    names = ("active_set", "ensemble")
    nodes = {name: maker.base.links.get_outgoing(link_label_filter=prefix + name).all_nodes() for name in names}
    return campaign, {name: several[0] for name, several in nodes.items() if several}


def earlier_labels(labeller: Mapping[str, Any]) -> dict[str, ConfigurationsData]:
    """Structures of earlier validations whose labels the same labeller made, with the same code and settings."""
    wanted = _identity(labeller)
    query = orm.QueryBuilder().append(
        orm.WorkChainNode, filters={"attributes.process_label": "ValidateWorkChain"}, project="*"
    )
    found = {}
    for node in query.all(flat=True):
        structures = output(node, "structures")
        if structures is not None and _identity(node.inputs.labeller) == wanted:
            found[f"validation_{node.pk}"] = structures
    return found


def _identity(inputs: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What labels depend on: content of all input nodes, codes by where they are."""
    result: dict[str, Any] = {}
    for key in inputs:
        value = inputs[key]
        if key in _FREE:
            continue
        if isinstance(value, orm.AbstractCode):
            result[prefix + key] = (value.full_label, str(value.get_executable()))
        elif isinstance(value, orm.Data):
            # no hash of AiiDA's: nodes of a new input are not stored yet
            result[prefix + key] = (value.base.attributes.all, value.base.repository.hash())
        else:
            result |= _identity(value, f"{prefix}{key}.")
    return result
