"""Labels under other names than ASE's: the usual names, names that are given, and what is refused."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from aiida_aceal.common.configurations import get_labels, read_configurations
from aiida_aceal.common.errors import AceError

RNG = np.random.default_rng(0)
FORCES = RNG.normal(size=(4, 3))
STRESS = RNG.normal(size=6)
MATRIX = STRESS[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def foreign(**labels):
    """A crystal whose labels stand where ASE leaves unknown names."""
    atoms = bulk("Cu", cubic=True)
    for name, value in labels.items():
        if np.shape(value) == (4, 3):
            atoms.arrays[name] = value
        else:
            atoms.info[name] = value
    return atoms


def read(tmp_path, frames, **keys):
    write(tmp_path / "a.extxyz", frames)
    said = []
    found = read_configurations(tmp_path / "a.extxyz", **keys, say=said.append)
    return found, [line.removeprefix(f"{tmp_path / 'a.extxyz'}: ") for line in said]


@pytest.mark.parametrize(
    ("energy", "forces", "stress"),
    [
        ("REF_energy", "REF_forces", "REF_stress"),
        ("dft_energy", "dft_force", "dft_stress"),
        ("DFT_energy", "DFT_forces", "DFT_stress"),
        ("energies", "force", "QM_stress"),
        ("total_energy", "forces_ref", "stress_ref"),
    ],
)
def test_usual_names_are_taken_and_said(tmp_path, energy, forces, stress):
    (atoms,), said = read(tmp_path, [foreign(**{energy: -3.5, forces: FORCES, stress: MATRIX.ravel()})])
    found = get_labels(atoms)
    assert found[0] == -3.5
    assert found[1] == pytest.approx(FORCES, abs=1e-7)
    assert found[2] == pytest.approx(STRESS, abs=1e-7)
    assert said == [f"energy from {energy}, forces from {forces}, stress from {stress}"]


@pytest.mark.parametrize("name", ["virial", "REF_virial", "dft_virials"])
def test_virials_become_stresses(tmp_path, name):
    volume = bulk("Cu", cubic=True).get_volume()
    (atoms,), said = read(tmp_path, [foreign(REF_energy=1.0, **{name: -MATRIX * volume})])
    assert get_labels(atoms)[2] == pytest.approx(STRESS, abs=1e-6)
    assert said == [f"energy from REF_energy, stress from -{name}/volume"]
    cluster = foreign(REF_energy=1.0, REF_virial=MATRIX.ravel())
    cluster.set_cell(None)
    cluster.pbc = False
    (atoms,), _ = read(tmp_path, [cluster])
    assert get_labels(atoms)[2] is None  # nothing to divide by


def test_labels_in_the_usual_place_are_not_worth_a_line(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=FORCES, free_energy=0.9)
    (back,), said = read(tmp_path, [atoms])
    assert get_labels(back)[0] == 1.0
    assert said == []


def test_mixed_names_are_counted(tmp_path):
    plain = bulk("Cu", cubic=True)
    plain.calc = SinglePointCalculator(plain, energy=1.0)
    found, said = read(tmp_path, [foreign(REF_energy=2.0), plain, foreign(REF_energy=3.0)])
    assert [get_labels(atoms)[0] for atoms in found] == [2.0, 1.0, 3.0]
    assert said == ["energy from REF_energy (2) and ASE's usual place (1)"]


def test_free_energies_and_sums_of_atoms_are_the_last_resort(tmp_path):
    (atoms,), said = read(tmp_path, [foreign(free_energy=-2.0)])
    assert (get_labels(atoms)[0], said) == (-2.0, ["energy from free_energy"])
    atoms = bulk("Cu", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energies=np.array([1.0, 2.0, 3.0, 4.0]))
    (atoms,), said = read(tmp_path, [atoms])
    assert (get_labels(atoms)[0], said) == (10.0, ["energy from the sum of energies"])


def test_two_values_are_refused_until_one_is_named(tmp_path):
    frames = [foreign(REF_energy=1.0, dft_energy=1.0), foreign(REF_energy=1.0, dft_energy=2.0)]
    words = "the energy stands under 'REF_energy' and, with other values, under 'dft_energy'; say which one is meant"
    with pytest.raises(AceError, match=f"structure 1: {words}: energy_key: dft_energy"):
        read(tmp_path, frames)
    found, said = read(tmp_path, frames, energy_key="dft_energy")
    assert [get_labels(atoms)[0] for atoms in found] == [1.0, 2.0]
    assert said == []
    plain = foreign(REF_energy=1.0)
    plain.calc = SinglePointCalculator(plain, energy=5.0)
    with pytest.raises(AceError, match=r"'energy' and, with other values, under 'REF_energy'.*energy_key: REF_energy"):
        read(tmp_path, [plain])
    assert [get_labels(read(tmp_path, [plain], energy_key=key)[0][0])[0] for key in ("energy", "REF_energy")] == [5, 1]
    both = foreign(REF_forces=FORCES, forces_dft=2 * FORCES)
    with pytest.raises(AceError, match="forces_key: forces_dft"):
        read(tmp_path, [both])


def test_what_is_no_label_is_left_alone(tmp_path):
    """Words, energies that a potential of ours predicted beside, and sets that we wrote ourselves."""
    (atoms,), said = read(tmp_path, [foreign(energy_dft="PBE", reference_energy=3.0, MACE_energy=1.0)])
    assert (get_labels(atoms)[0], said) == (None, [])
    ours = foreign(REF_energy=1.0, aceal_hash="ab")
    ours.calc = SinglePointCalculator(ours, energy=5.0)
    (atoms,), said = read(tmp_path, [ours])
    assert (get_labels(atoms)[0], said) == (5.0, [])


def test_numbers_of_another_size_are_no_labels_unless_named(tmp_path):
    frames = [foreign(REF_stress=np.zeros(4), REF_energy=np.zeros(2), REF_virial="none")]
    (atoms,), said = read(tmp_path, frames)
    assert (get_labels(atoms), said) == ((None, None, None), [])
    with pytest.raises(AceError, match="structure 0: stress under the key 'REF_stress' must have 6 or 9 numbers"):
        read(tmp_path, frames, stress_key="REF_stress")
