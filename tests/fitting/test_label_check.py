"""Labels that cannot be right, beside the potential in force or beside each other."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.ace import build_potential
from aiida_aceal.fitting import FitSettings, fit
from aiida_aceal.fitting.label_check import left_out_energies, wrong_labels
from aiida_aceal.fitting.labels import collect_labels

BASIS = {"elements": ["Al", "Cu"], "cutoff": 5.0, "nradmax_by_orders": [5, 2], "lmax_by_orders": [0, 2]}


@pytest.fixture(scope="module")
def basis():
    return build_potential(BASIS)


def labelled(atoms):
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy() - 1000.0 * len(atoms), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def structures(count, seed=0, repeat=2, spread=0.06, amplitude=0.12):
    """Cells of 32 atoms: Cu-Al of any composition, shaken, pressed and stretched."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Cu", "fcc", a=3.8 * rng.uniform(1 - spread, 1 + spread), cubic=True) * ((repeat,) * 3)
        atoms.symbols[rng.random(len(atoms)) < rng.random()] = "Al"
        atoms.positions += rng.normal(0.0, amplitude * rng.random(), atoms.positions.shape)
        found.append(labelled(atoms))
    return found


def shifted(frames, **shifts):
    """Energies wrong by so many eV."""
    for name, value in shifts.items():
        frames[int(name[1:])].calc.results["energy"] += value
    return frames


def found(*args, **kwargs):
    return [o.index for o in wrong_labels(*args, **kwargs)]


@pytest.mark.parametrize("shift", [1000.0, -1000.0, 100.0])
def test_first_labels_judge_each_other(basis, shift):
    assert found(shifted(structures(8), k2=shift), basis) == [2]
    assert found(shifted(structures(25, 1), k7=shift, k20=-shift), basis) == [7, 20]


def test_a_large_cell_among_small_ones(basis):
    """1000 eV are 3.9 eV per atom in 256 atoms, which the composition's energies would not see."""
    frames = [*structures(12), *structures(2, 5, repeat=4)]
    assert found(shifted(frames, k13=1000.0), basis) == [13]


def test_labels_that_are_right_stay(basis):
    frames = structures(30, 3, spread=0.15)
    assert found(frames, basis) == []
    free = [labelled(Atoms(el, cell=[12.0] * 3, pbc=True)) for el in ("Al", "Cu")]
    assert found([*frames, *free], basis, max_deviation=5.0) == [], "atoms 3.5 eV from the crystal's energy"
    assert found(shifted(structures(3), k1=1000.0), basis) == [], "too few to judge"
    assert found(shifted(structures(3), k1=1000.0), basis, structures(6, 9)) == [1]


def test_the_potential_in_force_judges(basis):
    potential = fit(basis, structures(20), FitSettings()).potential
    new = structures(6, 8, amplitude=0.2)
    assert found(new, potential) == []
    assert found(shifted(new, k2=1000.0, k5=-100.0), potential) == [2, 5]
    assert "eV/atom from the prediction" in wrong_labels(new, potential)[0].reason
    assert found(new[2:3], potential) == [0], "a single label is judged, too"
    assert found(new, potential, max_deviation=100.0) == []


def test_left_out_energies_are_those_of_a_fit_without_the_structure(basis):
    data = collect_labels(structures(12), basis.elements)
    predicted, _ = left_out_energies(basis, data, most=0.0)
    data.energies[3] += 10.0
    again, _ = left_out_energies(basis, data, most=0.0)
    assert again[3] == pytest.approx(predicted[3], abs=0.5), "its own label has no say but in the strength of the ridge"
    assert np.abs(again - predicted)[np.arange(12) != 3].max() > 1e-3
