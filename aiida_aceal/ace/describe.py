"""Reads the short description of a new potential: pacemaker's ``potential`` section, or a flat form of it."""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement
from typing import Any

from ase.data import atomic_numbers

from aiida_aceal.common.words import counted

from .errors import AceError
from .potential import EMBEDDINGS, INNER_CUTOFFS, RADIAL_TYPES, Species
from .presets import SIZES, find_preset

_SIZES = ("UNARY", "BINARY", "TERNARY", "QUATERNARY", "QUINARY", "SENARY")
_TOP = ("preset", "elements", "embeddings", "bonds", "functions", "deltaSplineBins", "metadata", "cutoff", "embedding")
_EMBEDDING = ("npot", "fs_parameters", "ndensity", "rho_core_cut", "drho_core_cut")
_BOND = (
    "radbase", "radparameters", "rcut", "dcut", "r_in", "delta_in", "core-repulsion", "inner_cutoff_type",
    "NameOfCutoffFunction", "nradbase", "nradmax", "lmax",
)  # fmt: skip
_FUNCTIONS = ("nradmax_by_orders", "lmax_by_orders", "lmin_by_orders", "coefs_init")
_LIMIT = "number_of_functions_per_element"
# exponents of the densities that pacemaker's users add one after the other
_EXPONENTS = (1.0, 0.5, 0.75, 0.25, 0.125, 0.375, 0.875, 2.0)


@dataclass(frozen=True)
class BondSettings:
    """Radial settings of an unordered pair; lengths in Angstrom; sizes None = as the functions need."""

    rcut: float
    radbase: str = "SBessel"
    radparameters: tuple[float, ...] = (5.25,)
    dcut: float = 0.01
    r_in: float = 0.0
    delta_in: float = 0.0
    core_repulsion: tuple[float, float] = (0.0, 0.0)
    inner_cutoff_type: str = "distance"
    cutoff_function: str = "cos"
    nradbase: int | None = None
    nradmax: int | None = None
    lmax: int | None = None


@dataclass(frozen=True)
class FunctionSettings:
    """Largest n, largest and smallest l of each order (rank 1, 2, ...) of one block."""

    nradmax: tuple[int, ...]
    lmax: tuple[int, ...]
    lmin: tuple[int, ...]
    random: bool = False


@dataclass(frozen=True)
class Description:
    """A checked description. ``bonds`` keys are sorted pairs, ``functions`` keys (central, *sorted others)."""

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
    if not isinstance(description, Mapping):
        raise AceError(f"the description of a potential must be a mapping, found {type(description).__name__}")
    if "potential" in description:
        raise AceError("give only the 'potential' section of a pacemaker input, not the whole input")
    top = _canonical("description", description, (*_TOP, *_EMBEDDING, *_BOND, *_FUNCTIONS, _LIMIT))
    if "preset" in top:
        top = _with_preset(top)
    elements = _elements(top.get("elements"))
    sections = {}
    for name, keys in (("embeddings", _EMBEDDING), ("bonds", _BOND), ("functions", _FUNCTIONS)):
        flat = {key: top[key] for key in keys if key in top}
        sections[name] = _section(name, top.get(name), keys, flat)
    if "embedding" in top:
        # like `cutoff`, the short form gives way to what pacemaker's form says
        sections["embeddings"]["ALL"] = {**_named_embedding(top["embedding"]), **sections["embeddings"].get("ALL", {})}
    if "cutoff" in top:
        sections["bonds"].setdefault("ALL", {}).setdefault("rcut", top["cutoff"])
    limit = sections["functions"].pop(_LIMIT, top.get(_LIMIT))
    metadata = top.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise AceError(f"metadata must be a mapping of texts, found {metadata!r}")
    return Description(
        elements=elements,
        species=_embeddings(elements, sections["embeddings"]),
        bonds=_bonds(elements, sections["bonds"]),
        functions=_functions(elements, sections["functions"]),
        function_limit=None if limit is None else _integer(_LIMIT, limit, 1),
        delta_spline_bins=_number("deltaSplineBins", top.get("deltaSplineBins", 0.001), above=0.0),
        metadata={str(k): str(v) for k, v in metadata.items()},
    )


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
    known = list(known)
    by_plain = {_plain(k): k for k in known}
    near = difflib.get_close_matches(_plain(key), by_plain, n=1, cutoff=0.0)
    return AceError(f"{where}: unknown key {key!r}; nearest known: {by_plain[near[0]]!r}; known: {', '.join(known)}")


