"""A copper potential fitted to EMT, once."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


@pytest.fixture(scope="session")
def copper_files(tmp_path_factory):
    """Folder with pot.yaml (EMT copper), set.asi and cu.extxyz (the primitive cell)."""
    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.common.configurations import write_configurations
    from aiida_aceal.fitting import fit_linear
    from aiida_aceal.uncertainty import build_active_set

    rng = np.random.default_rng(0)
    frames = []
    for k in range(40):
        atoms = bulk("Cu", cubic=True, a=3.59) * ((2, 2, 2) if k % 2 else (1, 1, 1))
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    basis = build_potential(
        {"elements": ["Cu"], "cutoff": 5.5, "nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 1]}
    )
    potential = fit_linear(basis, frames).potential
    folder = tmp_path_factory.mktemp("copper")
    potential.write(folder / "pot.yaml")
    build_active_set(AceModel(potential), frames).save(folder / "set.asi")
    write_configurations(folder / "cu.extxyz", [bulk("Cu", a=3.6)])
    return folder
