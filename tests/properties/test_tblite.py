"""A crystal by tight binding: our numbers against ASE and phonopy run directly on the same calculator."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.eos import EquationOfState
from ase.optimize import BFGS
from ase.units import GPa

from aiida_aceal.properties import (
    Engine,
    PropertiesSettings,
    compute_properties,
    eos_structures,
    reference_lattices,
)

tblite = pytest.importorskip("tblite.ase", reason="pip install 'aiida-aceal[xtb]'")
pytestmark = pytest.mark.long


def xtb():
    return tblite.TBLite(method="GFN1-xTB", verbosity=0, accuracy=0.01)


def strained(cell, j, amount):
    """The cell under one engineering strain, positions relaxed."""
    tensor = np.zeros((3, 3))
    a, b = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[j]
    tensor[a, b] += amount / 2
    tensor[b, a] += amount / 2
    work = cell.copy()
    work.set_cell(work.cell @ (np.eye(3) + tensor), scale_atoms=True)
    work.calc = xtb()
    BFGS(work, logfile=None).run(fmax=1e-3, steps=50)
    return work


@pytest.fixture(scope="module")
def diamond():
    """Numbers and structures; with the gamma point only, cells of other sizes would be other materials."""
    settings = PropertiesSettings(
        properties="eos,elastic,phonon", relaxation={"fmax": 1e-3},
        eos={"volume_range": 0.02, "cell_length": 3.0, "points": 5}, elastic={"cell_length": 3.0},
        phonon={"supercell_length": 3.0, "mesh_length": 15.0, "band_points": 3}, relax_start=False,
    )  # fmt: skip
    engine, atoms = Engine(xtb, "tblite"), [bulk("C", a=3.63)]
    for _ in range(4):
        frames = engine.label(eos_structures(settings, atoms))
        atoms, _, again = reference_lattices(settings, atoms, frames)
        if not again:
            break
    return compute_properties(settings, atoms, engine)


def case(diamond, name, word):
    return next(f for f in diamond[1] if f.info["property"] == name and f.info["case"] == word)


def test_equation_of_state(diamond):
    """Another equation, other volumes."""
    cell = case(diamond, "eos", "diamond/2")
    found = []
    for scale in np.linspace(0.994, 1.008, 6):
        work = cell.copy()
        work.set_cell(work.cell * scale, scale_atoms=True)
        work.calc = xtb()
        found.append((work.get_volume() / len(work), work.get_potential_energy() / len(work)))
    volume, _, modulus = EquationOfState(*np.array(found).T, eos="vinet").fit()
    ours = diamond[0]["eos"]["diamond"]
    assert ours["volume_A3_per_atom"] == pytest.approx(volume, rel=5e-3)
    assert ours["bulk_modulus_GPa"] == pytest.approx(modulus / GPa, rel=5e-3)


@pytest.mark.parametrize(("name", "j"), [("C11", 0), ("C44", 3)])
def test_elastic_constants_from_energies(diamond, name, j):
    """Ours come from stresses."""
    cell = case(diamond, "elastic", "cell")
    amounts = np.linspace(-0.01, 0.01, 5)
    energies = [strained(cell, j, amount).get_potential_energy() for amount in amounts]
    curvature = 2 * np.polyfit(amounts, energies, 4)[2] / cell.get_volume() / GPa
    # second derivatives of the energy are derivatives of the stress where there is none
    assert abs(diamond[0]["elastic"]["residual_pressure_GPa"]) < 0.001 * curvature
    assert diamond[0]["elastic"]["independent_GPa"][name] == pytest.approx(curvature, rel=5e-3)


def test_phonons_without_symmetry(diamond):
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = case(diamond, "phonon", "0/cell")
    raw = PhonopyAtoms(symbols=list(cell.symbols), cell=cell.cell[:], scaled_positions=cell.get_scaled_positions())
    model = Phonopy(raw, supercell_matrix=np.eye(3, dtype=int), primitive_matrix="F", is_symmetry=False)
    model.generate_displacements(distance=0.01, is_plusminus=True)
    sets = []
    for made in model.supercells_with_displacements:
        atoms = Atoms(made.symbols, cell=made.cell, scaled_positions=made.scaled_positions, pbc=True, calculator=xtb())
        sets.append(atoms.get_forces())
    model.forces = np.array(sets)
    model.produce_force_constants()
    at_x = sorted(diamond[0]["phonon"]["curves"]["bands"]["frequencies_THz"][0][-1])
    assert at_x == pytest.approx(sorted(model.get_frequencies([0.5, 0.0, 0.5])), rel=5e-3)
