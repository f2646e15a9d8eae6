"""Interstitials in the largest voids of the crystal: relaxed formation energies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError

from .crystal import Crystal
from .defects import attempt, common, formation, perfect
from .engine import Relaxer
from .settings import DefectSettings
from .start import Start

NAME = "interstitial"


def structures(settings: DefectSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``perfect`` and ``defect/ELEMENT:NUMBER``, number 1 where there is most room."""
    host = perfect(settings, start)
    frames = common(NAME, host, start)
    for k, (position, _) in enumerate(voids(start.crystal)[: settings.max_sites]):
        for element in sorted(set(host.get_chemical_symbols())):
            atoms = host + Atoms(element, [position])
            # half a hundredth of an Angstrom off the site, so that a saddle by symmetry is left
            atoms.positions[-1] += (0.005, 0.003, 0.002)
            frames.append(attempt(NAME, f"defect/{element}:{k + 1}", relaxer, atoms, settings))
    return frames


def analyse(settings: DefectSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Formation energy by element and site, and the lowest of each element (``ELEMENT``)."""
    result = formation(frames)
    lowest: dict[str, Any] = {}
    for site, data in result.items():
        element = site.split(":")[0]
        if "error" in data:
            continue
        if element not in lowest or data["formation_energy_eV"] < lowest[element]["formation_energy_eV"]:
            lowest[element] = {**data, "site": site}
    return {**lowest, **result}


def voids(crystal: Crystal) -> list[tuple[np.ndarray, float]]:
    """Inequivalent voids of the conventional cell (position, distance of the nearest atom), the roomiest first.

    They are vertices of the Voronoi cells of the atoms.

    :raises AceError: no void
    """
    import spglib
    from scipy.spatial import Voronoi, cKDTree

    cell = crystal.conventional
    around = cell * (3, 3, 3)
    corner = cell.cell.sum(axis=0)
    vertices = Voronoi(around.positions).vertices
    scaled = np.linalg.solve(cell.cell[:].T, (vertices - corner).T).T
    inside = vertices[np.all((scaled > -1e-6) & (scaled < 1 - 1e-6), axis=1)] - corner
    room = cKDTree(around.positions - corner).query(inside)[0]
    order = np.lexsort([*np.round(inside.T[::-1], 5), -np.round(room, 4)])
    raw = (cell.cell[:], cell.get_scaled_positions(), cell.numbers)
    operations = spglib.get_symmetry(raw, symprec=1e-3)
    found: list[tuple[np.ndarray, float]] = []
    for k in order:
        place = np.linalg.solve(cell.cell[:].T, inside[k])
        images = operations["rotations"] @ place + operations["translations"]
        if not any(_near(images, other, cell) for other, _ in found):
            found.append((inside[k], float(room[k])))
    if not found:
        raise AceError(f"{crystal.name}: no voids were found")
    return found


def _near(images: np.ndarray, position: np.ndarray, cell: Atoms) -> bool:
    apart = images - np.linalg.solve(cell.cell[:].T, position)
    return bool(np.linalg.norm((apart - np.rint(apart)) @ cell.cell[:], axis=1).min() < 0.05)
