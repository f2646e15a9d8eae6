"""All properties one after the other: structures, labels, numbers; what fails is named and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from ase import Atoms

from aiida_aceal.common.errors import AceError

from .engine import Engine, Fixed, Relaxer
from .names import DYNAMICS, property_names
from .settings import PropertiesSettings, PropertySections
from .start import Start, prepare

#: property -> module of this package, section of the settings
MODULES = {
    "eos": ("eos", "eos"),
    "elastic": ("elastic", "elastic"),
    "phonon": ("phonon", "phonon"),
    "vacancy": ("vacancy", "defects"),
    "interstitial": ("interstitial", "defects"),
    "antisite": ("antisite", "defects"),
    "surface": ("surface", "surface"),
    "pairs": ("pairs", "pairs"),
    "md": ("md", "md"),
    "melting": ("melting", "melting"),
}
Say = Callable[[str], None]


def part_of(name: str, settings: PropertySections) -> tuple[ModuleType, Any]:
    """The module of a property, with functions ``structures`` and ``analyse``, and its settings."""
    module, section = MODULES[name]
    return import_module(f"{__package__}.{module}"), getattr(settings, section)


def property_structures(
    settings: PropertySections, given: Sequence[Atoms], relaxer: Relaxer, say: Say = lambda text: None
) -> tuple[list[Atoms], dict[str, str]]:
    """First step: the structures to be computed, each with ``info["property"]`` and ``info["case"]``.

    :param given: the crystal whose properties are wanted, then further phases for the equations of state
    :returns: structures; and by property why there are none
    :raises AceError: nothing can be computed at all
    """
    names = property_names(settings.properties)
    first = relaxer if getattr(settings, "relax_start", True) else Fixed()
    start = prepare(given, first, settings.eos.phases if "eos" in names else (), settings.symprec, say)
    frames: list[Atoms] = []
    errors: dict[str, str] = {}
    for name in names:
        made = _attempt(name, lambda name=name: _structures(name, settings, start, relaxer), errors, say)
        if made is not None:
            say(f"{name}: {len(made)} structures")
            frames += made
    return frames, errors


def _structures(name: str, settings: PropertySections, start: Start, relaxer: Relaxer) -> list[Atoms]:
    module, section = part_of(name, settings)
    return module.structures(section, start, relaxer)


def property_numbers(
    settings: PropertySections,
    frames: Sequence[Atoms],
    errors: Mapping[str, str] | None = None,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Last step: the numbers of each property from its labelled structures, ``{"error": reason}`` where there are none.

    Only labels, ``info["property"]``, ``info["case"]`` and ``info["gamma_max"]`` are read: the structures may have gone
    through files, nodes and any engine in between.

    :param errors: by property, what `property_structures` returned
    """
    reasons = dict(errors or {})
    result: dict[str, Any] = {}
    for name in property_names(settings.properties):
        own = [f for f in frames if f.info.get("property") == name]
        if name not in reasons:
            module, section = part_of(name, settings)
            result[name] = _attempt(name, lambda m=module, s=section, own=own: m.analyse(s, own), reasons, say)
        if name in reasons:
            result[name] = {"error": reasons[name]}
    return result


def compute_properties(
    settings: PropertiesSettings,
    given: Sequence[Atoms],
    engine: Engine,
    relaxer: Relaxer | None = None,
    grade: Callable[[Atoms], float] | None = None,
    say: Say = lambda text: None,
) -> tuple[dict[str, Any], list[Atoms]]:
    """Structures, labels by one engine, numbers.

    :param relaxer: who relaxes, by default the engine itself
    :param grade: grade of a structure where the engine gives none (the potential's, for labels of a reference)
    :returns: numbers by property, and the labelled structures
    """
    relaxer = relaxer or Relaxer(engine, settings.relaxation)
    names = property_names(settings.properties)
    without = [name for name in names if name in DYNAMICS] if relaxer.engine is not engine else []
    wanted = settings.replace(properties=[name for name in names if name not in without]) if without else settings
    frames, errors = property_structures(wanted, given, relaxer, say) if wanted.properties else ([], {})
    for name in without:
        errors[name] = f"{engine.name} computes single points only (relax_with), so that it makes no runs"
    labelled: list[Atoms] = []
    for name in names:
        own = [f for f in frames if f.info["property"] == name]
        done = _attempt(name, lambda own=own: engine.label(own), errors, say) if name not in errors else None
        for atoms in done or []:
            if grade is not None and "gamma_max" not in atoms.info and "error" not in atoms.info:
                atoms.info["gamma_max"] = grade(atoms)
            labelled.append(atoms)
    return property_numbers(settings, labelled, errors, say), labelled


def _attempt(name: str, work: Callable[[], Any], errors: dict[str, str], say: Say) -> Any:
    """The result, or None with the reason noted."""
    try:
        return work()
    except AceError as error:
        errors[name] = str(error)
    except Exception as error:  # a library's own words: the other properties go on
        errors[name] = f"{type(error).__name__}: {error}"
    say(f"{name}: {errors[name]}")
    return None
