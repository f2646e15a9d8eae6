"""Where properties start: the given crystals, relaxed by the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ase import Atoms

from aiida_aceal.common.errors import AceError

from .crystal import Crystal, crystal, prototype
from .engine import Relaxer


@dataclass(frozen=True)
class Start:
    """Relaxed phases by name; phases as ``given``; for those that could not be relaxed, ``errors`` says why.

    The first given is the crystal whose properties are computed; the others enter the equations of state and,
    if they are elements, the formation energies of defects.
    """

    phases: dict[str, Crystal]
    given: dict[str, Crystal]
    errors: dict[str, str]

    @property
    def crystal(self) -> Crystal:
        """The crystal whose properties are computed; raises `AceError` if it could not be relaxed."""
        name = next(iter(self.given))
        if name in self.errors:
            raise AceError(self.errors[name])
        return self.phases[name]


def prepare(
    given: Sequence[Atoms],
    relaxer: Relaxer,
    prototypes: Iterable[str] = (),
    symprec: float = 1e-3,
    say: Callable[[str], None] = lambda text: None,
) -> Start:
    """Relax the given structures, and prototypes of their element at the volume of the first.

    :raises AceError: no structure, no symmetry of the first, prototypes for a compound, the same name twice
    """
    if not given:
        raise AceError("name the structure whose properties are wanted")
    todo = [crystal(atoms, symprec=symprec) for atoms in given]
    formulas = [one.primitive.get_chemical_formula(empirical=True) for one in todo]
    for k, (one, atoms) in enumerate(zip(todo, given)):
        if len(set(formulas)) > 1 and one.prototype and not atoms.info.get("name"):
            todo[k] = replace(one, name=f"{formulas[k]}_{one.prototype}")  # fcc of which element?
    elements = set(todo[0].primitive.symbols)
    for name in prototypes:
        if len(elements) > 1:
            raise AceError(f"eos.phases: prototypes ({name}) are for elements, not for {''.join(sorted(elements))}")
        if any(name == other.prototype for other in todo):
            continue
        volume = todo[0].primitive.get_volume() / len(todo[0].primitive)
        todo.append(crystal(prototype(name, next(iter(elements)), volume), symprec=symprec))
    start = Start({}, {}, {})
    for one in todo:
        if one.name in start.given:
            raise AceError(f"two structures are called '{one.name}': give each a name in info['name']")
        if "/" in one.name:
            raise AceError(f"the name '{one.name}' of a structure has a slash: choose another")
        start.given[one.name] = one
        try:
            start.phases[one.name] = crystal(relaxer.crystal(one.primitive, one.name), one.name, symprec)
            say(f"{one.name}: {start.phases[one.name].symbol}")
        except AceError as error:
            start.errors[one.name] = str(error)
            say(f"{one.name}: {error}")
    return start
