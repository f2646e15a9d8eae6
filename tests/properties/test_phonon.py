"""Phonons against phonopy run directly, without symmetry."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.common.configurations import read_configurations, write_configurations
from aiida_aceal.properties import Engine, PropertiesSettings, compute_properties, property_numbers
from aiida_aceal.properties.crystal import centring, crystal

SMALL = {"supercell_length": 7.0, "mesh_length": 20.0, "band_points": 11}


def compute(atoms, **words):
    settings = PropertiesSettings(properties="phonon", phonon={**SMALL, **words})
    return compute_properties(settings, [atoms], Engine(EMT, "emt"))


@pytest.mark.parametrize("element", ["Cu", "Al"])
def test_frequencies_are_those_of_phonopy(element):
    """All displacements with both signs, no symmetry; compared at wave vectors that the supercell holds exactly."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    numbers, frames = compute(bulk(element))
    ours = numbers["phonon"]
    cell = frames[0]
    raw = PhonopyAtoms(symbols=list(cell.symbols), cell=cell.cell[:], scaled_positions=cell.get_scaled_positions())
    model = Phonopy(raw, supercell_matrix=np.diag([2, 2, 2]), primitive_matrix="F", is_symmetry=False)
    model.generate_displacements(distance=0.01, is_plusminus=True)
    sets = []
    for made in model.supercells_with_displacements:
        atoms = Atoms(made.symbols, cell=made.cell, scaled_positions=made.scaled_positions, pbc=True)
        atoms.calc = EMT()
        sets.append(atoms.get_forces())
    model.forces = np.array(sets)
    model.produce_force_constants()
    bands = ours["curves"]["bands"]
    assert bands["labels"][0] == "$\\Gamma$"
    at_x = bands["frequencies_THz"][0][-1]
    assert sorted(at_x) == pytest.approx(sorted(model.get_frequencies([0.5, 0.0, 0.5])), rel=5e-3)
    k = bands["labels"].index("$\\mathrm{L}$")
    at_l = next(part[-1] for part, label in zip(bands["frequencies_THz"], _ends(bands)) if label == bands["labels"][k])
    assert sorted(at_l) == pytest.approx(sorted(model.get_frequencies([0.5, 0.5, 0.5])), rel=5e-3)
    assert ours["max_frequency_THz"] >= max(at_x) - 1e-6
    assert not ours["imaginary"]
    assert len(frames) == 2


def _ends(bands):
    """Label at the end of each segment."""
    ends, position = [], 0
    for connected in bands["connected"]:
        ends.append(bands["labels"][position + 1])
        position += 1 if connected else 2
    return ends


def test_thermal_properties():
    """Heat capacity goes to 3 kB; entropy is the derivative of the free energy."""
    numbers, _ = compute(bulk("Cu"), temperatures=[995.0, 1000.0, 1005.0])
    thermal = numbers["phonon"]["thermal"]
    assert thermal["1000K"]["heat_capacity_kB_per_atom"] == pytest.approx(3.0, rel=0.01)
    slope = (thermal["1005K"]["free_energy_eV_per_atom"] - thermal["995K"]["free_energy_eV_per_atom"]) / 10
    assert -slope / 8.617333e-5 == pytest.approx(thermal["1000K"]["entropy_kB_per_atom"], rel=1e-3)


def test_an_unstable_phase_has_imaginary_modes_and_no_thermal_properties():
    numbers, _ = compute(bulk("Cu", "sc", a=2.4), quasi_harmonic=True)
    ours = numbers["phonon"]
    assert ours["imaginary"]
    assert ours["imaginary_share"] > 0
    assert "imaginary modes" in ours["thermal"]["error"]
    assert "error" in ours["quasi_harmonic"]


def test_thermal_expansion():
    numbers, frames = compute(bulk("Al", a=4.0), quasi_harmonic=True, temperatures=[300.0])
    found = numbers["phonon"]["quasi_harmonic"]["300K"]
    at_rest = frames[0].get_volume() / len(frames[0])
    assert 1.0 < found["volume_A3_per_atom"] / at_rest < 1.05
    assert 10 < found["volumetric_expansion_per_MK"] < 300
    assert len(frames) == 10


@pytest.mark.parametrize(
    ("atoms", "letter"),
    [
        (bulk("Cu"), "F"),
        (bulk("Fe", "bcc"), "I"),
        (bulk("Cu", "hcp", a=2.55, c=4.16), "P"),
        (bulk("As", "rhombohedral", a=4.13, alpha=54.1, basis=[[0.226] * 3, [-0.226] * 3]), "R"),
    ],
)
@pytest.mark.filterwarnings("error:primitive_matrix")
def test_centrings_are_those_that_phonopy_finds(atoms, letter):
    """The primitive cell of phonopy has as many atoms as that of the crystal, and nothing is warned of."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    found = crystal(atoms)
    cell = found.conventional
    assert centring(cell) == letter
    raw = PhonopyAtoms(symbols=list(cell.symbols), cell=cell.cell[:], scaled_positions=cell.get_scaled_positions())
    model = Phonopy(raw, supercell_matrix=np.eye(3, dtype=int), primitive_matrix=letter)
    assert len(model.primitive) == len(found.primitive)


def test_numbers_from_files_are_the_same(tmp_path):
    numbers, frames = compute(bulk("Cu"))
    write_configurations(tmp_path / "f.extxyz", frames)
    settings = PropertiesSettings(properties="phonon", phonon=SMALL)
    again = property_numbers(settings, read_configurations(tmp_path / "f.extxyz"))
    assert again["phonon"]["max_frequency_THz"] == pytest.approx(numbers["phonon"]["max_frequency_THz"], rel=1e-9)
    other = PropertiesSettings(properties="phonon", phonon={**SMALL, "supercell_length": 9.0})
    assert "settings of the phonons" in property_numbers(other, frames)["phonon"]["error"]
