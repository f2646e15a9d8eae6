"""The ASE calculator in ASE's own tools: relaxation, equation of state, phonons; and gamma among the results."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE
from ase.phonons import Phonons

from aiida_aceal.ace import AceCalculator, AceModel, AcePotential, build_potential


@pytest.fixture(scope="module")
def copper() -> AcePotential:
    """A small potential fitted to EMT by plain least squares on the design matrix."""
    pot = build_potential(
        {"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [8, 4, 2], "lmax_by_orders": [0, 3, 2]}
    )
    model = AceModel(pot, threads=1)
    rng = np.random.default_rng(0)
    rows, values = [], []
    for k in range(24):
        atoms = bulk("Cu", "fcc", a=3.61 * rng.uniform(0.95, 1.06), cubic=True) * (1, 1, 2)
        atoms.rattle(0.02 + 0.1 * (k % 4) / 3, rng=rng)
        atoms.calc = EMT()
        system = model.linear_system(atoms)
        rows += [5.0 * system.energy[None] / len(atoms), system.forces]
        values += [[5.0 * (atoms.get_potential_energy() / len(atoms) + 3.5)], atoms.get_forces().ravel()]
    A, b = np.concatenate(rows), np.concatenate(values)
    scale = np.linalg.norm(A, axis=0)
    c = np.linalg.lstsq(A / scale, b, rcond=1e-8)[0] / scale
    return pot.with_coefficients({"Cu": c}).with_reference_energies({"Cu": -3.5})


def test_reference_energies(copper: AcePotential) -> None:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.calc = AceCalculator(copper)
    total = atoms.get_potential_energy()
    atoms.calc = AceCalculator(copper, reference_energies=False)
    assert total - atoms.get_potential_energy() == pytest.approx(-3.5 * 4)
    assert atoms.get_potential_energy() == pytest.approx(atoms.get_potential_energies().sum())


@pytest.mark.parametrize("optimizer", [FIRE, BFGS])
def test_relaxation(copper: AcePotential, optimizer: type) -> None:
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * (2, 2, 1)
    atoms.rattle(0.08, seed=2)
    atoms.calc = AceCalculator(copper)
    assert optimizer(FrechetCellFilter(atoms), logfile=None).run(fmax=0.005, steps=200)
    reference = bulk("Cu", "fcc", a=3.6, cubic=True)
    reference.calc = EMT()
    BFGS(FrechetCellFilter(reference), logfile=None).run(fmax=0.001, steps=100)
    assert atoms.get_volume() / 16 == pytest.approx(reference.get_volume() / 4, rel=0.01)


def test_equation_of_state(copper: AcePotential) -> None:
    moduli = {}
    for name, calc in {"ace": AceCalculator(copper), "emt": EMT()}.items():
        volumes, energies = [], []
        for a in np.linspace(3.5, 3.7, 7):
            atoms = bulk("Cu", "fcc", a=a)
            atoms.calc = calc
            volumes.append(atoms.get_volume())
            energies.append(atoms.get_potential_energy())
        moduli[name] = EquationOfState(volumes, energies).fit()
    (v, e, b), (v_emt, e_emt, b_emt) = moduli["ace"], moduli["emt"]
    assert v == pytest.approx(v_emt, rel=0.005)
    assert e == pytest.approx(e_emt, abs=0.002)
    assert b == pytest.approx(b_emt, rel=0.1)


def test_phonons(copper: AcePotential, tmp_path) -> None:
    """Acoustic branches vanish at gamma, and the zone boundary is real and near EMT's."""
    tops = {}
    for name, calc in {"ace": AceCalculator(copper), "emt": EMT()}.items():
        phonons = Phonons(bulk("Cu", "fcc", a=3.6), calc, supercell=(3, 3, 3), delta=0.03, name=str(tmp_path / name))
        phonons.run()
        phonons.read(acoustic=True)
        bands = phonons.band_structure([[0, 0, 0], [0.5, 0.5, 0.0]])
        assert np.abs(bands[0]).max() < 1e-3
        assert bands[1].min() > 0.005
        tops[name] = bands[1].max()
    assert tops["ace"] == pytest.approx(tops["emt"], rel=0.1)


def test_gamma_among_results(copper: AcePotential) -> None:
    class Identity:
        kind = "linear"

        def grade(self, element: str, rows: np.ndarray) -> np.ndarray:
            return np.abs(rows).max(axis=1)

    atoms = Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [0, 2.4, 0.3]])
    atoms.calc = AceCalculator(copper, active_set=Identity())
    atoms.get_forces()
    rows = AceModel(copper, threads=1).projections([atoms])["Cu"].rows
    np.testing.assert_allclose(atoms.calc.results["gamma"], np.abs(rows).max(axis=1), rtol=1e-12)
    assert atoms.calc.results["gamma_max"] == atoms.calc.results["gamma"].max()
    assert "stress" not in atoms.calc.results  # no cell, no stress
