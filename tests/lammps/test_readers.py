"""Logs and dumps, whole, odd and cut off at any place."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_aceal.ace import AceError
from aiida_aceal.lammps.dumps import read_dump
from aiida_aceal.lammps.logfile import native_cause, read_log

LOG = """LAMMPS (29 Aug 2024 - Update 3)
print "WARNING: is not one"
fix extreme all halt 10 v_max_pace_gamma > 1.8 error continue message yes
WARNING: One thing (src/src/a.cpp:1)
Per MPI rank memory allocation (min/avg/max) = 3.255 | 3.255 | 3.255 Mbytes
   Step          Temp          PotEng     c_max
         0   600           -399.17       0.5
WARNING: Bad FENE bond
        10   5.4e2         -398.61       0.6
        20   530           -398          nan
Fix halt condition for fix-id extreme met on step 20 with value 2.5 (src/fix_halt.cpp:240)
Loop time of 1.5 on 1 procs for 20 steps with 108 atoms

MPI task timing breakdown:
Per MPI rank memory allocation (min/avg/max) = 3.255 | 3.255 | 3.255 Mbytes
   Step          PotEng          Temp        Press
        20   -398           530   1
        30   -397           520   2
Loop time of 0.5 on 1 procs for 10 steps with 108 atoms
Total wall time: 1:02:03
"""


def test_log():
    log = read_log(LOG)
    assert log.version == "29 Aug 2024 - Update 3"
    assert [table["Step"].tolist() for table in log.runs] == [[0, 10, 20], [20, 30]]
    assert log.runs[0]["Temp"].tolist() == [600, 540, 530]
    assert np.isnan(log.runs[0]["c_max"][-1])
    assert log.warnings == ["One thing (src/src/a.cpp:1)", "Bad FENE bond"]
    assert (log.errors, log.completed, log.finished) == ([], True, [True, True])
    assert log.wall_seconds == 3723
    assert log.loop_seconds == 2.0
    assert (log.halt.fix, log.halt_step, log.halt.value) == ("extreme", 20, 2.5)
    assert log.last_step == 30
    series = log.series()
    assert list(series) == ["Step", "Temp", "PotEng"]
    assert series["Step"].tolist() == [0, 10, 20, 30]


def test_log_cut_anywhere():
    """Never an exception, never a number that the full log does not have."""
    full = read_log(LOG)
    for end in range(0, len(LOG), 7):
        log = read_log(LOG[:end] if "\n" in LOG[:end] else LOG[:end] + "\n")
        assert not log.completed or end > LOG.index("Total wall")
        for table, whole in zip(log.runs, full.runs):
            for name, values in table.items():
                np.testing.assert_array_equal(values, whole[name][: len(values)])


def test_log_with_error():
    text = (
        LOG[: LOG.index("Fix halt")]
        + "ERROR: Lost atoms: original 108 current 107 (src/thermo.cpp:526)\nLast command: run\n"
    )
    log = read_log(text)
    assert log.errors == ["Lost atoms: original 108 current 107 (src/thermo.cpp:526)"]
    assert (log.completed, log.halted, log.finished) == (False, False, [False])
    assert log.last_step == 20
    assert read_log("WARNING: Wall time limit reached (src/timer.cpp:201)\n").timed_out
    assert read_log("ERROR on proc 0: Cannot open file\n").errors == ["Cannot open file"]


def test_log_yaml_and_multi():
    yaml = """Per MPI rank memory allocation (min/avg/max) = 3 | 3 | 3 Mbytes
---
keywords: ['Step', 'Temp', 'E_pair', ]
data:
  - [0, 600, -1.5, ]
  - [10, 500, -1.25, ]
...
Loop time of 1.5 on 1 procs for 10 steps with 8 atoms
"""
    multi = """Per MPI rank memory allocation (min/avg/max) = 3 | 3 | 3 Mbytes
