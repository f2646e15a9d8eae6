"""Reading and writing configurations: exact round trips, and errors that say where and what to do."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_aceal.common.configurations import (
    check_elements,
    configuration_hash,
    get_labels,
    iter_configurations,
    read_configurations,
    write_configurations,
)
from aiida_aceal.common.errors import AceError


def labelled(seed: int = 0, cell: int = 1) -> Atoms:
    atoms = bulk("Cu", cubic=True) * (cell, 1, 1)
    atoms.rattle(0.1, rng=np.random.default_rng(seed))
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_round_trip_is_exact(tmp_path):
    first, second = labelled(1), labelled(2, cell=2)
    first.info.update({"source": "a b", "score": 0.1 + 0.2, "round": 3, "reason": 'it said "more"'})
    first.arrays["gamma"] = np.random.default_rng(0).random(len(first)) / 3
    second.set_constraint(FixAtoms([0, 3]))
    assert write_configurations(tmp_path / "a.extxyz", [first, second]) == 2
    one, two = read_configurations(tmp_path / "a.extxyz")
    for before, after in ((first, one), (second, two)):
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.cell, after.cell)
        for x, y in zip(get_labels(before), get_labels(after)):
            assert np.array_equal(x, y)
        assert configuration_hash(before) == configuration_hash(after)
    assert one.info == first.info
    assert np.array_equal(one.arrays["gamma"], first.arrays["gamma"])
    assert two.constraints[0].index.tolist() == [0, 3]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(*3 * [st.floats(-1e4, 1e4, allow_subnormal=False)]),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_round_trip_of_any_number(tmp_path_factory, rows, periodic):
    path = tmp_path_factory.mktemp("any") / "x.extxyz"
    atoms = Atoms(f"Li{len(rows)}", positions=rows, cell=[7.1, 8.2, 1 / 3] if periodic else None, pbc=periodic)
    write_configurations(path, [atoms])
    (back,) = read_configurations(path)
    assert np.array_equal(back.positions, atoms.positions)
    assert np.array_equal(back.pbc, atoms.pbc)
    assert np.array_equal(back.cell, atoms.cell)


def test_hash_sees_content_only():
    atoms = labelled()
    same = atoms.copy()
    same.info["x"] = 1
    assert configuration_hash(same) == configuration_hash(atoms)
    for change in ("positions", "cell", "numbers", "pbc"):
        other = atoms.copy()
        if change == "positions":
            other.positions[0, 0] += 1e-3
        elif change == "cell":
            other.cell[0, 0] += 1e-3
        elif change == "numbers":
            other.numbers[0] = 28
        else:
            other.pbc[2] = False
        assert configuration_hash(other) != configuration_hash(atoms), change
    zero = Atoms("Cu", positions=[[0.0, 0, 0]])
    minus = Atoms("Cu", positions=[[-0.0, 0, 0]])
    assert configuration_hash(zero) == configuration_hash(minus)


def test_labels_by_key(tmp_path):
    atoms = labelled()
    energy, forces, stress = get_labels(atoms)
    bare = atoms.copy()
    bare.info.update({"PBE_energy": energy, "PBE_stress": stress})
    bare.arrays["PBE_forces"] = forces
    write_configurations(tmp_path / "a.extxyz", [bare])
    (plain,) = read_configurations(tmp_path / "a.extxyz")
    assert get_labels(plain) == (None, None, None)
    (read,) = read_configurations(tmp_path / "a.extxyz", "PBE_energy", "PBE_forces", "PBE_stress")
    assert get_labels(read)[0] == energy
    assert np.array_equal(get_labels(read)[1], forces)
    assert np.array_equal(get_labels(read)[2], stress)
    with pytest.raises(AceError, match=r"structure 0: no energy under the key 'E'.*PBE_energy"):
        read_configurations(tmp_path / "a.extxyz", energy_key="E")
    with pytest.raises(AceError, match=r"structure 0: no energy and no forces.*PBE_energy"):
        read_configurations(tmp_path / "a.extxyz", require=("energy", "forces"))
    bare.arrays["PBE_forces"] = forces[:, :2]
    write_configurations(tmp_path / "b.extxyz", [bare])
    with pytest.raises(AceError, match=r"forces have shape \(4, 2\), expected \(4, 3\)"):
        read_configurations(tmp_path / "b.extxyz", forces_key="PBE_forces")


def test_ase_database_and_several_files(tmp_path):
    from ase.db import connect

    with connect(tmp_path / "a.db") as database:
        for seed in range(3):
            database.write(labelled(seed), group=f"g{seed}")
    write_configurations(tmp_path / "b.extxyz", [labelled(7)])
    read = read_configurations([tmp_path / "a.db", tmp_path / "b.extxyz"], require=("energy", "forces", "stress"))
    assert [a.info.get("group") for a in read] == ["g0", "g1", "g2", None]
    assert [configuration_hash(a) for a in read] == [configuration_hash(labelled(s)) for s in (0, 1, 2, 7)]


def test_iteration_is_lazy(tmp_path):
    text = tmp_path / "a.extxyz"
    write_configurations(text, [labelled(0), labelled(1)])
    text.write_text(text.read_text() + "4\nnonsense\nCu 0 0\n")
    frames = iter_configurations(text)
    next(frames)
    next(frames)
    with pytest.raises(AceError, match=r"a\.extxyz: structure 2 cannot be read"):
        next(frames)


def test_bad_files(tmp_path):
    with pytest.raises(AceError, match=r"missing\.extxyz: no such file"):
        read_configurations(tmp_path / "missing.extxyz")
    (tmp_path / "empty.extxyz").touch()
    with pytest.raises(AceError, match=r"empty\.extxyz: the file is empty"):
        read_configurations(tmp_path / "empty.extxyz")
    (tmp_path / "df.pckl.gzip").write_bytes(b"x")
    with pytest.raises(AceError, match=r"df\.pckl\.gzip: cannot be read as a data frame"):
        read_configurations(tmp_path / "df.pckl.gzip")
    (tmp_path / "what.extxyz").write_text("hello\n")
    with pytest.raises(AceError, match=r"what\.extxyz: structure 0 cannot be read"):
        read_configurations(tmp_path / "what.extxyz")
    with pytest.raises(AceError, match="no configurations were given"):
        read_configurations([])


def test_truncated_file(tmp_path):
    path = tmp_path / "a.extxyz"
    write_configurations(path, [labelled(0), labelled(1)])
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(AceError, match=r"structure [01] cannot be read"):
        read_configurations(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("forces", r"structure 1: the force of atom 2 is not finite"),
        ("energy", r"structure 1: the energy is nan"),
        ("positions", r"structure 1: the position of atom 2 is not finite"),
        ("stress", r"structure 1: the stress holds a number that is not finite"),
    ],
)
def test_not_finite(tmp_path, change, message):
    bad = labelled(1)
    if change == "positions":
        bad.positions[2, 1] = np.nan
    elif change == "forces":
        bad.calc.results["forces"][2, 1] = np.nan
    elif change == "stress":
        bad.calc.results["stress"][2] = np.inf
    else:
        bad.calc.results["energy"] = np.nan
    write_configurations(tmp_path / "a.extxyz", [labelled(0), bad])
    with pytest.raises(AceError, match=message):
        read_configurations(tmp_path / "a.extxyz")


def test_elements_and_cells(tmp_path):
    with pytest.raises(AceError, match=r"pool, structure 1: element Ni is unknown to the potential \(it knows Cu\)"):
        check_elements([bulk("Cu"), bulk("Ni")], ["Cu"], "pool")
    (tmp_path / "a.xyz").write_text('1\npbc="T T T" Properties=species:S:1:pos:R:3\nCu 0 0 0\n')
    with pytest.raises(AceError, match="periodic along an axis whose cell vector is zero"):
        read_configurations(tmp_path / "a.xyz")
    (tmp_path / "x.xyz").write_text("1\nProperties=species:S:1:pos:R:3\nX 0 0 0\n")
    with pytest.raises(AceError, match="atom 0 has no chemical element"):
        read_configurations(tmp_path / "x.xyz")


TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "a:b",
        "C:\\x",
        "1 2",
        "T",
        "nan",
        "_JSON 3",
        "a=b",
        "'",
        '"',
        "{x}",
        "[1",
        "a\nb",
        "\r",
        "\u2028",
        "2\nX\nCu 0 0 0",
    ]
)
VALUES = (
    TEXTS | st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.lists(st.floats(), max_size=4)
    | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS, st.integers(0, 5), max_size=2)
)  # fmt: skip
NAMES = st.sampled_from(
    ["pos", "species", "a:R:1", "Z", "a", "pos0", "a0", "Lattice", "pbc", "Properties", "x y", "", "é", "numbers",
     "k=1", "move", "energies2", "charge", "_x", "a-b", "1a", "virial", "VEC1", "symbols", "free_energy2"]
) | st.text(max_size=4)  # fmt: skip


def equal(a, b) -> bool:
    if isinstance(a, (list, tuple, np.ndarray)):
        a, b = (v.tolist() if isinstance(v, np.ndarray) else list(v) for v in (a, b))
        return len(a) == len(b) and all(map(equal, a, b))
    return (type(a) is type(b) and a == b) or (a != a and b != b) or (not isinstance(a, (bool, str)) and a == b)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.dictionaries(NAMES, st.sampled_from(["f1", "f3", "i1", "b1", "f33", "s1", "s2", "big", "c1"]), max_size=3),
)
def test_what_is_written_comes_back_or_is_refused(tmp_path_factory, info, arrays):
    atoms = Atoms("CuZn", positions=[[0.1, 0.2, 0.3], [1, 2, 3]], cell=[5, 5, 5], pbc=True)
    made = {
        "f1": np.array([0.1, np.nan]), "f3": np.ones((2, 3)) / 3, "i1": np.array([1, -5]),
        "b1": np.array([True, False]),
        "f33": np.ones((2, 3, 3)),
        "s1": np.array(["a", "bc"], dtype=object), "s2": np.array(["a b", ""], dtype=object),
        "big": np.array([2**40, 1]), "c1": np.array([1j, 2]),
    }  # fmt: skip
    atoms.info.update(info)
    for name, kind in arrays.items():
        if name not in ("numbers", "positions"):
            atoms.arrays[name] = made[kind]
    path = tmp_path_factory.mktemp("any") / "x.extxyz"
    try:
        write_configurations(path, [atoms, Atoms("Cu", positions=[[0, 0, 0]])])
    except AceError:
        assert not path.exists()
        return
    back, second = read_configurations(path)
    assert len(second) == 1
    assert np.array_equal(back.positions, atoms.positions)
    assert back.get_chemical_symbols() == ["Cu", "Zn"]
    assert set(back.arrays) == set(atoms.arrays)
    for name, values in atoms.arrays.items():
        assert equal(back.arrays[name], values)
    assert set(back.info) == set(atoms.info)
    for key, value in atoms.info.items():
        assert equal(value, back.info[key]), (key, value, back.info[key])


@pytest.mark.parametrize("name", ["pos", "species", "a:R:1", "Z", "numbers2\n", "pos0", "energies"])
def test_arrays_that_would_forge_columns_are_refused(tmp_path, name):
    atoms = labelled()
    atoms.arrays[name] = np.zeros(len(atoms))
    with pytest.raises(AceError, match=r"a\.extxyz, structure 1: arrays\["):
        write_configurations(tmp_path / "a.extxyz", [labelled(), atoms])
    assert not (tmp_path / "a.extxyz").exists()


@pytest.mark.parametrize("value", ["a:b", "C:\\dir\\x", "2\nenergy=1\nCu 0 0 0\nCu 1 1 1", "T", "1 2", "", "ü\u2028"])
def test_texts_come_back_as_they_are(tmp_path, value):
    atoms = labelled()
    atoms.info["note"] = value
    write_configurations(tmp_path / "a.extxyz", [atoms, labelled(1)])
    first, second = read_configurations(tmp_path / "a.extxyz", require=("energy", "forces"))
    assert first.info["note"] == value
    assert get_labels(second)[0] == get_labels(labelled(1))[0]


def test_an_at_sign_belongs_to_the_name(tmp_path):
    write_configurations(tmp_path / "T", [labelled(1)])
    write_configurations(tmp_path / "T@300K.extxyz", [labelled(2)])
    (read,) = read_configurations(tmp_path / "T@300K.extxyz")
    assert configuration_hash(read) == configuration_hash(labelled(2))
    from ase.io import write

    write(tmp_path / "T.cif", labelled(3))
    write(tmp_path / "T@1.cif", labelled(3, cell=2))
    assert len(read_configurations(tmp_path / "T@1.cif")[0]) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "999999999999\n\nCu 0 0 0\n",
            r"\(line 1: 999999999999 atoms are announced, but the file has",
        ),
        ("9\n\nCu 0.000000 0.000000 0.000000\n", r"9 atoms are announced, but 1 follow"),
        ("-1\n\nCu 0 0 0\n", "a number of atoms is expected, found '-1'"),
        ("1\nProperties=species:S:1:pos:R:3\nCu 0 0 0 5\n", "atom 0 has 5 columns, but 4 are announced"),
        ("1\nProperties=species:S:1:pos:R:3:f:L:1\nCu 0 0 0 maybe\n", "'maybe' is not T or F"),
        ("1\nProperties=species:S:1:pos:R:3:pos:R:3\nCu 0 0 0 1 1 1\n", "a name occurs twice"),
        ("1\nProperties=species:S:1:pos:R:99999999\nCu 0 0 0\n", "is not a number of columns"),
        ("1\n\nCu 0 0 0\n\n1\n\nCu 0 0\n", r"structure 1 cannot be read \(line 5: ValueError: atom 0 has 3 columns"),
    ],
)
def test_frames_that_do_not_add_up(tmp_path, text, message):
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(AceError, match=message):
        read_configurations(tmp_path / "a.xyz")


def test_frames_after_an_empty_line_are_not_lost(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nCu 0 0 0\n\n\n1\n\nZn 0 0 0\n\n")
    assert [str(a.symbols) for a in read_configurations(tmp_path / "a.xyz")] == ["Cu", "Zn"]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 9), st.text("0123456789.eE-+ \n\t\"'=:TFinfaNCu_[]{}\\", max_size=5))
def test_damaged_files_are_refused_or_finite(tmp_path_factory, place, length, junk):
    path = tmp_path_factory.mktemp("any") / "x.extxyz"
    write_configurations(path, [labelled(0), labelled(1)])
    text = path.read_text()
    place %= len(text)
    path.write_text(text[:place] + junk + text[place + length :])
    try:
        found = read_configurations(path)
    except AceError:
        return
    for atoms in found:
        energy, forces, stress = get_labels(atoms)
        for values in (atoms.positions, atoms.cell.array, energy, forces, stress):
            assert values is None or np.isfinite(values).all()
