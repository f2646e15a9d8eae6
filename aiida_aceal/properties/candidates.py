"""Structures of properties as a pool that candidates come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import setting
from aiida_aceal.exploration.pool import PoolSettings

from .engine import Fixed, Relaxer
from .names import ALL, DYNAMICS, property_names
from .run import property_structures
from .settings import PropertySections

Say = Callable[[str], None]
#: all but runs, which are explored by aceal.explore.md
EXPLORED = tuple(name for name in ALL if name not in DYNAMICS)


def explored_names(value: str | Sequence[str]) -> tuple[str, ...]:
    """Names of properties whose structures are explored. Raises `ValueError`: no name, an unknown one, dynamics."""
    names = property_names(value)
    runs = [name for name in names if name in DYNAMICS]
    if runs:
        raise ValueError(f"{runs[0]} is no set of structures: explore by dynamics with aceal.explore.md")
    return names


class PropertyPoolSettings(PropertySections, PoolSettings):
    """Whose structures are graded, how they are made, and which of them are candidates."""

    heading = "Structures of properties: `settings` of `aceal.explore.properties`"

    properties: str | tuple[str, ...] = setting(
        "eos,elastic,phonon,vacancy,surface", f"Names, by commas or as a list: {', '.join(EXPLORED)}.",
        parse=explored_names, allowed=f"names among {', '.join(EXPLORED)}",
    )  # fmt: skip
    relax_start: bool = setting(
        True, "Whether the potential relaxes the given crystals first; if not, their cells are taken as they are."
    )


def property_pool(
    settings: PropertyPoolSettings, given: Sequence[Atoms], relaxer: Relaxer, say: Say = lambda text: None
) -> tuple[list[Atoms], dict[str, str]]:
    """Structures of the properties, made with a potential that need not be good yet.

    Where it cannot relax something, the structure is taken as it was before (info ``unrelaxed``): what a potential
    cannot relax is what it has to learn.

    :param given: the crystal, then further phases
    :returns: structures with ``info["property"]``, ``["case"]``, ``["source"]``; by property why there are none
    :raises AceError: there are no structures at all
    """
    try:
        made, reasons = property_structures(settings, given, relaxer, say)
    except AceError as error:
        made, reasons = [], dict.fromkeys(property_names(settings.properties), str(error))
    frames = [atoms for atoms in made if "error" not in atoms.info]
    incomplete = {atoms.info["property"] for atoms in made if "error" in atoms.info} | set(reasons)
    failed: dict[str, str] = {}
    if incomplete:
        names = tuple(name for name in property_names(settings.properties) if name in incomplete)
        say(f"not all can be relaxed: {', '.join(names)}")
        alone = settings.replace(properties=names, defects=settings.defects.replace(migration=False))
        instead, failed = property_structures(alone, given, Fixed(), say)
        known = {(atoms.info["property"], atoms.info["case"]) for atoms in frames}
        for atoms in instead:
            if "error" not in atoms.info and (atoms.info["property"], atoms.info["case"]) not in known:
                atoms.info["unrelaxed"] = True
                frames.append(atoms)
    for atoms in frames:
        atoms.info["source"] = f"{atoms.info['property']}:{atoms.info['case']}".replace(" ", "_")
    if not frames:
        raise AceError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    return frames, failed
