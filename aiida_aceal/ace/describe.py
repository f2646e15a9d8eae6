"""Reads the short description of a new potential: pacemaker's ``potential`` section, or a flat form of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement
from typing import Any

from ase.data import atomic_numbers

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.setting_words import unknown_key
from aiida_aceal.common.settings import Settings, build
from aiida_aceal.common.words import counted

from .basis_settings import SECTIONS, BasisSettings, BondSettings, EmbeddingSettings, FunctionSettings
from .potential import EMBEDDINGS, Species
from .presets import SIZES, find_preset

_SIZES = ("UNARY", "BINARY", "TERNARY", "QUATERNARY", "QUINARY", "SENARY")
_LIMIT = "number_of_functions_per_element"
# exponents of the densities that pacemaker's users add one after the other
_EXPONENTS = (1.0, 0.5, 0.75, 0.25, 0.125, 0.375, 0.875, 2.0)


@dataclass(frozen=True)
class Description:
    """A checked description. ``bonds`` keys are sorted pairs, ``functions`` keys (central, *sorted others).

    All settings of bonds and functions are filled in but the sizes of radial functions, where None stands for those
    that the functions need.
    """

    elements: tuple[str, ...]
    species: dict[str, Species]
    bonds: dict[tuple[str, str], BondSettings]
    functions: dict[tuple[str, ...], FunctionSettings]
    function_limit: int | None = None
    delta_spline_bins: float = 0.001
    metadata: dict[str, str] = field(default_factory=dict)


def read_description(description: Mapping[str, Any]) -> Description:
    """Check a description and resolve its keywords.

    Keys of ``embeddings``: ALL, UNARY, "Al". Of ``bonds``: ALL, UNARY (equal elements), BINARY (different ones), "Al",
    "AlNi" (either order). Of ``functions``: ALL, UNARY, BINARY, ... (number of different elements of the block), "Al",
    "AlNi" (central atom first), and ``number_of_functions_per_element``. The more specific keyword wins, key by key.
    Any key of the sections may stand at the top: it then holds for ALL. ``cutoff`` (Angstrom) is the rcut of all pairs,
    ``embedding`` the embedding of all elements: "linear", "sqrt", or a mapping. ``preset`` names a published basis
    (`aiida_aceal.ace.presets`), which gives everything but what else is stated; its functions cannot be changed.

    Raises
    ------
    AceError
        On unknown keys, elements and values.
    """
    top, sections = _sections(description)
    elements = _elements(top.get("elements"))
    limit = sections["functions"].pop(_LIMIT, top.get(_LIMIT))
    whole = build(BasisSettings, {key: top[key] for key in ("deltaSplineBins", "metadata") if key in top}, "")
    return Description(
        elements=elements,
        species=_embeddings(elements, sections["embeddings"]),
        bonds=_bonds(elements, sections["bonds"]),
        functions=_functions(elements, sections["functions"]),
        function_limit=build(BasisSettings, {_LIMIT: limit}, "").number_of_functions_per_element,
        delta_spline_bins=whole.deltaSplineBins,
        metadata={str(k): str(v) for k, v in (whole.metadata or {}).items()},
    )


def check_description(description: Mapping[str, Any]) -> None:
    """Check the keys and values of a description that need not be complete: elements may be missing, for instance.

    Raises
    ------
    AceError
        On unknown keys and wrong values, as `read_description`.
    """
    _, sections = _sections(description)
    for name, entries in sections.items():
        entries.pop(_LIMIT, None)
        for key, given in entries.items():
            build(SECTIONS[name], given, f"{name} {key}")


def _sections(description: Any) -> tuple[dict[str, Any], dict[str, dict[Any, Any]]]:
    """The top of a description in known spellings, and its sections with what the top says for all."""
    if not isinstance(description, Mapping):
        raise AceError(f"the description of a potential must be a mapping, found {type(description).__name__}")
    if "potential" in description:
        raise AceError("give only the 'potential' section of a pacemaker input, not the whole input")
    top = _canonical("description", description, BasisSettings)
    build(BasisSettings, top, "")
    if "preset" in top:
        top = _with_preset(top)
    sections = {}
    for name, model in SECTIONS.items():
        flat = {key: top[key] for key in model.model_fields if key in top}
        sections[name] = _section(name, top.get(name), model, flat)
    if "embedding" in top:
        # like `cutoff`, the short form gives way to what pacemaker's form says
        sections["embeddings"]["ALL"] = {**_named_embedding(top["embedding"]), **sections["embeddings"].get("ALL", {})}
    if "cutoff" in top:
        sections["bonds"].setdefault("ALL", {}).setdefault("rcut", top["cutoff"])
    return top, sections


def _with_preset(top: dict[str, Any]) -> dict[str, Any]:
    name, preset = top["preset"], find_preset(top["preset"])
    for key in SIZES:
        if key in top:
            raise AceError(f"preset {name} says which functions there are; leave out {key} or the preset")
    elements = _elements(top.get("elements") or preset.elements)
    if len(elements) != len(preset.elements):
        raise AceError(
            f"preset {name} is a basis of {counted(len(preset.elements), 'element')} "
            f"({', '.join(preset.elements)}), but the description names {len(elements)}: {', '.join(elements)}"
        )
    return {**preset.settings, **top, "elements": elements}


# --- keys -------------------------------------------------------------------------------------------------------------
def _plain(key: Any) -> str:
    return str(key).lower().replace("-", "_")


def _unknown(where: str, key: Any, known: Iterable[str]) -> AceError:
    return AceError(unknown_key(where, repr(key), str(key), list(known)))


def _canonical(where: str, mapping: Any, model: type[Settings]) -> dict[str, Any]:
    """Mapping with the declared spellings of its keys (case, '-' and '_' do not matter)."""
    if not isinstance(mapping, Mapping):
        raise AceError(f"{where} must be a mapping, found {mapping!r}")
    spelling = {_plain(k): k for k in model.model_fields}
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        if _plain(key) not in spelling:
            raise _unknown(where, key, model.model_fields)
        if spelling[_plain(key)] in result:
            raise AceError(f"{where}: {key!r} occurs twice")
        result[spelling[_plain(key)]] = value
    return result


def _section(name: str, given: Any, model: type[Settings], flat: dict[str, Any]) -> dict[Any, Any]:
    """Section as block key -> settings; settings without a block key, here or at the top, hold for ALL."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise AceError(f"{name} must be a mapping such as {{ALL: {{...}}}}, found {given!r}")
    section: dict[Any, Any] = {}
    plain = {_plain(k) for k in model.model_fields}
    everywhere = dict(flat)
    for key, value in given.items():
        if name == "functions" and _plain(key) == _LIMIT:
            section[_LIMIT] = value
        elif _plain(key) in plain and not isinstance(value, Mapping):
            everywhere.update(_canonical(name, {key: value}, model))
        else:
            section[key] = _canonical(f"{name} {key}", value, model)
    if everywhere:
        section["ALL"] = {**everywhere, **section.get("ALL", {})}
    return section


