"""Energies, forces, pressure and gamma of aceal-lmp against the engine and against their definitions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import units

from aiida_aceal.lammps.dumps import read_dump

BAR = 1.602176634e6  # eV/Angstrom^3 in bar; LAMMPS' constant 1.6021765e6 differs by 8e-8


def last(run, column):
    assert run.status == 0, run.stderr
    return run.log.runs[-1][column][-1]


def test_single_point_equals_engine(lmp, head, toy, make_alloy):
    """Sheared cell, two elements: total and atomic energies, forces, pressure tensor, atomic virials, gamma."""
    atoms = make_alloy(7, rattle=0.25, strain=0.2)
    run = lmp(
        head
        + """fix pace_gamma all pair 1 pace/extrapolation gamma 1
compute e all pe/atom
compute s all stress/atom NULL
compute esum all reduce sum c_e
compute ssum all reduce sum c_s[1] c_s[2] c_s[3] c_s[4] c_s[5] c_s[6]
compute gmax all reduce max f_pace_gamma
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol c_esum c_ssum[*] c_gmax
thermo_modify format float %.15g
run 0
write_dump all custom x.dump id type element x y z fx fy fz c_e f_pace_gamma modify element Au Cu format float %.15g
""",
        atoms,
    )
    assert run.status == 0, run.stderr
    table = {name: values[0] for name, values in run.log.runs[0].items()}
    frame = read_dump(run.folder / "x.dump").frames[0].atoms
    assert frame.get_chemical_symbols() == atoms.get_chemical_symbols()
    want = toy.model().evaluate(frame, gamma=True)  # in LAMMPS' orientation of the cell
    assert want.energy == pytest.approx(toy.model().evaluate(atoms).energy, rel=1e-12)
    assert table["PotEng"] == pytest.approx(want.energy, rel=1e-12)
    np.testing.assert_allclose(frame.arrays["ace_forces"], want.forces, rtol=0, atol=1e-10)
    np.testing.assert_allclose(frame.arrays["c_e"], want.energies, rtol=0, atol=1e-11)
    np.testing.assert_allclose(frame.arrays["gamma"], want.gamma, rtol=1e-10)
    assert want.gamma.max() > 1.5
    assert table["c_gmax"] == pytest.approx(want.gamma.max(), rel=1e-12)
    pressure = np.array([table[name] for name in ("Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy")])
    np.testing.assert_allclose(pressure, -want.stress * BAR, rtol=1e-6, atol=1e-3)
    assert table["c_esum"] == pytest.approx(table["PotEng"], rel=1e-12)
    sums = np.array([table[f"c_ssum[{k}]"] for k in (1, 2, 3, 6, 5, 4)]) / table["Volume"]
    np.testing.assert_allclose(-sums, pressure, rtol=1e-9, atol=1e-6)


def test_pressure_is_derivative_of_energy(lmp, head, make_alloy):
    run = lmp(
        head
        + """thermo_style custom step pe press vol
thermo_modify format float %.15g
run 0
change_box all x scale 1.0001 y scale 1.0001 z scale 1.0001 remap
run 0
change_box all x scale 0.99980001 y scale 0.99980001 z scale 0.99980001 remap
run 0
""",
        make_alloy(3, strain=0.0),
    )
    assert run.status == 0, run.stderr
    middle, larger, smaller = ({k: v[0] for k, v in table.items()} for table in run.log.runs)
    slope = (larger["PotEng"] - smaller["PotEng"]) / (larger["Volume"] - smaller["Volume"])
    assert middle["Press"] == pytest.approx(-slope * BAR, rel=1e-5)


def test_nve_conserves_energy(lmp, head, make_alloy):
    run = lmp(
        head
        + """velocity all create 600 11 mom yes rot no dist gaussian
fix md all nve
thermo 5
thermo_style custom step temp pe ke etotal
thermo_modify format float %.12g
run 200
""",
        make_alloy(4, rattle=0.02),
    )
    assert run.status == 0, run.stderr
    table = run.log.runs[0]
    total, kinetic = table["TotEng"], table["KinEng"]
    assert np.ptp(kinetic) > 0.3  # energy goes back and forth
    assert np.ptp(total) < 2e-3 * np.ptp(kinetic)


def test_result_is_independent_of_threads(lmp, head, make_alloy):
    script = head + "fix md all nve\nfix g all pair 5 pace/extrapolation gamma 1\ncompute m all reduce max f_g\n"
    script += "thermo 5\nthermo_style custom step pe press c_m\nthermo_modify format float %.12g\nrun 20\n"
    atoms = make_alloy(5, size=4, rattle=0.1)
    one, two = (lmp(script, atoms, threads=n).log.runs[0] for n in (1, 2))
    for column in one:
        np.testing.assert_allclose(one[column], two[column], rtol=1e-9)


def test_minimise_reaches_zero_force(lmp, head, toy, make_alloy):
    run = lmp(
        head
        + """thermo_style custom step pe fmax
