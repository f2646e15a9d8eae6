"""Smooth coordination number: how filled the neighbourhood of an atom is, from distances alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.kernels import njit

from .neighbors import build_neighbors


class _Potential(Protocol):
    elements: tuple[str, ...]
    bonds: dict
    cutoff: float


@njit(nogil=True, cache=True)
def coordination_numbers(rcut, ids, species, positions, first, neighbors, out):
    """``out[k] = sum_j (1 - (r_ij / rcut)^2)^4`` over the neighbours j of atom ``ids[k]`` within the pair's cutoff.

    1 for a neighbour at no distance, 0 with three derivatives at the cutoff. ``rcut`` [S]: cutoff by the neighbour's
    species (central atoms are all of one). Zero if and only if there is no neighbour.
    """
    for k in range(len(ids)):
        i = ids[k]
        total = 0.0
        for m in range(first[i], first[i + 1]):
            j = neighbors[m]
            r2 = 0.0
            for axis in range(3):
                d = positions[j, axis] - positions[i, axis]
                r2 += d * d
            limit = rcut[species[j]] * rcut[species[j]]
            if r2 < limit:
                x = 1.0 - r2 / limit
                total += x * x * x * x
        out[k] = total


def coordination_of(atoms: Atoms, potential: _Potential) -> np.ndarray:
    """Smooth coordination number [n] of each atom, by the cutoffs of a potential's pairs; nothing is evaluated.

    :raises AceError: an element that the potential does not know, or positions that are not finite.
    """
    elements = list(potential.elements)
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements))
    if unknown:
        raise AceError(f"element {unknown[0]} of {atoms.get_chemical_formula()} is not in the potential")
    nb = build_neighbors(atoms, potential.cutoff)
    own = np.array([elements.index(s) for s in atoms.get_chemical_symbols()], dtype=np.int32)
    found = np.zeros(len(atoms))
    for s, element in enumerate(elements):
        bonds = [potential.bonds.get((element, other)) for other in elements]
        rcut = np.array([0.0 if bond is None else bond.rcut for bond in bonds])
        ids = np.flatnonzero(own == s)
        part = np.zeros(len(ids))
        coordination_numbers(rcut, ids, own[nb.owner], nb.positions, nb.first, nb.neighbors, part)
        found[ids] = part
    return found