------------ Step              0 ----- CPU =            0 (sec) -------------
TotEng   =        -1.0 KinEng   =         0.5 Temp     =       600
PotEng   =        -1.5
------------ Step             10 ----- CPU =        0.001 (sec) -------------
TotEng   =        -1.0 KinEng   =        0.25 Temp     =       500
PotEng   =       -1.25
Loop time of 1.5 on 1 procs for 10 steps with 8 atoms
"""
    assert read_log(yaml).runs[0]["E_pair"].tolist() == [-1.5, -1.25]
    table = read_log(multi).runs[0]
    assert table["Step"].tolist() == [0, 10]
    assert table["PotEng"].tolist() == [-1.5, -1.25]


def test_log_that_is_not_there(tmp_path):
    with pytest.raises(AceError, match="cannot read LAMMPS log"):
        read_log(tmp_path / "log.lammps")


def frame(step: int, box: str, columns: str, rows: list[str], bounds: str = "pp pp pp") -> str:
    lines = ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(rows)), f"ITEM: BOX BOUNDS {bounds}", box,
             f"ITEM: ATOMS {columns}", *rows]  # fmt: skip
    return "\n".join(lines) + "\n"


CUBE = "-1 9\n-1 9\n-1 9"


def test_dump_orthogonal(tmp_path):
    path = tmp_path / "x.dump"
    path.write_text(
        frame(0, CUBE, "id type x y z fx fy fz f_pace_gamma vx vy vz q",
              ["2 1 1 2 3 .1 .2 .3 0.5 1 0 0 7", "1 2 0 0 0 0 0 0 1.5 0 0 0 8"], "pp ff pp")
        + frame(10, CUBE, "element xs ys zs", ["Cu 0.5 0.5 0.25"])
        + frame(20, CUBE, "id type xu yu zu", [])
    )  # fmt: skip
    dump = read_dump(path, ["Cu", "I"])
    assert dump.complete
    first, second, empty = dump.frames
    assert [first.step, second.step, empty.step] == [0, 10, 20]
    assert first.atoms.get_chemical_symbols() == ["I", "Cu"]
    np.testing.assert_allclose(first.atoms.positions, [[1, 1, 1], [2, 3, 4]])
    assert first.atoms.arrays["gamma"].tolist() == [1.5, 0.5]
    assert first.atoms.arrays["ace_forces"][1].tolist() == [0.1, 0.2, 0.3]
    assert first.atoms.arrays["q"].tolist() == [8, 7]
    assert first.atoms.pbc.tolist() == [True, False, True]
    assert first.atoms.calc is None
    np.testing.assert_allclose(second.atoms.positions, [[5, 5, 2.5]])
    assert len(empty.atoms) == 0


def test_dump_triclinic(tmp_path):
    cell = np.array([[4.0, 0, 0], [1.5, 5, 0], [-0.5, 1, 6]])
    atoms = Atoms("Cu2", cell=cell, pbc=True, scaled_positions=[[0.1, 0.2, 0.3], [0.9, 0.5, 0.7]])
    xy, xz, yz = 1.5, -0.5, 1.0
    low, high = [min(0, xy, xz, xy + xz), min(0, yz), 0], [4 + max(0, xy, xz, xy + xz), 5 + max(0, yz), 6]
    box = "\n".join(f"{a} {b} {c}" for a, b, c in zip(low, high, (xy, xz, yz)))
    rows = [f"{k} 1 {x} {y} {z}" for k, (x, y, z) in enumerate(atoms.positions, 1)]
    scaled = [f"{k} 1 {x} {y} {z}" for k, (x, y, z) in enumerate(atoms.get_scaled_positions(), 1)]
    general = "\n".join(f"{a} {b} {c} 0" for a, b, c in cell)
    path = tmp_path / "x.dump"
    path.write_text(
        frame(0, box, "id type x y z", rows, "xy xz yz pp pp pp")
        + frame(1, box, "id type xs ys zs", scaled, "xy xz yz pp pp pp")
        + frame(2, general, "id type x y z", rows, "abc origin pp pp pp")
    )
    for _, read in read_dump(path, ["Cu"]).frames:
        np.testing.assert_allclose(read.cell.array, cell)
        np.testing.assert_allclose(read.positions, atoms.positions)


def test_dump_cut_anywhere(tmp_path):
    """Whole frames before the cut are kept; the flag says whether something was lost."""
    one = frame(0, CUBE, "id type x y z", ["1 1 0 0 0", "2 1 1.25 1 1"])
    text = one + frame(10, CUBE, "id type x y z", ["1 1 0 0 0", "2 1 1.75 1 1"])
    path = tmp_path / "x.dump"
    for end in range(len(text) + 1):
        path.write_text(text[:end])
        dump = read_dump(path, ["Cu"])
        assert len(dump.frames) == (0 if end < len(one) else 1 if end < len(text) else 2)
        assert dump.complete == (end in (0, len(one), len(text)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\n", "line 1: unexpected line 'hello'"),
        ("ITEM: TIMESTEP\nten\n", "line 2: 'ten' is not a number"),
        (frame(0, "0 1\n0 1\n0 b", "id type x y z", ["1 1 0 0 0"]), "bad box"),
        (frame(0, CUBE, "id type x y z", ["1 1 0 0"]), "columns"),
        (frame(0, CUBE, "id type x y z", ["1 1 0 0 zero"]), "not a number"),
        (frame(0, CUBE, "id type vx", ["1 1 0"]), "no coordinates"),
        (frame(0, CUBE, "id x y z", ["1 0 0 0"]), "no column 'element' or 'type'"),
        (frame(0, CUBE, "id type x y z", ["1 3 0 0 0"]), "type 3"),
        (frame(0, CUBE, "id element x y z", ["1 Qq 0 0 0"]), "no column 'element' or 'type'"),
    ],
)
def test_dump_that_is_damaged(tmp_path, text, words):
    path = tmp_path / "x.dump"
    path.write_text(text)
    with pytest.raises(AceError, match=words) as caught:
        read_dump(path, ["Cu"])
    assert "x.dump" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", None),
        ("some library is slow\n", None),
        (
            "Exception: Active Set Inverted for element `Al`: wrong size\nMPI_ABORT was invoked on rank 0\n",
            "Active Set Inverted for element `Al`: wrong size",
        ),
        (
            "terminate called after throwing an instance of 'std::invalid_argument'\n  what():  No file pot.yaml\n"
            "Aborted (core dumped)\n",
            "No file pot.yaml",
        ),
        ("terminate called after throwing an instance of 'char const*'\nAborted\n", "char const*"),
        ("ERROR on proc 3: Bond atoms missing (src/x.cpp:1)\nKilled\n", "Bond atoms missing (src/x.cpp:1)"),
    ],
)
def test_cause_on_stderr(text, cause):
    assert native_cause(text) == cause


FRAME = """ITEM: TIMESTEP
10
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 4.0
0 4.0
0 4.0
ITEM: ATOMS id element x y z f_pace_gamma
1 Cu 0.0 0.0 0.0 1.5
2 Cu 2.0 2.0 2.0 0.5
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.0 0.0 0.0", "0.0 nan 0.0"),
        ("1.5", "inf"),
        ("0 4.0", "0 nan"),
        ("0 4.0", "4.0 4.0"),
        ("2.0 2.0", "1e999 2.0"),
    ],
)
def test_frames_that_blew_up_are_told(tmp_path, old, new):
    (tmp_path / "a.dump").write_text(FRAME + FRAME.replace(old, new, 1))
    first, second = read_dump(tmp_path / "a.dump").frames
    assert first.is_sound
    assert not second.is_sound


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n2\nITEM: BOX", "\n-2\nITEM: BOX", "'-2' is not a number"),
        ("\n2\nITEM: BOX", "\n1_0\nITEM: BOX", "'1_0' is not a number"),
        ("id element", "id id", "a column occurs twice"),
        ("element", "type", r"not a number|type_map"),
    ],
)
def test_frames_that_do_not_add_up(tmp_path, old, new, message):
    (tmp_path / "a.dump").write_text(FRAME.replace(old, new, 1))
    with pytest.raises(AceError, match=message):
        read_dump(tmp_path / "a.dump")


