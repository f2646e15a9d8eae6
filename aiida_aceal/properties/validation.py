"""A potential beside its reference: labels matched by content, both analysed alike, error bars by an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.configurations import configuration_hash, get_labels
from aiida_aceal.common.errors import AceError

from . import md
from .compare import compare_properties, numbers_in
from .engine import Engine, Fixed, Relaxer
from .names import DYNAMICS, property_names
from .run import property_numbers, property_structures
from .settings import NumbersSettings, PropertySections

Say = Callable[[str], None]


def mark_relaxed(settings: PropertySections, given: Sequence[Atoms], frames: Iterable[Atoms]) -> None:
    """Set ``info["relaxed"]`` of structures that an engine has moved; the others are the same for every engine."""
    defects = settings.defects.replace(migration=False)  # a path needs an engine
    fixed, _ = property_structures(settings.replace(defects=defects), given, Fixed())
    known = {configuration_hash(atoms) for atoms in fixed}
    for atoms in frames:
        if "error" not in atoms.info:
            atoms.info["relaxed"] = configuration_hash(atoms) not in known


def unique(frames: Iterable[Atoms]) -> list[Atoms]:
    """One of each structure that is to be computed, bare: properties share the perfect crystal."""
    found = {}
    for atoms in frames:
        if "error" not in atoms.info and "own" not in atoms.info:
            bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            found.setdefault(configuration_hash(atoms), bare)
    return list(found.values())


def is_labelled(atoms: Atoms) -> bool:
    """Energy and forces, and stress where the cell is periodic in three directions."""
    energy, forces, stress = get_labels(atoms)
    return energy is not None and forces is not None and (stress is not None or not atoms.pbc.all())


def with_labels(
    frames: Iterable[Atoms],
    labelled: Iterable[Atoms],
    reasons: Mapping[str, str] | None = None,
    gamma: Mapping[str, float] | None = None,
) -> list[Atoms]:
    """Copies of property structures with the labels of the same structures (by content hash).

    :param reasons: content hash -> why there is no label
    :param gamma: content hash -> largest grade
    """
    known = {configuration_hash(atoms): atoms for atoms in labelled}
    made = []
    for frame in frames:
        atoms, digest = frame.copy(), configuration_hash(frame)
        atoms.calc = frame.calc if "own" in frame.info else None
        if "error" not in atoms.info and "own" not in atoms.info:
            results = dict(zip(("energy", "forces", "stress"), get_labels(known[digest]))) if digest in known else {}
            if results.get("energy") is None:
                atoms.info["unlabelled"] = (reasons or {}).get(digest, "it was not labelled")
            else:
                given = {name: value for name, value in results.items() if value is not None}
                atoms.calc = SinglePointCalculator(atoms, **given)
            if gamma and digest in gamma:
                atoms.info["gamma_max"] = gamma[digest]
        made.append(atoms)
    return made


def validation_numbers(
    settings: NumbersSettings,
    frames: Sequence[Atoms],
    reference: Sequence[Atoms],
    evaluated: Sequence[Atoms],
    runs: Mapping[str, Sequence[Atoms]] | None = None,
    members: Sequence[Engine] = (),
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Numbers of reference and potential from the same structures, and their comparison.

    :param frames: structures of the properties
    :param reference: structures with the labels of the reference
    :param evaluated: structures with the labels of the potential, ``info["gamma_max"]`` if graded
    :param runs: ``reference`` and ``potential``: frames of their own dynamics (``md``, ``melting``)
    :param members: of an ensemble: single points, and with ``md.members`` runs of their own
    :returns: ``reference``, ``potential`` (numbers by property), ``rows`` (`compare_properties`; with an ensemble also
        ``members`` (values), ``mean``, ``standard_deviation``)
    """
    gamma = {configuration_hash(a): float(a.info["gamma_max"]) for a in evaluated if "gamma_max" in a.info}
    runs = runs or {}
    sides = {}
    # grades are the potential's: with them the reference would not be trusted at short distances
    for side, labelled, reasons, grades in (
        ("reference", reference, settings.unlabelled, None), ("potential", evaluated, {}, gamma)
    ):  # fmt: skip
        own = [*with_labels(frames, labelled, reasons, grades), *runs.get(side, ())]
        errors = {**settings.errors, **getattr(settings, f"{side}_errors")}
        sides[side] = property_numbers(settings, own, errors, say)
        say(f"{side}: {sum('error' not in data for data in sides[side].values())} of {len(sides[side])} properties")
    rows = compare_properties(sides["reference"], sides["potential"])
    _add_spread(rows, _of_members(settings, [*frames, *runs.get("potential", ())], members, say))
    return {**sides, "rows": rows}


def _of_members(
    settings: NumbersSettings, frames: Sequence[Atoms], members: Sequence[Engine], say: Say
) -> list[dict[str, dict[str, float]]]:
    there = {f.info.get("property") for f in frames}
    names = [name for name in property_names(settings.properties) if name in there and name not in settings.errors]
    names = [name for name in names if name not in DYNAMICS or (name == md.NAME and settings.md.members)]
    crystal = next((f for f in frames if f.info.get("property") == md.NAME and f.info["case"] == "start"), None)
    shared = [f for f in frames if f.info.get("property") not in DYNAMICS]
    found: list[dict[str, dict[str, float]]] = []
    if not names:
        return found
    alone = settings.replace(properties=names)
    for k, member in enumerate(members):
        try:
            labelled = with_labels(shared, member.label(unique(shared)))
            if md.NAME in names and crystal is not None:
                labelled += md.runs(settings.md, crystal, Relaxer(member))
        except AceError as error:
            say(f"member {k}: {error}")
            continue
        numbers = property_numbers(alone, labelled)
        found.append({name: numbers_in(data) for name, data in numbers.items()})
        say(f"member {k + 1} of {len(members)}")
    return found


def _add_spread(rows: list[dict[str, Any]], members: list[dict[str, dict[str, float]]]) -> None:
    """Values of the members that have the quantity of a row, their mean and standard deviation (of a sample)."""
    for row in rows:
        found = [numbers.get(row["property"], {}).get(row["quantity"]) for numbers in members]
        values = [float(v) for v in found if v is not None and not isinstance(v, bool)]
        if len(values) > 1:
            row["members"] = values
            row["mean"], row["standard_deviation"] = float(np.mean(values)), float(np.std(values, ddof=1))
