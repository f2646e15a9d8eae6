"""Light steps of a validation: which structures, which of them have labels, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiida import orm
from aiida.engine import calcfunction
from ase import Atoms

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.properties.engine import forces
from aiida_aceal.properties.settings import ValidateSettings
from aiida_aceal.properties.validation import is_labelled, unique, with_labels
from aiida_aceal.workflows.validate.curves import curves_data

#: inputs of the job of the numbers -> what the sets that make them up are called
_SETS = {"structures": "frames_", "reference": "labelled_"}


@calcfunction
def equations_of_state(structure: ConfigurationsData, settings: orm.Dict) -> ConfigurationsData:
    """Structures of the equations of state, which depend on no potential."""
    from aiida_aceal.properties import eos_structures

    frames = eos_structures(ValidateSettings.read(settings.get_dict()), structure.to_atoms())
    return ConfigurationsData.from_atoms(frames, source="properties")


@calcfunction
def lattices(
    structure: ConfigurationsData, settings: orm.Dict, frames: ConfigurationsData, **labelled: ConfigurationsData
) -> dict[str, orm.Data]:
    """The crystals at the volumes at which the energy of the reference is lowest; ``report``: why some are a guess
    (``guesses``), and whether volumes around them should be tried (``again``)."""
    from aiida_aceal.properties import reference_lattices

    model = ValidateSettings.read(settings.get_dict())
    labels = (atoms for node in labelled.values() for atoms in node.iter_atoms())
    labelled_frames = with_labels(frames.iter_atoms(), labels)
    made, reasons, again = reference_lattices(model, structure.to_atoms(), labelled_frames)
    report = orm.Dict({"guesses": reasons, "again": again})
    return {"structure": ConfigurationsData.from_atoms(made, source="lattice"), "report": report}


@calcfunction
def sort_structures(**nodes: ConfigurationsData) -> dict[str, orm.Data]:
    """What is to be evaluated (``everything``), what has to be labelled, and labels that are there (``known``).

    ``frames_*`` are structures of properties, ``done_*`` those that have been through the labeller, ``labelled_*``
    sets with labels, of which the first of each content hash counts. Structures that are the same for every potential
    (``common``) stand apart from those that this one relaxed (``relaxed``): the same node for the same content.
    """
    frames = [atoms for _, atoms in _of(nodes, "frames_")]
    done = {atoms.info["aceal_hash"] for _, atoms in _of(nodes, "done_")}
    wanted = {configuration_hash(atoms): atoms for atoms in unique(frames)}
    moved = {atoms.info["aceal_hash"] for atoms in frames if atoms.info.get("relaxed")}
    known: dict[str, Atoms] = {}
    for _, atoms in _of(nodes, "labelled_"):
        digest = atoms.info["aceal_hash"]
        if digest in wanted and digest not in known and is_labelled(atoms):
            known[digest] = atoms
    left = [digest for digest in wanted if digest not in known and digest not in done]
    parts = {
        "everything": list(wanted.values()),
        "common": [wanted[digest] for digest in left if digest not in moved],
        "relaxed": [wanted[digest] for digest in left if digest in moved],
        "known": list(known.values()),
    }
    return {
        name: ConfigurationsData.from_atoms(atoms, source=None if name == "known" else "properties")
        for name, atoms in parts.items()
        if atoms
    }


@calcfunction
def merge_sets(**nodes: ConfigurationsData) -> dict[str, orm.Data]:
    """All property structures (``structures``), and all labels of the reference (``reference``)."""
    found = {name: [atoms for _, atoms in _of(nodes, prefix)] for name, prefix in _SETS.items()}
    return {name: ConfigurationsData.from_atoms(atoms, source="properties") for name, atoms in found.items() if atoms}


@calcfunction
def collect_validation(
    facts: orm.Dict, numbers: orm.SinglefileData, **nodes: ConfigurationsData
) -> dict[str, orm.Data]:
    """``numbers_PROPERTY``, ``curves_PROPERTY``, ``structures`` (with the labels of the reference) and ``summary``.

    :param nodes: ``frames_*`` and ``labelled_*`` as in `sort_structures`, and ``evaluated``
    """
    from aiida_aceal.properties import intervals_that_hold, worst_row

    found = json.loads(numbers.get_content())
    gamma = {a.info["aceal_hash"]: a.info["gamma_max"] for a in _graded(nodes)}
    labels = [atoms for _, atoms in _of(nodes, "labelled_")]
    frames = with_labels((atoms for _, atoms in _of(nodes, "frames_")), labels, gamma=gamma)
    outputs: dict[str, orm.Data] = {}
    properties: dict[str, Any] = {}
    for name in found["reference"]:
        own = [f for f in frames if f.info["property"] == name and f.calc is not None]
        rows = [row for row in found["rows"] if row["property"] == name]
        sides = {side: found[side][name] for side in ("reference", "potential")}
        entry = {
            "worst": worst_row(rows),
            "gamma_max": _largest(row["gamma_max"] for row in rows),
            "residual_force_eV_per_A": _largest(
                float((forces(f) ** 2).sum(axis=1).max() ** 0.5) for f in own if f.info.get("relaxed")
            ),
            **{f"{side}_error": data["error"] for side, data in sides.items() if "error" in data},
        }
        properties[name] = entry
        plain = {side: _without_curves(data) for side, data in sides.items()}
        used = [f.info["aceal_hash"] for f in own]
        outputs[f"numbers_{name}"] = orm.Dict({"rows": rows, **plain, **entry, "structures": used})
        curves = curves_data(sides)
        if curves is not None:
            outputs[f"curves_{name}"] = curves
    failed = [name for name, entry in properties.items() if any(key.endswith("_error") for key in entry)]
    summary = {**facts.get_dict(), "properties": properties, "failed": failed, "worst": worst_row(found["rows"])}
    intervals = intervals_that_hold(found["rows"])
    if intervals is not None:
        summary["intervals"] = intervals
    outputs["summary"] = orm.Dict(summary)
    labelled = _training(frames, labels)
    if labelled:
        outputs["structures"] = ConfigurationsData.from_atoms(labelled, source="validation")
    return outputs


def _training(frames: Iterable[Atoms], labels: Iterable[Atoms]) -> list[Atoms]:
    """Each labelled structure once, with all that it was computed for; those of earlier volumes too."""
    found: dict[str, Atoms] = {}
    for atoms in frames:
        if atoms.calc is not None:
            case = f"{atoms.info.pop('property')}:{atoms.info.pop('case')}"
            first = found.setdefault(atoms.info["aceal_hash"], atoms)
            first.info["cases"] = " ".join(filter(None, [first.info.get("cases"), case.replace(" ", "_")]))
    for atoms in labels:
        if atoms.info["aceal_hash"] not in found:
            found[atoms.info["aceal_hash"]] = atoms
            atoms.info.setdefault("cases", "lattice")
    return list(found.values())


def _of(nodes: Mapping[str, ConfigurationsData], prefix: str) -> Iterator[tuple[str, Atoms]]:
    for key in sorted(nodes):
        if key.startswith(prefix):
            yield from ((key, atoms) for atoms in nodes[key].iter_atoms())


def _graded(nodes: Mapping[str, ConfigurationsData]) -> Iterator[Atoms]:
    return (atoms for _, atoms in _of(nodes, "evaluated") if "gamma_max" in atoms.info)


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _without_curves(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without_curves(v) if isinstance(v, Mapping) else v for k, v in data.items() if k != "curves"}
