"""Folders with outputs of VASP and Quantum ESPRESSO: all ionic steps that are converged, no others."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.common.configurations import get_labels, read_configurations
from aiida_aceal.common.errors import AceError

sys.path.insert(0, str(Path(__file__).parents[1] / "vasp"))
from fake_vasp import structure_xml, varray, vasprun


def steps(count, seed=0):
    found = []
    for k in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed + k)
        atoms.calc = EMT()
        found.append(atoms)
    return found


def run_xml(frames, iterations, nelm=40):
    """A vasprun.xml of several ionic steps; the one in tests/vasp has one."""
    energies = [a.get_potential_energy() for a in frames]

    def named(value):
        return {"e_fr_energy": value - 0.01, "e_wo_entrp": value + 0.01, "e_0_energy": value}

    whole = vasprun(frames[0], {"NSW": "9"}, [1, 1, 1], named(energies[0]), 1)
    head, tail = whole.split(" <calculation>")[0], whole.split("</calculation>\n")[1]
    parameters = f' <parameters>\n  <i type="int" name="NELM"> {nelm}</i>\n </parameters>\n'
    where = head.index(" <atominfo>")
    text = head[:where] + parameters + head[where:]
    for atoms, value, count in zip(frames, energies, iterations):
        energy = "".join(f'   <i name="{name}"> {number:.10f} </i>\n' for name, number in named(value).items())
        text += " <calculation>\n" + f"  <scstep>\n  <energy>\n{energy}  </energy>\n  </scstep>\n" * count
        text += structure_xml(atoms) + varray("forces", atoms.get_forces())
        text += varray("stress", -atoms.get_stress(voigt=False) * 1602.1766) + f"  <energy>\n{energy}  </energy>\n"
        text += " </calculation>\n"
    return text + tail


def outcar(frames, reached):
    """What ASE looks for in an OUTCAR."""
    text = " vasp.6.4.2\n POTCAR:    PAW_PBE Cu 22Jun2005\n POTCAR:    PAW_PBE Cu 22Jun2005\n   ISPIN  =      1\n"
    text += (
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=     24\n"
    )
    text += "   ions per type =               4\n k-points in reciprocal lattice and weights: Gamma\n"
    text += "   0.00000000  0.00000000  0.00000000       1.000\n"
    for atoms, good in zip(frames, reached):
        value = atoms.get_potential_energy()
        cell = "".join("  " + " ".join(f"{x:12.9f}" for x in (*row, 0, 0, 0)) + "\n" for row in atoms.cell.array)
        rows = "".join(
            " ".join(f"{x:12.8f}" for x in (*p, *f)) + "\n" for p, f in zip(atoms.positions, atoms.get_forces())
        )
        how = "because EDIFF is reached" if good else "EDIFF was not reached (unconverged)"
        text += f"--------------- Iteration      1(   9)  ---------------\n------- aborting loop {how} -------\n"
        text += f"      direct lattice vectors                 reciprocal lattice vectors\n{cell}\n"
        text += f" POSITION                                       TOTAL-FORCE (eV/Angst)\n ----------\n{rows} -----\n"
        text += " FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------\n"
        text += f"  free  energy   TOTEN  =       {value - 0.01:.8f} eV\n\n"
        text += f"  energy  without entropy=     {value + 0.01:.8f}  energy(sigma->0) =     {value:.8f}\n"
    return text


def same(found, frames):
    assert len(found) == len(frames)
    for one, other in zip(found, frames):
        energy, forces, _ = get_labels(one)
        assert one.positions == pytest.approx(other.positions, abs=1e-6)
        assert energy == pytest.approx(other.get_potential_energy(), abs=1e-6)
        assert forces == pytest.approx(other.get_forces(), abs=1e-6)


def test_a_folder_of_vasp_runs(tmp_path):
    frames = steps(4)
    (tmp_path / "runs" / "b").mkdir(parents=True)
    (tmp_path / "runs" / "a").mkdir()
    (tmp_path / "runs" / "a" / "vasprun.xml").write_text(run_xml(frames, [9, 40, 12, 39]))
    (tmp_path / "runs" / "a" / "OUTCAR").write_text("the same run: not read twice")
    (tmp_path / "runs" / "b" / "vasprun.xml").write_text(run_xml(steps(2, 50), [5, 6]))
    said = []
    found = read_configurations(tmp_path / "runs", say=said.append)
    same(found, [frames[0], frames[2], frames[3], *steps(2, 50)])
    assert [atoms.info["source"] for atoms in found] == [
        "runs/a/vasprun.xml#0", "runs/a/vasprun.xml#2", "runs/a/vasprun.xml#3", "runs/b/vasprun.xml#0",
        "runs/b/vasprun.xml#1",
    ]  # fmt: skip
    assert said == [f"{tmp_path}/runs/a/vasprun.xml: 1 of 4 ionic steps not converged or incomplete: left out"]
    stress = get_labels(found[0])[2]
    assert stress == pytest.approx(frames[0].get_stress(), abs=1e-6)


def test_a_run_that_was_killed(tmp_path):
    frames = steps(3)
    text = run_xml(frames, [9, 9, 9])
    (tmp_path / "vasprun.xml").write_text(text[: text.rindex('<varray name="forces">')])
    same(read_configurations(tmp_path / "vasprun.xml"), frames[:2])


def test_outcar(tmp_path):
    frames = steps(3)
    (tmp_path / "OUTCAR").write_text(outcar(frames, [True, False, True]))
    said = []
    same(read_configurations(tmp_path, say=said.append), [frames[0], frames[2]])
    assert "1 of 3 ionic steps not converged" in said[0]


def test_nothing_converged_and_nothing_there(tmp_path):
    with pytest.raises(AceError, match=r"no output in this folder or below it; looked for vasprun\.xml"):
        read_configurations(tmp_path)
    (tmp_path / "vasprun.xml").write_text(run_xml(steps(1), [40]))
    with pytest.raises(AceError, match="none of its 1 ionic step is converged with energy and forces"):
        read_configurations(tmp_path)
    (tmp_path / "vasprun.xml").write_text("<modeling>")
    with pytest.raises(AceError, match=r"vasprun\.xml: cannot be read as vasp-xml"):
        read_configurations(tmp_path)


PW = """
     Program PWSCF v.7.2 starts on 21Nov2026 at 10:00:00

     bravais-lattice index     =            0
     lattice parameter (alat)  =       6.8219  a.u.
     unit-cell volume          =     317.4847 (a.u.)^3
     number of atoms/cell      =            1
     number of atomic types    =            1

     celldm(1)=   6.821946  celldm(2)=   0.000000  celldm(3)=   0.000000

     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.000000   0.000000 )
               a(3) = (   0.000000   0.000000   1.000000 )

     site n.     atom                  positions (alat units)
         1           Cu  tau(   1) = (   0.0000000   0.0000000   0.0000000  )

"""
CONVERGED = """
!    total energy              =     -10.00000000 Ry

     convergence has been achieved in   7 iterations

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.01000000    0.00000000    0.00000000

     Total force =     0.010000     Total SCF correction =     0.000000
"""
NOT_CONVERGED = "\n     convergence NOT achieved after 100 iterations: stopping\n"


def test_outputs_of_pw(tmp_path):
    (tmp_path / "one.out").write_text(PW + CONVERGED)
    (tmp_path / "two.out").write_text(PW + CONVERGED + PW + NOT_CONVERGED)
    (tmp_path / "notes.out").write_text("of another program\n")
    found = read_configurations(tmp_path)
    assert [atoms.info["source"].split("/")[-1] for atoms in found] == ["one.out#0", "two.out#0"]
    energy, forces, _ = get_labels(found[0])
    assert energy == pytest.approx(-136.0569, abs=1e-3)
    assert forces == pytest.approx(np.array([[0.01 * 25.71104, 0, 0]]), abs=1e-5)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "one.out").write_text(PW + NOT_CONVERGED)
    with pytest.raises(AceError, match=r"one\.out: "):
        read_configurations(tmp_path / "bad")