def _canonical(where: str, mapping: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Mapping with known spellings of its keys (case, '-' and '_' do not matter)."""
    if not isinstance(mapping, Mapping):
        raise AceError(f"{where} must be a mapping, found {mapping!r}")
    spelling = {_plain(k): k for k in known}
    result: dict[str, Any] = {}
    for key, value in mapping.items():
        if _plain(key) not in spelling:
            raise _unknown(where, key, known)
        if spelling[_plain(key)] in result:
            raise AceError(f"{where}: {key!r} occurs twice")
        result[spelling[_plain(key)]] = value
    return result


def _section(name: str, given: Any, keys: tuple[str, ...], flat: dict[str, Any]) -> dict[Any, Any]:
    """Section as block key -> settings; settings without a block key, here or at the top, hold for ALL."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise AceError(f"{name} must be a mapping such as {{ALL: {{...}}}}, found {given!r}")
    section: dict[Any, Any] = {}
    plain = {_plain(k) for k in keys}
    everywhere = dict(flat)
    for key, value in given.items():
        if name == "functions" and _plain(key) == _LIMIT:
            section[_LIMIT] = value
        elif _plain(key) in plain and not isinstance(value, Mapping):
            everywhere.update(_canonical(name, {key: value}, keys))
        else:
            section[key] = _canonical(f"{name} {key}", value, keys)
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


# --- values -----------------------------------------------------------------------------------------------------------
def _number(where: str, value: Any, above: float | None = None, least: float | None = None) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise AceError(f"{where}: expected a finite number, found {value!r}")
    if (above is not None and number <= above) or (least is not None and number < least):
        bound = f"larger than {above:g}" if above is not None else f"at least {least:g}"
        raise AceError(f"{where}: must be {bound}, found {value!r}")
    return number


def _integer(where: str, value: Any, least: int) -> int:
    number = _number(where, value, least=least)
    if number != int(number):
        raise AceError(f"{where}: expected an integer, found {value!r}")
    return int(number)


def _sequence(where: str, value: Any) -> list:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise AceError(f"{where}: expected a list, found {value!r}")
    return list(value)


def _choice(where: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.0)[0]
        raise AceError(f"{where}: unknown value {value!r}; nearest known: {near!r}; known: {', '.join(known)}")
    return value


def _elements(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        given = given.split()
    elements = tuple(sorted(str(el) for el in _sequence("elements", given or [])))
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
        return _canonical("embedding", given, _EMBEDDING)
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
        parameters = given.get("fs_parameters")
        if parameters is None:
            count = _integer(f"{where}: ndensity", given.get("ndensity", 1), 1)
            if count > len(_EXPONENTS):
                raise AceError(f"{where}: give fs_parameters, {2 * count} numbers, for {count} densities")
            parameters = [x for exponent in _EXPONENTS[:count] for x in (1.0, exponent)]
        else:
            parameters = [_number(f"{where}: fs_parameters", x) for x in _sequence(where, parameters)]
            count = _integer(f"{where}: ndensity", given.get("ndensity", len(parameters) / 2), 1)
        limits = {
            key: _number(f"{where}: {key}", given[key], above=0.0)
            for key in ("rho_core_cut", "drho_core_cut") if key in given
        }  # fmt: skip
        npot = _choice(f"{where}: npot", given.get("npot", "FinnisSinclairShiftedScaled"), EMBEDDINGS)
        result[el] = Species(el, count, npot, tuple(parameters), **limits)
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
    if "rcut" not in given:
        raise AceError(f"{where}: no rcut; give it under bonds or as cutoff: 6.0")
    rcut = _number(f"{where}: rcut", given["rcut"], above=0.0)
    dcut = _number(f"{where}: dcut", given.get("dcut", 0.01), least=0.0)
    if dcut > rcut:
        raise AceError(f"{where}: dcut={dcut} is larger than rcut={rcut}")
    radial = _sequence(f"{where}: radparameters", given.get("radparameters", [5.25]))
    core = _sequence(f"{where}: core-repulsion", given.get("core-repulsion", [0.0, 0.0]))
    if not radial or len(core) != 2:
        raise AceError(f"{where}: radparameters needs at least one number, core-repulsion two (prefactor, lambda)")
    settings = BondSettings(
        rcut=rcut,
        radbase=_choice(f"{where}: radbase", given.get("radbase", "SBessel"), RADIAL_TYPES),
        radparameters=tuple(_number(f"{where}: radparameters", x) for x in radial),
        dcut=dcut,
        r_in=_number(f"{where}: r_in", given.get("r_in", 0.0), least=0.0),
        delta_in=_number(f"{where}: delta_in", given.get("delta_in", 0.0), least=0.0),
        core_repulsion=tuple(_number(f"{where}: core-repulsion", x) for x in core),
        inner_cutoff_type=_choice(
            f"{where}: inner_cutoff_type", given.get("inner_cutoff_type", "distance"), INNER_CUTOFFS
        ),
        cutoff_function=str(given.get("NameOfCutoffFunction", "cos")),
        **{key: _integer(f"{where}: {key}", given[key], 0) for key in ("nradbase", "nradmax", "lmax") if key in given},
    )
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
    lists = {}
    for key in ("nradmax_by_orders", "lmax_by_orders"):
        if key not in given:
            raise AceError(f"{where}: no {key}; give a list with one entry for each order, e.g. [8, 4, 2]")
    for key in ("nradmax_by_orders", "lmax_by_orders", "lmin_by_orders"):
        values = _sequence(f"{where}: {key}", given.get(key, [0] * len(lists.get("nradmax_by_orders", ()))))
        lists[key] = tuple(_integer(f"{where}: {key}", value, 0) for value in values)
    if len({len(values) for values in lists.values()}) != 1:
        detail = ", ".join(f"{key}={list(values)}" for key, values in lists.items() if key in given)
        raise AceError(f"{where}: the lists must be equally long: {detail}")
    start = _choice(f"{where}: coefs_init", given.get("coefs_init", "zero"), ("zero", "random"))
    return FunctionSettings(*lists.values(), random=start == "random")