min_style cg
minimize 0 1e-6 500 2000
write_dump all custom x.dump id element x y z modify element Au Cu format float %.15g
""",
        make_alloy(6),
    )
    assert run.status == 0, run.stderr
    table = run.log.runs[0]
    assert table["PotEng"][-1] < table["PotEng"][0]
    relaxed = read_dump(run.folder / "x.dump").frames[0].atoms
    assert np.abs(toy.model().evaluate(relaxed).forces).max() < 1e-5


def test_box_relax_reaches_zero_pressure(lmp, head, make_alloy):
    run = lmp(
        head
        + """thermo_style custom step pe press
fix br all box/relax aniso 0.0 vmax 0.005
minimize 0 1e-8 300 3000
""",
        make_alloy(6, rattle=0.01, strain=0.0),
    )
    assert abs(run.log.runs[0]["Press"][0]) > 1000
    assert abs(last(run, "Press")) < 20


@pytest.mark.parametrize("distance", [0.0, 1e-14])
def test_atoms_on_top_of_each_other(lmp, head, make_alloy, distance):
    atoms = make_alloy(1)
    atoms.positions[3] = atoms.positions[17] + [distance, 0, 0]
    run = lmp(head + "fix md all nve\nrun 10\n", atoms)
    assert run.status == 1
    assert run.stderr.startswith("ERROR: ")
    assert run.log.errors
    assert not run.log.completed


def test_energies_that_overflow(lmp, tmp_path, toy, head, make_alloy):
    """A potential beyond all numbers: an error of the step on which it happens, before anything moves."""
    # numbers that a file may hold, but (1e99)^4 is none
    huge = {el: 1e99 * np.sign(toy.potential.coefficients(el)) for el in toy.potential.elements}
    text = toy.potential.with_coefficients(huge).to_yaml()
    text, n = re.subn(r"\bparameters: \[1, 1\]", "parameters: [1, 4]", text)
    assert n == len(huge)
    (tmp_path / "huge.yaml").write_text(text)
    script = head.replace("toy.yaml", "huge.yaml")
    atoms = make_alloy(1)
    atoms.set_cell(atoms.cell * 0.6, scale_atoms=True)
    run = lmp(script + "fix md all nve\ndump d all custom 1 x.dump id type x y z\nrun 10\n", atoms)
    assert run.status == 1
    assert "simulation unstable" in run.stderr
    assert "step 0" in run.log.errors[0]
    assert read_dump(run.folder / "x.dump", ["Au", "Cu"]).frames == []


def test_isolated_atom_and_one_atom_cell(lmp, toy):
    script = """units metal
boundary p p p
region b block 0 30 0 30 0 30
create_box 2 b
create_atoms 2 single 15 15 15
mass * 60
pair_style pace
pair_coeff * * toy.yaml Au Cu
thermo_style custom pe press
thermo_modify format float %.15g
run 0
clear
units metal
lattice fcc 3.7
region b prism 0 0.5 0 0.5 0 0.5 0.5 0.5 0.5
create_box 2 b
create_atoms 2 single 0 0 0
mass * 60
pair_style pace
pair_coeff * * toy.yaml Au Cu
thermo_style custom pe press vol
thermo_modify format float %.15g
run 0
"""
    run = lmp(script)
    assert run.status == 0, run.stderr
    isolated, dense = run.log.runs
    assert isolated["PotEng"][0] == pytest.approx(0.0, abs=1e-12)
    from ase import Atoms

    cell = 3.7 * np.array([[0.5, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]])
    want = toy.model().evaluate(Atoms("Cu", cell=cell, pbc=True))
    assert dense["PotEng"][0] == pytest.approx(want.energy, rel=1e-12)
    assert dense["Volume"][0] == pytest.approx(abs(np.linalg.det(cell)))


def test_velocities_and_step_of_dump(lmp, head, make_alloy):
    """Velocities in data file and dump are Angstrom/ps and come back as ASE's."""
    atoms = make_alloy(2)
    rng = np.random.default_rng(0)
    atoms.set_velocities(rng.normal(0, 0.01, atoms.positions.shape))
    run = lmp(
        head
        + "run 0\nwrite_dump all custom x.dump id element x y z vx vy vz modify element Au Cu format float %.15g\n",
        atoms,
    )
    assert run.status == 0, run.stderr
    frame = read_dump(run.folder / "x.dump").frames[0].atoms
    assert frame.get_kinetic_energy() == pytest.approx(atoms.get_kinetic_energy(), rel=1e-9)
    speed = np.linalg.norm(frame.get_velocities(), axis=1) * 1000 * units.fs
    np.testing.assert_allclose(speed, np.linalg.norm(atoms.get_velocities(), axis=1) * 1000 * units.fs, rtol=1e-9)
