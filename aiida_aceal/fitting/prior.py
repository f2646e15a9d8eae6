"""Priors of linear fits: smoothness of the functions, and bounded energies at compositions outside of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from aiida_aceal.ace import AcePotential

from .settings import RegularizationSettings
from .solvers import QrAccumulator

if TYPE_CHECKING:
    from .job import Prepared

STRAINS = (0.95, 1.05, 1.15)  # factors of all lengths, beside that of the covalent radii
MOST_STRUCTURES, MOST_ATOMS = 64, 2000  # training structures, and their atoms, that the bound is taken from


def smoothness(potential: AcePotential, settings: RegularizationSettings) -> np.ndarray:
    """Relative penalties [Ktot] in the columns of the linear system; 1 for functions of rank 1 with n = 1.

    rank^c (1 + sum_t [(n_t - 1)^a + l_t^b]) with the exponents of ``settings``: algebraic smoothness priors as in
    W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023). The strong growth with rank was chosen by held-out errors of
    fits to few structures; with many structures the exponents hardly matter.
    """
    values = []
    for el in potential.elements:
        for f in potential.functions(el):
            if settings.prior == "flat":
                values.append(1.0)
                continue
            rough = sum((n - 1) ** settings.n_power + l**settings.l_power for n, l in zip(f.ns, f.ls))
            values.append((1.0 + rough) * f.rank**settings.rank_power)
    return np.array(values)


def radial_smoothness(shape: tuple[int, int, int], settings: RegularizationSettings) -> np.ndarray:
    """Relative penalties [nradmax, lmax + 1, nradbase] of radial coefficients: base function k as n above."""
    _, l_count, k_count = shape
    if settings.prior == "flat":
        return np.ones(shape)
    rough = np.arange(l_count)[:, None] ** settings.l_power + np.arange(k_count) ** settings.n_power
    return np.broadcast_to(1.0 + rough, shape)


def composition_bound(job: Prepared) -> np.ndarray | None:
    """P [m, Ktot] of the prior that the ACE energy per atom of a structure of another composition is P c ~ N(0, 1).

    The smoothness prior acts on functions one by one, at their size on the data: it does not know that two large
    contributions which cancel at the compositions of the data need not cancel elsewhere (1e4 eV/atom for Al in Al-Ni
    that were trained at up to half of Al). Here the energy per atom, relative to free atoms, of training structures
    with their elements exchanged is held to ``composition_bound`` (10 eV/atom: more than the cohesive energy of any
    element). Its weight beside the data is (noise of the fit / bound)^2, so that it acts where data are silent.

    None for one element, without the bound, and where the elements have no functions.
    """
    size, pot = job.settings.regularization.composition_bound, job.potential
    elements = [el for k, el in enumerate(pot.elements) if job.train.counts[:, k].any()]
    if size is None or len(elements) < 2:
        return None
    rows = [
        job.model.linear_system(atoms, forces=False, virial=False).energy / (len(atoms) * size)
        for atoms in exchanged(job.train.structures, elements)
    ]
    if len(rows) <= 2 * len(rows[0]):
        return np.array(rows)
    accumulator = QrAccumulator(len(rows[0]))
    accumulator.add(np.array(rows))
    return accumulator.factor()


def exchanged(structures: Sequence[Atoms], elements: Sequence[str]) -> Iterator[Atoms]:
    """Structures with other elements in the same places, scaled by their covalent radii and by `STRAINS`.

    Of each structure: all atoms of one element, for every element, and its own composition with the elements moved on
    by one. The structures are taken evenly from the set, at most `MOST_STRUCTURES` with `MOST_ATOMS` atoms.
    """
    following = dict(zip(elements, [*elements[1:], elements[0]]))
    atoms_so_far = 0
    for k in np.unique(np.linspace(0, len(structures) - 1, MOST_STRUCTURES).astype(int)):
        symbols = structures[k].get_chemical_symbols()
        if atoms_so_far and atoms_so_far + len(symbols) > MOST_ATOMS:
            continue
        atoms_so_far += len(symbols)
        for new in [*([el] * len(symbols) for el in elements), [following.get(s, s) for s in symbols]]:
            for strain in STRAINS:
                atoms = Atoms(new, structures[k].positions, cell=structures[k].cell, pbc=structures[k].pbc)
                factor = strain * _mean_radius(new) / _mean_radius(symbols)
                atoms.set_cell(atoms.cell * factor)
                atoms.positions *= factor
                yield atoms


def _mean_radius(symbols: Sequence[str]) -> float:
    return float(np.mean([covalent_radii[atomic_numbers[s]] for s in symbols]))
