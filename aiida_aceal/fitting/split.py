"""Sets of structures apart: a part is held out by origin, so that near copies do not stand on both sides.

Frames of one trajectory, or rattled copies of one crystal, are alike: a set held out of them at random measures
memory, not prediction. Structures of one origin therefore go to one side; of an origin larger than the part allows,
runs of structures that follow one another do.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError

#: structures of a large origin that stay together
BLOCK = 5
#: fewer structures than these tell nothing about when to stop
MIN_STOPPING = 5
#: info entries that name a kind, beside the source
_KINDS = ("group", "config_type", "kind", "label", "explorer", "walker")


def origin(atoms: Atoms) -> str:
    """Where a structure comes from: ``info["origin"]``, else source (without the frame's number), kind, formula."""
    if "origin" in atoms.info:
        return str(atoms.info["origin"])
    source = re.sub(r"[#/]\d+$", "", str(atoms.info.get("source", "")))
    parts = [source, *(str(atoms.info[key]) for key in _KINDS if key in atoms.info), atoms.get_chemical_formula()]
    return " ".join(parts)


def split_by_origin(structures: Sequence[Atoms], fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Indices of the structures that stay, and of about ``fraction`` of them that are held out; both ascending.

    The order in which origins are held out follows from their names and ``seed``: a set that has grown holds out much
    the same structures. Equal structures go to one side; free atoms stay, and so does the last structure with an
    element.

    :raises AceError: ``fraction`` not between 0 and 1, or nothing can be held out
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
        raise AceError(f"fraction: must lie between 0 and 1, found {fraction!r}")
    units, divisible = _units(structures, max(1, round(fraction * len(structures)) // 2))
    elements = [set(atoms.get_chemical_symbols()) for atoms in structures]
    left = Counter(element for found in elements for element in found)
    held: list[int] = []
    missing = max(1, round(fraction * len(structures)))
    for unit in sorted(units, key=lambda name: _rank(name, seed)):
        members = units[unit][:missing] if unit in divisible else units[unit]
        if len(members) > missing or any(len(structures[k]) == 1 for k in members):
            continue
        lost = Counter(element for k in members for element in elements[k])
        if any(left[element] <= count for element, count in lost.items()):
            continue
        left -= lost
        held += members
        missing -= len(members)
    if not held:
        raise AceError(
            f"no part of {len(structures)} structures can be held out: every one is a free atom, a copy of most of the "
            "others, or the last one with an element; give a separate set"
        )
    out = set(held)
    return [k for k in range(len(structures)) if k not in out], sorted(held)


def split_roles(structures: Sequence[Atoms], fractions: Mapping[str, float], seed: int) -> dict[str, list[int]]:
    """Indices for ``training`` and for each role of ``fractions`` (of the whole), by origin.

    :raises AceError: fractions that leave nothing to train on, or structures that cannot be split
    """
    if sum(fractions.values()) >= 1:
        raise AceError(f"fractions {dict(fractions)} leave nothing for training; their sum must be below 1")
    left, found = list(range(len(structures))), {}
    for role in sorted(fractions):
        share = fractions[role] * len(structures) / len(left)
        kept, held = split_by_origin([structures[k] for k in left], share, seed)
        found[role] = [left[k] for k in held]
        left = [left[k] for k in kept]
    return {"training": left, **found}


def stopping_split(structures: Sequence[Atoms], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """As :func:`split_by_origin`; nothing is held out where that would be fewer than :data:`MIN_STOPPING`."""
    everything = list(range(len(structures)))
    if fraction * len(structures) < MIN_STOPPING:
        return everything, []
    try:
        return split_by_origin(structures, fraction, seed)
    except AceError:
        return everything, []


def _units(structures: Sequence[Atoms], largest: int) -> tuple[dict[str, list[int]], set[str]]:
    """Structures that stay together, by name; of origins with more than ``largest`` structures blocks are made.

    The second result names the blocks that can be cut again: those of large origins, without copies in them.
    """
    origins = [origin(atoms) for atoms in structures]
    sizes, seen = Counter(origins), Counter()
    units: dict[str, list[int]] = {}
    contents: dict[bytes, str] = {}
    large, with_copies = set(), set()
    for k, (atoms, name) in enumerate(zip(structures, origins)):
        content = _content(atoms)
        if content not in contents:
            block = 0 if sizes[name] <= largest else seen[name] // min(BLOCK, largest)
            seen[name] += 1
            contents[content] = f"{name} {block}"
            if sizes[name] > largest:
                large.add(contents[content])
        else:
            with_copies.add(contents[content])
        units.setdefault(contents[content], []).append(k)
    return units, large - with_copies


def _content(atoms: Atoms) -> bytes:
    arrays = (atoms.numbers, np.round(atoms.positions, 6) + 0.0, np.round(atoms.cell.array, 6) + 0.0)
    return b"".join(array.tobytes() for array in arrays)


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
