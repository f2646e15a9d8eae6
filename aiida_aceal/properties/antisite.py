"""Antisites of compounds: an atom of one element in the place of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase import Atoms

from aiida_aceal.common.errors import AceError

from .defects import attempt, common, formation, perfect, sites
from .engine import Relaxer
from .settings import DefectSettings
from .start import Start

NAME = "antisite"


def structures(settings: DefectSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``perfect`` and ``defect/NEW on SITE``."""
    elements = sorted(set(start.crystal.primitive.get_chemical_symbols()))
    if len(elements) < 2:
        raise AceError(f"{elements[0]} has no antisites: they need two elements")
    host = perfect(settings, start)
    frames = common(NAME, host, start)
    for site, atom in sites(start, host).items():
        for element in elements:
            if element != host.symbols[atom]:
                atoms = host.copy()
                atoms.symbols[atom] = element
                frames.append(attempt(NAME, f"defect/{element} on {site}", relaxer, atoms, settings))
    return frames


def analyse(settings: DefectSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Formation energy of each."""
    return formation(frames)
