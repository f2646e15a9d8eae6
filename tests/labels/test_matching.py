"""Labels that come back are laid on the structures that went out, or refused with the reason."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from aiida_aceal.common.configurations import get_labels
from aiida_aceal.common.errors import AceError
from aiida_aceal.exploration.formats import read_files
from aiida_aceal.labels.handout import ManualLabelSettings, incar_text, kpoints_text, write_handout
from aiida_aceal.labels.matching import match_labels


def labelled(atoms, **changes):
    """A copy with labels of EMT."""
    work = atoms.copy()
    work.calc = EMT()
    results = {"energy": work.get_potential_energy(), "forces": work.get_forces()}
    if all(work.pbc):
        results["stress"] = work.get_stress()
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, **{**results, **changes})
    return copy


def permuted(atoms, order):
    """The frame with its atoms, and forces, in another order."""
    energy, forces, stress = get_labels(atoms)
    copy = atoms[order]
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces[order], stress=stress)
    return copy


@pytest.fixture
def alloys():
    """Three rattled CuNi cells whose elements alternate."""
    found = []
    for seed in range(3):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        atoms.symbols = "CuNi" * 4
        atoms.rattle(0.1, seed=seed)
        found.append(atoms)
    return found


def placed(frames):
    return [(f"file, structure {k}", frame) for k, frame in enumerate(frames)]


def test_order_of_frames_and_atoms_and_images_are_free(alloys):
    frames = [labelled(atoms) for atoms in reversed(alloys)]
    order = np.array([7, 0, 3, 2, 1, 6, 5, 4])
    frames[0] = permuted(frames[0], order)
    frames[0].positions[2] += frames[0].cell[0]  # another image
    found = match_labels(alloys, placed(frames))
    assert sorted(found.labelled) == [0, 1, 2]
    for index, atoms in enumerate(alloys):
        right = labelled(atoms)
        energy, forces, stress = get_labels(found.labelled[index])
        assert energy == pytest.approx(right.get_potential_energy(), abs=1e-10)
        assert np.allclose(forces, right.get_forces(), atol=1e-10)
        assert np.allclose(stress, right.get_stress(), atol=1e-10)
        assert np.array_equal(found.labelled[index].positions, atoms.positions)
    assert found.places[2] == "file, structure 0"


def test_a_molecule_may_come_back_in_a_box(tmp_path):
    water = molecule("CH3CH2OH")
    frame = labelled(water)
    moved = frame.copy()
    moved.set_cell([12.0, 12.0, 12.0])
    moved.pbc = True
    moved.positions += [-0.5, 3.0, 8.0]
    moved.wrap()  # broken by the boundary
    moved.calc = SinglePointCalculator(moved, energy=1.5, forces=frame.get_forces(), stress=np.zeros(6))
    found = match_labels([water], placed([moved])).labelled[0]
    assert found.get_potential_energy() == 1.5
    assert np.allclose(found.get_forces(), frame.get_forces())
    assert "stress" not in found.calc.results


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.set_cell(f.cell * 1.01, scale_atoms=True), ["structure 0", "cell differs by", "--skip-unknown"]),
        (lambda f: f.positions.__setitem__((0, 0), f.positions[0, 0] + 0.01), ["number 1", "an atom is 0.01 A away"]),
        (lambda f: f.symbols.__setitem__(0, "Ag"), ["no structure has these atoms", "3 structures"]),
    ],
)
def test_a_structure_that_did_not_go_out_is_refused(alloys, change, words):
    frame = labelled(alloys[1])
    change(frame)
    with pytest.raises(AceError) as caught:
        match_labels(alloys, placed([frame]))
    assert all(word in str(caught.value) for word in words), caught.value
    found = match_labels(alloys, placed([frame, labelled(alloys[2])]), skip_unknown=True)
    assert sorted(found.labelled) == [2]
    assert found.skipped == ["file, structure 0"]


def test_labels_must_be_whole_and_of_one_mind(alloys):
    bare = alloys[0].copy()
    bare.calc = SinglePointCalculator(bare, energy=1.0)
    with pytest.raises(AceError, match="has no forces"):
        match_labels(alloys, placed([bare]))
    with pytest.raises(AceError, match="energy not finite"):
        match_labels(alloys, placed([labelled(alloys[0], energy=np.nan)]))
    same = [labelled(alloys[0]), labelled(alloys[0])]
    assert len(match_labels(alloys, placed(same)).labelled) == 1
    with pytest.raises(AceError, match="structure 0 and file, structure 1 label the same structure differently"):
        match_labels(alloys, placed([labelled(alloys[0]), labelled(alloys[0], energy=3.0)]))


def test_files_go_out_and_come_back(alloys, tmp_path):
    settings = ManualLabelSettings(poscar=True, incar={"encut": 400, "lreal": False}, kpoints_spacing=0.05)
    box = Atoms("Cu2", [[0, 0, 0], [2.2, 0, 0]])  # without a cell: no POSCAR
    files = write_handout(tmp_path, [*alloys, box], settings)
    assert len(files) == 1 + 3 * 3
    assert (tmp_path / "00000" / "INCAR").read_text() == "ENCUT = 400\nLREAL = .FALSE.\n"
    assert (tmp_path / "00000" / "KPOINTS").read_text().splitlines()[3] == "3 6 6"
    poscars = [labelled(read(tmp_path / f"{k:05d}" / "POSCAR")) for k in range(3)]
    assert poscars[0].get_chemical_symbols() == ["Cu"] * 4 + ["Ni"] * 4
    write(tmp_path / "back.extxyz", [*poscars, labelled(box)], format="extxyz")
    frames = read_files(tmp_path / "back.extxyz")
    found = match_labels([*alloys, box], placed(frames)).labelled
    assert np.allclose(found[1].get_forces(), labelled(alloys[1]).get_forces(), atol=1e-6)
    assert sorted(found) == [0, 1, 2, 3]


def test_texts_of_vasp_files():
    assert incar_text({"magmom": [1.0, 2], "lasph": True}) == "MAGMOM = 1.0 2\nLASPH = .TRUE.\n"
    slab = bulk("Cu", cubic=True)
    slab.pbc = [True, True, False]
    assert kpoints_text(slab, 0.1).splitlines()[1:] == ["0", "Gamma", "3 3 1", "0 0 0"]
