"""Equations of state and elastic constants against ASE and finite differences done by hand."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.optimize import BFGS

from aiida_aceal.common.errors import AceError
from aiida_aceal.properties import (
    Engine,
    PropertiesSettings,
    Relaxer,
    compute_properties,
    property_numbers,
    property_structures,
)
from aiida_aceal.properties.crystal import crystal, point_group, prototype
from aiida_aceal.properties.elastic import independent, invariants, needed_strains


def emt():
    return Engine(EMT, "emt")


def direct_eos(atoms):
    """Equation of state with another equation and other volumes than ours."""
    volumes, energies = [], []
    for scale in np.linspace(0.99, 1.01, 9):
        work = atoms.copy()
        work.set_cell(work.cell * scale, scale_atoms=True)
        work.calc = EMT()
        volumes.append(work.get_volume() / len(work))
        energies.append(work.get_potential_energy() / len(work))
    return EquationOfState(volumes, energies, eos="vinet").fit()


@pytest.mark.parametrize(("element", "a"), [("Cu", 3.6), ("Al", 4.0), ("Ni", 3.5)])
def test_eos_is_that_of_ase(element, a):
    settings = PropertiesSettings(properties="eos", eos={"phases": ["bcc"]})
    numbers, frames = compute_properties(settings, [bulk(element, a=a)], emt())
    ours = numbers["eos"]["fcc"]
    direct = bulk(element, cubic=True, a=(4 * ours["volume_A3_per_atom"]) ** (1 / 3))
    volume, energy, modulus = direct_eos(direct)
    assert ours["volume_A3_per_atom"] == pytest.approx(volume, rel=1e-3)
    assert ours["energy_eV_per_atom"] == pytest.approx(energy, abs=1e-4)
    assert ours["bulk_modulus_GPa"] == pytest.approx(modulus / units.GPa, rel=5e-3)
    assert numbers["eos"]["bcc"]["energy_above_lowest_eV_per_atom"] > 0
    assert ours["energy_above_lowest_eV_per_atom"] == 0
    assert len(frames) == 18


def test_energies_that_jump_are_no_equation_of_state():
    """As with meshes of k-points that change from volume to volume: a reason instead of a bulk modulus."""
    frames = emt().label(property_structures(PropertiesSettings(properties="eos"), [bulk("Cu")], Relaxer(emt()))[0])
    for k, atoms in enumerate(frames):
        atoms.calc.results["energy"] += 0.004 * (k > 5)
    numbers = property_numbers(PropertiesSettings(properties="eos"), frames)["eos"]
    assert "kpoints_distance" in numbers["error"]
    assert "fcc: the energies scatter by" in numbers["error"]


def energy_curvature(atoms, tensor, step=0.002):
    """Second derivative of the energy by a strain, positions relaxed, per volume (GPa)."""
    values = []
    for amplitude in (-step, 0.0, step):
        work = atoms.copy()
        work.set_cell(work.cell @ (np.eye(3) + amplitude * tensor), scale_atoms=True)
        work.calc = EMT()
        BFGS(work, logfile=None).run(fmax=1e-5, steps=200)
        values.append(work.get_potential_energy())
    return (values[0] - 2 * values[1] + values[2]) / step**2 / atoms.get_volume() / units.GPa


@pytest.mark.parametrize("element", ["Cu", "Al"])
def test_cubic_constants(element):
    settings = PropertiesSettings(properties="elastic")
    numbers, frames = compute_properties(settings, [bulk(element)], emt())
    ours = numbers["elastic"]
    assert len(frames) == 5
    atoms = crystal(frames[0]).conventional
    shear = np.zeros((3, 3))
    shear[1, 2] = shear[2, 1] = 0.5
    assert list(ours["independent_GPa"]) == ["C11", "C12", "C44"]
    assert ours["independent_GPa"]["C11"] == pytest.approx(energy_curvature(atoms, np.diag([1.0, 0, 0])), rel=5e-3)
    assert ours["independent_GPa"]["C44"] == pytest.approx(energy_curvature(atoms, shear), rel=5e-3)
    volumetric = energy_curvature(atoms, np.eye(3)) / 9
    assert ours["bulk_modulus_hill_GPa"] == pytest.approx(volumetric, rel=5e-3)
    assert ours["born_stable"]
    assert np.allclose(ours["C_GPa"], np.transpose(ours["C_GPa"]))


def test_hexagonal_constants_with_relaxed_positions():
    settings = PropertiesSettings(properties="elastic")
    numbers, frames = compute_properties(settings, [bulk("Ni", "hcp", a=2.49, c=4.07)], emt())
    ours = numbers["elastic"]["independent_GPa"]
    assert list(ours) == ["C11", "C12", "C13", "C33", "C44"]
    for name, tensor in {"C11": np.diag([1.0, 0, 0]), "C33": np.diag([0, 0, 1.0])}.items():
        assert ours[name] == pytest.approx(energy_curvature(frames[0], tensor), rel=5e-3)
    both = energy_curvature(frames[0], np.diag([1.0, 1.0, 0]))
    assert 2 * (ours["C11"] + ours["C12"]) == pytest.approx(both, rel=5e-3)
    assert np.array(numbers["elastic"]["C_GPa"])[5, 5] == pytest.approx((ours["C11"] - ours["C12"]) / 2)


def test_an_unstable_crystal_is_called_so():
    numbers, _ = compute_properties(PropertiesSettings(properties="elastic"), [bulk("Cu", "sc", a=2.4)], emt())
    assert numbers["elastic"]["born_stable"] is False
    assert numbers["elastic"]["smallest_eigenvalue_GPa"] < 0
    assert numbers["elastic"]["bulk_modulus_hill_GPa"] is None


@pytest.mark.parametrize(
    ("atoms", "count", "strains"),
    [
        (bulk("Cu"), 3, 2),
        (bulk("Cu", "hcp", a=2.55, c=4.16), 5, 3),
        (bulk("In", "bct", a=3.25, c=4.95), 6, 4),
        (bulk("Si"), 3, 2),
    ],
)
def test_number_of_constants(atoms, count, strains):
    """Those of the tables for the Laue groups (Nye, Physical Properties of Crystals, 1957)."""
    basis = invariants(point_group(atoms))
    assert len(basis) == len(independent(basis)) == count
    assert len(needed_strains(basis)) == strains


def test_a_triclinic_crystal_has_21():
    cell = np.array([[3.0, 0, 0], [0.4, 3.3, 0], [0.3, 0.5, 3.7]])
    atoms = bulk("Cu")
    atoms.set_cell(cell, scale_atoms=True)
    basis = invariants(point_group(atoms))
    assert len(basis) == 21
    assert needed_strains(basis) == [0, 1, 2, 3, 4, 5]


def test_a_repeated_cell_gives_the_same_constants():
    plain, _ = compute_properties(PropertiesSettings(properties="elastic"), [bulk("Cu")], emt())
    settings = PropertiesSettings(properties="elastic", elastic={"cell_length": 4.0})
    large, frames = compute_properties(settings, [bulk("Cu")], emt())
    assert len(frames[0]) > 1
    for name, value in plain["elastic"]["independent_GPa"].items():
        assert large["elastic"]["independent_GPa"][name] == pytest.approx(value, rel=1e-3)


def test_a_phase_that_fails_is_a_row_of_its_own():
    settings = PropertiesSettings(
        properties="eos,elastic", eos={"phases": ["hcp"]}, relaxation={"max_steps": 2, "fmax": 0.001}
    )
    good = crystal(Relaxer(emt()).crystal(bulk("Cu"))).primitive
    numbers, _ = compute_properties(settings, [good], emt())
    assert numbers["eos"]["fcc"]["volume_A3_per_atom"] > 11
    assert "relaxation.max_steps" in numbers["eos"]["hcp"]["error"]
    assert numbers["elastic"]["born_stable"]


def test_without_a_relaxed_start_each_property_says_why():
    settings = PropertiesSettings(properties="eos,elastic", relaxation={"max_steps": 1})
    numbers, frames = compute_properties(settings, [bulk("Cu", a=3.3)], emt())
    assert "did not converge in 1 steps" in numbers["eos"]["error"]
    assert "did not converge in 1 steps" in numbers["elastic"]["error"]
    assert len(frames) == 1  # what could not be relaxed


def test_structures_come_without_labels():
    """The engine that relaxes may be another than the one that labels."""
    frames, errors = property_structures(PropertiesSettings(properties="eos"), [bulk("Cu")], Relaxer(emt()))
    assert not errors
    assert all(f.calc is None for f in frames)
    assert [f.info["case"] for f in frames[:2]] == ["fcc/0", "fcc/1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"properties": "eos,elastik"}, "names among eos, elastic"),
        ({"properties": ""}, "names among"),
        ({"eos": {"points": 3}}, "points"),
    ],
)
def test_settings_are_checked(words, message):
    with pytest.raises(AceError, match=message):
        PropertiesSettings(**words)


def test_structures_that_are_no_crystals():
    from ase import Atoms

    with pytest.raises(AceError, match="periodic in three directions"):
        compute_properties(PropertiesSettings(), [Atoms("Cu", pbc=False)], emt())
    settings = PropertiesSettings(properties="eos", eos={"phases": ["fcc"]})
    with pytest.raises(AceError, match="for elements"):
        compute_properties(settings, [bulk("NiAl", "cesiumchloride", a=2.9)], emt())
    with pytest.raises(AceError, match="unknown phase 'bct'"):
        prototype("bct", "Cu", 11.0)


def test_silicon_with_internal_relaxation():
    """The third Tersoff potential: C44 needs relaxed positions (119 GPa without).

    Balamane, Halicioglu, Tiller, Phys. Rev. B 46, 2250 (1992): 4.63 eV, C11 1.425, C12 0.754, C44 0.690 Mbar.
    """
    from ase.calculators.tersoff import Tersoff, TersoffParameters

    constants = TersoffParameters(
        m=3.0, gamma=1.0, lambda3=0.0, c=100390.0, d=16.217, h=-0.59825, n=0.78734, beta=1.1e-6, lambda2=1.73222,
        B=471.18, R=2.85, D=0.15, lambda1=2.4799, A=1830.8,
    )  # fmt: skip
    engine = Engine(lambda: Tersoff({("Si", "Si", "Si"): constants}), "tersoff")
    numbers, _ = compute_properties(PropertiesSettings(properties="eos,elastic"), [bulk("Si")], engine)
    found = numbers["elastic"]["independent_GPa"]
    assert found == pytest.approx({"C11": 142.5, "C12": 75.4, "C44": 69.0}, rel=2e-3)
    assert numbers["eos"]["diamond"]["energy_eV_per_atom"] == pytest.approx(-4.63, abs=0.005)
    bulk_modulus = numbers["elastic"]["bulk_modulus_hill_GPa"]
    assert numbers["eos"]["diamond"]["bulk_modulus_GPa"] == pytest.approx(bulk_modulus, rel=5e-3)
