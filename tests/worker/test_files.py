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

from aiida_aceal.ace.errors import AceError
from aiida_aceal.worker.files import (
    check_elements,
    configuration_hash,
    get_labels,
    iter_configurations,
    read_configurations,
    write_configurations,
)


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
    bare.info.update({"REF_energy": energy, "REF_stress": stress})
    bare.arrays["REF_forces"] = forces
    write_configurations(tmp_path / "a.extxyz", [bare])
    (plain,) = read_configurations(tmp_path / "a.extxyz")
    assert get_labels(plain) == (None, None, None)
    (read,) = read_configurations(tmp_path / "a.extxyz", "REF_energy", "REF_forces", "REF_stress")
    assert get_labels(read)[0] == energy
    assert np.array_equal(get_labels(read)[1], forces)
    assert np.array_equal(get_labels(read)[2], stress)
    with pytest.raises(AceError, match=r"structure 0: no energy under the key 'E'.*REF_energy"):
        read_configurations(tmp_path / "a.extxyz", energy_key="E")
    with pytest.raises(AceError, match=r"structure 0: no energy and no forces.*REF_energy"):
        read_configurations(tmp_path / "a.extxyz", require=("energy", "forces"))
    bare.arrays["REF_forces"] = forces[:, :2]
    write_configurations(tmp_path / "b.extxyz", [bare])
    with pytest.raises(AceError, match=r"forces have shape \(4, 2\), expected \(4, 3\)"):
        read_configurations(tmp_path / "b.extxyz", forces_key="REF_forces")


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
    with pytest.raises(AceError, match="pickled data frames are refused"):
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
