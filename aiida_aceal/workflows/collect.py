"""Labels of calculations that are in the profile already, as one set with its provenance.

:func:`sources_of` finds in a process, or below it, the nodes that hold labels; the calcfunction
:func:`collect_labels` makes one `ConfigurationsData` of them, so that the set knows where each label is from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode, calcfunction
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.calculations.label_functions import quantumespresso_labels, vasp_labels
from aiida_aceal.common.configurations import configuration_hash, get_labels
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output

_KEY = re.compile(r"(source_\d+)_(\w+)$")
#: eV/atom: two labels of one structure that differ by more are of different methods
SAME = 1e-3


@dataclass
class Source:
    """Nodes with labels: ``kind`` (set, vasp or quantumespresso), the nodes by role, and who made them."""

    kind: str
    nodes: dict[str, orm.Data]
    name: str
    facts: dict[str, Any] = field(default_factory=dict)


def sources_of(node: orm.Node) -> Iterator[Source | str]:
    """Labels in a node, in the outputs of a process, or in those of the jobs below it; a text for what has none."""
    if isinstance(node, ConfigurationsData):
        labelled = node.has_labels("energy", "forces")
        yield Source("set", {"labelled": node}, f"set <{node.pk}>") if labelled else f"set <{node.pk}>: no labels"
        return
    if not isinstance(node, orm.ProcessNode):
        yield f"node <{node.pk}> is a {type(node).__name__}: neither a process nor a set of configurations"
        return
    found = list(_of_outputs(node))
    if not found:
        jobs = [child for child in node.called_descendants if isinstance(child, orm.CalcJobNode)]
        found = [source for job in jobs for source in _of_outputs(job)]
    yield from found or [f"{_name(node)}: no labels in its outputs, nor in those of jobs below it"]


def _name(node: orm.ProcessNode) -> str:
    return f"{node.process_label or type(node).__name__} <{node.pk}>"


def _of_outputs(node: orm.ProcessNode) -> Iterator[Source | str]:
    sets = node.outputs.dataset if "dataset" in node.outputs else {}
    if isinstance(sets, Mapping) and sets:  # a campaign
        for key in sorted(sets):
            yield Source("set", {"labelled": sets[key]}, f"{_name(node)}, {key}")
        return
    labelled = output(node, "labelled")
    if isinstance(labelled, ConfigurationsData):
        yield Source("set", {"labelled": labelled}, _name(node))
        return
    misc, parameters, trajectory = (output(node, name) for name in ("misc", "output_parameters", "output_trajectory"))
    of_vasp = isinstance(misc, orm.Dict) and "total_energies" in misc.get_dict()
    if not of_vasp and not (isinstance(parameters, orm.Dict) and isinstance(trajectory, orm.ArrayData)):
        return
    if not node.is_finished_ok:
        yield f"{_name(node)}: it failed ({node.exit_message or node.process_state.value})"
        return
    made = output(node, "structure" if of_vasp else "output_structure")
    structure = made or _input_structure(node)
    if not isinstance(structure, orm.StructureData):
        yield f"{_name(node)}: its structure is not found"
        return
    if of_vasp:
        yield Source("vasp", {"misc": misc, "structure": structure}, _name(node), {"sorted": made is not None})
        return
    system = _input_dict(node).get("SYSTEM") or {}
    nodes = {"parameters": parameters, "trajectory": trajectory, "structure": structure}
    yield Source("quantumespresso", nodes, _name(node), {"smearing": system.get("smearing"), "sorted": True})


def _input_structure(node: orm.ProcessNode) -> orm.Data | None:
    inputs = node.inputs
    for place in (inputs, *(inputs[name] for name in ("pw", "vasp", "calc") if name in inputs)):
        if "structure" in place:
            return place["structure"]
    return None


def _input_dict(node: orm.ProcessNode) -> dict[str, Any]:
    inputs = node.inputs
    for place in (inputs, *(inputs[name] for name in ("pw",) if name in inputs)):
        if "parameters" in place:
            return place["parameters"].get_dict()
    return {}


def inputs_of(sources: Iterable[Source], energy: str) -> dict[str, orm.Data]:
    """Inputs of :func:`collect_labels`."""
    nodes: dict[str, orm.Data] = {}
    facts = {}
    for number, source in enumerate(sources):
        key = f"source_{number:05d}"
        nodes |= {f"{key}_{role}": node for role, node in source.nodes.items()}
        facts[key] = {"kind": source.kind, "name": source.name, **source.facts}
    return {"settings": orm.Dict({"energy": energy, "sources": facts}), **nodes}


@calcfunction
def collect_labels(settings: orm.Dict, **nodes: orm.Data) -> Any:
    """``configurations`` and ``report`` from the nodes ``source_<number>_<role>`` that hold labels.

    Of several labels of one structure the first counts; if others differ from it by more than 1 meV/atom, that is said.
    """
    given = settings.get_dict()
    groups: dict[str, dict[str, orm.Data]] = {}
    for name, node in nodes.items():
        key, role = _KEY.match(name).groups()
        groups.setdefault(key, {})[role] = node
    chosen: dict[str, Atoms] = {}
    left_out, conflicts, repeated = [], [], 0
    kinds: Counter[str] = Counter()
    for key in sorted(groups):
        facts = given["sources"][key]
        try:
            found = list(_labelled(groups[key], facts, given["energy"]))
        except ValueError as error:
            left_out.append({"source": facts["name"], "reason": str(error)})
            continue
        kinds[facts["kind"]] += len(found)
        for digest, atoms in found:
            if digest not in chosen:
                chosen[digest] = atoms
                continue
            repeated += 1
            one, other = (get_labels(a)[0] for a in (chosen[digest], atoms))
            if abs(one - other) > SAME * len(atoms):
                conflicts.append({"hash": digest, "sources": [chosen[digest].info["source"], atoms.info["source"]]})
    if not chosen:
        reason = left_out[0]["reason"] if left_out else "no source was given"
        return ExitCode(310, f"no labels could be collected: {reason}")
    report = {
        "n_configurations": len(chosen), "n_repeated": repeated, "conflicts": conflicts, "left_out": left_out,
        "kinds": dict(kinds), "energy": given["energy"],
    }  # fmt: skip
    made = ConfigurationsData.from_atoms(chosen.values(), source="collected")
    return {"configurations": made, "report": orm.Dict(report)}


def _labelled(nodes: Mapping[str, orm.Data], facts: Mapping[str, Any], energy: str) -> Iterator[tuple[str, Atoms]]:
    """Hash and structure with labels of each configuration of a source.

    :raises ValueError: something is missing, not converged or of the wrong shape
    """
    if facts["kind"] == "set":
        for atoms in nodes["labelled"].iter_atoms():
            if any(value is None for value in get_labels(atoms)[:2]):
                continue
            digest = atoms.info.pop("aceal_hash")
            atoms.info.setdefault("source", facts["name"])
            yield digest, atoms
        return
    atoms = nodes["structure"].get_ase()
    symbols = atoms.get_chemical_symbols()
    if not facts["sorted"] and sum(a != b for a, b in pairwise(symbols)) >= len(set(symbols)):
        raise ValueError("atoms of one element are not together and no structure is among the outputs: order unknown")
    if facts["kind"] == "vasp":
        labels = vasp_labels(nodes["misc"].get_dict(), len(atoms), energy)
    else:
        trajectory = nodes["trajectory"]
        arrays = {
            key: trajectory.get_array(key)[-1] for key in ("forces", "stress") if key in trajectory.get_arraynames()
        }
        result = {**nodes["parameters"].get_dict(), **arrays}
        labels = quantumespresso_labels(result, len(atoms), energy, facts.get("smearing"))
    if not all(np.all(np.isfinite(values)) for values in labels.values()):
        raise ValueError("a label is not finite")
    if not atoms.pbc.all():
        labels.pop("stress", None)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    atoms.info["source"] = facts["name"]
    yield configuration_hash(atoms), atoms
