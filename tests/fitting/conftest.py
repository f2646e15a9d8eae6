"""Structures labelled by a known ACE, so that a fit can be checked exactly."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator


@pytest.fixture(scope="session")
def random_structures():
    """Factory: small periodic random structures of the given elements, without labels."""

    def factory(count, elements=("Cu",), n=4, seed=0, cell=5.0):
        rng = np.random.default_rng(seed)
        out = []
        while len(out) < count:
            symbols = rng.choice(elements, n)
            atoms = Atoms(
                symbols, scaled_positions=rng.random((n, 3)), cell=np.eye(3) * cell + rng.normal(0, 0.3, (3, 3))
            )
            atoms.pbc = True
            if atoms.get_all_distances(mic=True)[np.triu_indices(n, 1)].min() > 1.6:
                out.append(atoms)
        return out

    return factory


@pytest.fixture(scope="session")
def label():
    """Label structures with an `AcePotential` (plus free-atom energies and noise); returns the list."""
    from aiida_aceal.ace import AceModel

    def factory(structures, potential, free=None, noise=0.0, seed=0):
        rng = np.random.default_rng(seed)
        model = AceModel(potential, threads=1)
        out = []
        for atoms in structures:
            atoms = atoms.copy()
            r = model.evaluate(atoms)
            energy = r.energy + sum((free or {}).get(s, 0.0) for s in atoms.get_chemical_symbols())
            atoms.calc = SinglePointCalculator(
                atoms,
                energy=energy + noise * rng.normal(),
                forces=r.forces + noise * rng.normal(size=r.forces.shape),
                stress=r.stress,
            )
            out.append(atoms)
        return out

    return factory