def test_more_atoms_than_the_file_has_is_a_cut(tmp_path):
    (tmp_path / "a.dump").write_text(FRAME + FRAME.replace("\n2\n", "\n999999999999\n", 1))
    dump = read_dump(tmp_path / "a.dump")
    assert (len(dump.frames), dump.complete) == (1, False)


@pytest.mark.parametrize("kind", ["nan", "1.5", "0", "3"])
def test_types_that_are_none(tmp_path, kind):
    text = FRAME.replace("element", "type").replace("2 Cu", f"2 {kind}").replace("1 Cu", "1 1")
    (tmp_path / "a.dump").write_text(text)
    with pytest.raises(AceError, match=f"atom type {kind} has no element"):
        read_dump(tmp_path / "a.dump", type_map=["Cu", "Zn"])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 9), st.text("0123456789.eE-+ \nnaifITEM:ACu_", max_size=6))
def test_damaged_dumps_are_refused_or_sound(tmp_path_factory, place, length, junk):
    text = FRAME + FRAME.replace("\n10\n", "\n20\n")
    place %= len(text)
    path = tmp_path_factory.mktemp("any") / "a.dump"
    path.write_text(text[:place] + junk + text[place + length :])
    try:
        frames = read_dump(path, type_map=["Cu"]).frames
    except AceError:
        return
    for frame in frames:
        finite = [np.isfinite(x).all() for x in (frame.atoms.positions, frame.atoms.cell.array)]
        assert frame.is_sound <= all(finite)
