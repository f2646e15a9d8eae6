"""Lattices of the reference: given crystals at the volume at which the reference's energy is lowest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError

from .crystal import cases
from .engine import Fixed, energy
from .names import DYNAMICS, property_names
from .run import property_numbers, property_structures
from .settings import PropertySections, ValidateSettings
from .start import prepare

#: largest relative change of the volume from one search to the next
_LARGEST_STEP = 0.15


def eos_structures(settings: PropertySections, given: Sequence[Atoms]) -> list[Atoms]:
    """Structures of the equations of state of all phases, which depend on no engine: shape and positions as given.

    :raises AceError: no structure, no symmetry of the first, an unknown phase
    """
    prepare(given, Fixed(), settings.eos.phases, settings.symprec)  # `property_structures` would keep quiet
    return property_structures(settings.replace(properties="eos"), given, Fixed())[0]


def common_structures(settings: ValidateSettings, given: Sequence[Atoms]) -> list[Atoms]:
    """Structures of a validation that are known before anything is computed: no potential moved them.

    With ``lattice: reference`` these are the first equations of state and the dimers, else all but what is relaxed.
    """
    names = [name for name in property_names(settings.properties) if name not in DYNAMICS]
    if settings.lattice == "reference":
        names = [name for name in ("eos", "pairs") if name == "eos" or name in names]
    if not names:
        return []
    defects = settings.defects.replace(migration=False)  # a path needs an engine
    frames, _ = property_structures(settings.replace(properties=names, defects=defects), given, Fixed())
    if settings.lattice == "reference":
        frames = [f for f in frames if f.info["property"] == "eos" or "/dimer/" in f.info["case"]]
    return frames


def reference_lattices(
    settings: PropertySections, given: Sequence[Atoms], frames: Sequence[Atoms]
) -> tuple[list[Atoms], dict[str, str], bool]:
    """The given crystals scaled to the volume of lowest energy, each with its name in ``info``.

    :param frames: `eos_structures` with the labels of the reference
    :returns: crystals; by name why the volume is a guess; whether equations of state around the new volumes would be
        better: one was not found, or lies in the outer half of the range
    """
    numbers = property_numbers(settings.replace(properties="eos"), frames)["eos"]
    made, reasons, again = [], {}, False
    for name, atoms in zip(prepare(given, Fixed(), (), settings.symprec).given, given):
        atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        atoms.info["name"] = name
        found = numbers if "error" in numbers else numbers[name]
        centre = atoms.get_volume() / len(atoms)
        if "error" in found:
            reasons[name] = str(found["error"])
            volume = _guess(name, frames, centre)
        else:
            volume = found["volume_A3_per_atom"]
        again |= "error" in found or abs(volume / centre - 1) > settings.eos.volume_range / 2
        atoms.set_cell(atoms.cell * (volume / centre) ** (1 / 3), scale_atoms=True)
        made.append(atoms)
    return made, reasons, bool(again)


def _guess(name: str, frames: Sequence[Atoms], centre: float) -> float:
    """Where a parabola through the energies has its minimum; where it has none, the end at which they are lower."""
    try:
        images = list(cases(frames, f"{name}/").values())
        energies = np.array([energy(f) / len(f) for f in images])
    except AceError:
        return centre
    volumes = np.array([f.get_volume() / len(f) for f in images])
    curvature, slope, _ = np.polyfit(volumes - centre, energies, 2)
    target = centre - slope / (2 * curvature) if curvature > 0 else volumes[int(np.argmin(energies))]
    return float(np.clip(target, centre * (1 - _LARGEST_STEP), centre * (1 + _LARGEST_STEP)))
