"""What is in the data base already: whose potential it is, and labels that earlier validations paid for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output

#: inputs of a labeller on which its labels do not depend
_FREE = ("options", "metadata", "restart")


def campaign_of(potential: orm.Data) -> orm.WorkChainNode | None:
    """The campaign that returned a potential, the latest if there are several."""
    found = potential.base.links.get_incoming(link_type=LinkType.RETURN, link_label_filter="potential").all_nodes()
    campaigns = [node for node in found if node.process_label == "ActiveLearningWorkChain"]
    return max(campaigns, key=lambda node: node.pk, default=None)


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
