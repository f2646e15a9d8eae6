"""Core repulsion set from the shortest distances in the data, as pacemaker's ``repulsion: auto``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from aiida_aceal.ace import AcePotential
from aiida_aceal.ace.neighbors import build_neighbors

DELTA_IN = 0.1  # width of the change from ACE to ZBL, Angstrom
UNSEEN = 0.8  # r_in of pairs that never meet in the data, in units of the sum of their covalent radii


def shortest_distances(structures: Iterable[Atoms], cutoff: float) -> dict[tuple[str, str], float]:
    """Shortest distance (Angstrom) of each pair of elements (sorted names) that comes closer than ``cutoff``."""
    shortest: dict[tuple[str, str], float] = {}
    for atoms in structures:
        nb = build_neighbors(atoms, cutoff)
        i = np.repeat(np.arange(len(atoms)), np.diff(nb.first))
        if len(i) == 0:
            continue
        r = np.linalg.norm(nb.positions[nb.neighbors] - nb.positions[i], axis=1)
        z = np.sort(np.stack([atoms.numbers[i], atoms.numbers[nb.owner[nb.neighbors]]], axis=1), axis=1)
        code = z[:, 0] * 1000 + z[:, 1]
        for c in np.unique(code):
            where = np.flatnonzero(code == c)[np.argmin(r[code == c])]
            symbols = atoms.symbols
            pair = tuple(sorted((symbols[i[where]], symbols[nb.owner[nb.neighbors[where]]])))
            shortest[pair] = min(shortest.get(pair, np.inf), float(r[where]))
    return shortest


def with_automatic_repulsion(potential: AcePotential, structures: Iterable[Atoms]) -> AcePotential:
    """Copy of ``potential`` that turns into ZBL below the shortest distance of each pair in ``structures``.

    Every bond gets ``inner_cutoff_type: zbl`` with r_in = shortest distance and delta_in = 0.1 Angstrom: the ACE is
    untouched at all distances of the data and gone 0.1 Angstrom below. Pairs that never meet within the cutoff get 0.8
    times the sum of their covalent radii.
    """
    shortest = shortest_distances(structures, potential.cutoff)
    bonds = {}
    for (a, b), bond in potential.bonds.items():
        r_in = shortest.get(tuple(sorted((a, b))))
        if r_in is None:
            r_in = UNSEEN * float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])
        bonds[a, b] = replace(
            bond, inner_cutoff_type="zbl", r_in=r_in, delta_in=min(DELTA_IN, 0.5 * r_in), core_repulsion=(1.0, 1.0)
        )
    return replace(potential, bonds=bonds)