def _members(where: str, key: Any, elements: tuple[str, ...]) -> tuple[str, ...]:
    """Elements of a block key: "AlNi", "Al Ni", "Al-Ni", "(Al, Ni)" or a tuple."""
    text = key if isinstance(key, str) else " ".join(map(str, key)) if isinstance(key, (tuple, list)) else str(key)
    members = tuple(re.findall(r"[A-Z][a-z]?", text))
    if not members or re.sub(r"[A-Z][a-z]?|[\s,()-]", "", text) or not set(members) <= set(elements):
        raise _unknown(where, key, ("ALL", *_SIZES, *elements, *("".join(c) for c in combinations(elements, 2))))
    return members


def _elements(given: Any) -> tuple[str, ...]:
    given = build(BasisSettings, {"elements": given}, "").elements or ()
    elements = tuple(sorted(given.split() if isinstance(given, str) else given))
    if not elements:
        raise AceError("the description names no elements; give elements: [Cu]")
    for el in elements:
        if el not in atomic_numbers or el == "X":
            raise AceError(f"elements: {el!r} is not a chemical element")
    if len(set(elements)) != len(elements):
        raise AceError(f"elements: one occurs twice in {list(elements)}")
    return elements


# --- sections ---------------------------------------------------------------------------------------------------------
def _named_embedding(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return _canonical("embedding", given, EmbeddingSettings)
    densities = {"linear": 1, "sqrt": 2}
    if given in densities:
        return {"ndensity": densities[given]}
    if given in EMBEDDINGS:
        return {"npot": given}
    raise AceError(f"embedding: unknown value {given!r}; give 'linear', 'sqrt', one of {EMBEDDINGS} or a mapping")


def _embeddings(elements: tuple[str, ...], section: dict[Any, dict]) -> dict[str, Species]:
    for key in section:
        if key not in ("ALL", "UNARY") and key not in elements:
            raise _unknown("embeddings", key, ("ALL", "UNARY", *elements))
    result = {}
    for el in elements:
        where = f"embeddings {el}"
        given = {**section.get("ALL", {}), **section.get("UNARY", {}), **section.get(el, {})}
        settings = build(EmbeddingSettings, given, where)
        parameters, count = settings.fs_parameters, settings.ndensity
        if parameters is None:
            count = count or 1
            if count > len(_EXPONENTS):
                raise AceError(f"{where}: give fs_parameters, {2 * count} numbers, for {count} densities")
            parameters = tuple(x for exponent in _EXPONENTS[:count] for x in (1.0, exponent))
        elif count is None and len(parameters) % 2:
            raise AceError(
                f"{where}: fs_parameters must be two numbers for each density, found {len(parameters)}: "
                f"{list(parameters)}"
            )
        cores = {key: getattr(settings, key) for key in ("rho_core_cut", "drho_core_cut")}
        result[el] = Species(el, count or len(parameters) // 2, settings.npot, parameters, **cores)
    return result


def _bonds(elements: tuple[str, ...], section: dict[Any, dict]) -> dict[tuple[str, str], BondSettings]:
    special: dict[tuple[str, str], dict] = {}
    for key, given in section.items():
        if key in ("ALL", "UNARY", "BINARY"):
            continue
        members = _members("bonds", key, elements)
        if len(members) > 2:
            raise AceError(f"bonds: {key!r} names {len(members)} elements, but a bond has two")
        special.setdefault(tuple(sorted((members[0], members[-1]))), {}).update(given)
    result = {}
    for a, b in combinations_with_replacement(elements, 2):
        size = section.get("UNARY" if a == b else "BINARY", {})
        result[a, b] = _bond(f"bonds {a}-{b}", {**section.get("ALL", {}), **size, **special.get((a, b), {})})
    types = {settings.inner_cutoff_type for settings in result.values()}
    if len(types) > 1:
        raise AceError(f"bonds: inner_cutoff_type must be the same for all pairs, found {sorted(types)}")
    return result


def _bond(where: str, given: dict[str, Any]) -> BondSettings:
    settings = build(BondSettings, given, where)
    if settings.rcut is None:
        raise AceError(f"{where}: no rcut; give it under bonds or as cutoff: 6.0")
    if settings.inner_cutoff_type == "distance" and settings.r_in == 0.0 and settings.core_repulsion[0] != 0.0:
        warnings.warn(
            f"{where}: core-repulsion has no effect with inner_cutoff_type distance and r_in = 0; set r_in, delta_in",
            stacklevel=4,
        )
    return settings


def _functions(elements: tuple[str, ...], section: dict[Any, dict]) -> dict[tuple[str, ...], FunctionSettings]:
    special = {}
    for key, given in section.items():
        if key == "ALL" or key in _SIZES:
            continue
        members = _members("functions", key, elements)
        if len(set(members)) != len(members):
            raise AceError(f"functions: {key!r} names an element twice")
        special[(members[0], *sorted(members[1:]))] = given
    result = {}
    for size in range(1, len(elements) + 1):
        keyword = _SIZES[size - 1] if size <= len(_SIZES) else None
        for chosen in combinations(elements, size):
            for central in chosen:
                block = (central, *(el for el in chosen if el != central))
                given = {**section.get("ALL", {}), **section.get(keyword, {}), **special.get(block, {})}
                if given:
                    result[block] = _orders(f"functions {' '.join(block)}", given)
    return result


def _orders(where: str, given: dict[str, Any]) -> FunctionSettings:
    settings = build(FunctionSettings, given, where)
    for key in ("nradmax_by_orders", "lmax_by_orders"):
        if getattr(settings, key) is None:
            raise AceError(f"{where}: no {key}; give a list with one entry for each order, such as [8, 4, 2]")
    if settings.lmin_by_orders is None:
        settings = settings.replace(lmin_by_orders=(0,) * len(settings.nradmax_by_orders))
    keys = ("nradmax_by_orders", "lmax_by_orders", "lmin_by_orders")
    if len({len(getattr(settings, key)) for key in keys}) != 1:
        detail = ", ".join(f"{key}={list(getattr(settings, key))}" for key in keys if given.get(key) is not None)
        raise AceError(f"{where}: the lists must be equally long: {detail}")
    return settings
