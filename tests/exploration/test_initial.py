"""First structures: what each generator promises, determinism, and messages for wrong requests."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from aiida_aceal.common import errors
from aiida_aceal.exploration.distances import minimum_distances, shortest, too_short
from aiida_aceal.exploration.initial import generate, kinds, read_files

CU = {"bulk": "Cu", "crystal": "fcc", "a": 3.61, "cubic": True}

SPEC = [
    {"kind": "supercells", "structure": CU, "sizes": [1, [2, 1, 1], [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]]},
    {"kind": "rattled", "structure": CU, "supercell": [2, 2, 2], "count": 3, "amplitude": [0.05, 0.2]},
    {"kind": "strained", "structure": CU, "count": 4, "strain": 0.1, "rattle": 0.05},
    {"kind": "volume_scan", "structure": CU, "count": 5, "volume": [0.8, 1.4]},
    {"kind": "vacancy", "structure": CU, "supercell": [2, 2, 2], "count": 2, "vacancies": 2},
    {"kind": "surface", "structure": CU, "miller": [[1, 1, 1], [1, 0, 0]], "layers": 3},
    {"kind": "substituted", "structure": CU, "supercell": [2, 2, 1], "fractions": {"Cu": 3, "Au": 1}, "count": 2},
    {"kind": "dimers", "pairs": ["Cu", "Cu-I"], "count": 4, "distance": [2.0, 5.0]},
    {"kind": "clusters", "composition": {"Li": 4}, "count": 5},
    {"kind": "random_packed", "composition": {"Cu": 8, "I": 8}, "count": 2, "label": "liquid"},
]


def _same(first: list[Atoms], second: list[Atoms]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a.positions, b.positions)
        and np.array_equal(a.numbers, b.numbers)
        and np.array_equal(a.cell, b.cell)
        for a, b in zip(first, second)
    )


def test_deterministic_and_independent_of_later_entries():
    first = generate(SPEC, seed=3)
    assert _same(first, generate(SPEC, seed=3))
    assert _same(first[: len(generate(SPEC[:-2], seed=3))], generate(SPEC[:-2], seed=3))
    assert not _same(first, generate(SPEC, seed=4))
    assert {atoms.info["kind"] for atoms in first} == {entry["kind"] for entry in SPEC} == set(kinds()) - {"files"}
    assert len({atoms.info["source"] for atoms in first}) == len(first)
    assert first[-1].info["label"] == "liquid"


def _of(kind: str, seed: int = 0) -> list[Atoms]:
    return [atoms for atoms in generate(SPEC, seed) if atoms.info["kind"] == kind]


def test_supercells_have_the_right_volume():
    unit = bulk("Cu", "fcc", 3.61, cubic=True)
    assert [round(atoms.get_volume() / unit.get_volume()) for atoms in _of("supercells")] == [1, 2, 2]
    assert [len(atoms) for atoms in _of("supercells")] == [4, 8, 8]


def test_rattle_amplitude_is_the_standard_deviation():
    spec = [{"kind": "rattled", "structure": CU, "supercell": [4, 4, 4], "amplitude": 0.1, "count": 2}]
    ideal = bulk("Cu", "fcc", 3.61, cubic=True).repeat(4)
    for atoms in generate(spec, 1):
        spread = (atoms.positions - ideal.positions).std()
        assert spread == pytest.approx(0.1, rel=0.1)


def test_strain_is_symmetric_and_bounded():
    unit = bulk("Cu", "fcc", 3.61, cubic=True)
    for atoms in _of("strained"):
        strain = np.linalg.solve(unit.cell.array, atoms.cell.array) - np.eye(3)
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)
        assert 0 < np.abs(strain).max() <= 0.1


def test_volume_scan_ends_where_asked():
    volumes = [atoms.get_volume() / 3.61**3 for atoms in _of("volume_scan")]
    np.testing.assert_allclose(volumes, np.linspace(0.8, 1.4, 5), rtol=1e-12)


def test_vacancy_surface_alloy():
    assert [len(atoms) for atoms in _of("vacancy")] == [30, 30]
    for slab in _of("surface"):
        assert slab.cell.lengths()[2] - np.ptp(slab.positions[:, 2]) == pytest.approx(16.0, abs=0.1)
    for alloy in _of("substituted"):
        assert alloy.symbols.count("Au") == 4
        assert alloy.symbols.count("Cu") == 12


def test_dimers_span_the_range():
    lengths = [atoms.get_distance(0, 1) for atoms in _of("dimers")]
    np.testing.assert_allclose(lengths, np.tile(np.linspace(2, 5, 4), 2))
    assert str(_of("dimers")[-1].symbols) == "CuI"


def test_random_structures_keep_their_distances():
    for atoms in _of("clusters"):
        assert not too_short(atoms, minimum_distances(["Li"]))
        assert not atoms.pbc.any()
    stated = {"Cu-I": 2.4, "Cu": 2.2, "I-I": 3.0}
    spec = [{"kind": "random_packed", "composition": {"Cu": 8, "I": 8}, "minimum_distance": stated, "count": 3}]
    spec[0]["volume_per_atom"] = 45.0
    for atoms in generate(spec, 7):
        found = shortest(atoms)
        assert found[("Cu", "I")] >= 2.4
        assert found[("Cu", "Cu")] >= 2.2
        assert found.get(("I", "I"), 9.0) >= 3.0


def test_base_from_file_and_user_files(tmp_path):
    write(tmp_path / "two.extxyz", [bulk("Cu"), bulk("Al")])
    spec = [
        {"kind": "rattled", "structure": "two.extxyz", "count": 2},
        {"kind": "rattled", "structure": {"file": "two.extxyz", "index": 1}, "count": 1},
        {"kind": "files", "paths": ["two.extxyz"]},
    ]
    found = generate(spec, 0, base_directory=tmp_path)
    assert [str(atoms.symbols) for atoms in found] == ["Cu", "Cu", "Al", "Al", "Al", "Cu", "Al"]
    assert found[-1].info["source"] == "two.extxyz#1"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "ratled", "structure": CU}, "did you mean 'rattled'"),
        ({"kind": "rattled", "structure": CU, "amplitud": 0.1}, "did you mean 'amplitude'"),
        ({"kind": "rattled", "structure": {"bulk": "Cu", "cristal": "fcc"}}, "did you mean 'crystal'"),
        ({"kind": "rattled"}, "'structure' is missing"),
        ({"kind": "rattled", "structure": CU, "count": -1}, "count: must be a non-negative integer, found -1"),
        (
            {"kind": "rattled", "structure": CU, "amplitude": "big"},
            "amplitude: must be a non-negative number .A. or a list",
        ),
        (
            {"kind": "rattled", "structure": CU, "supercell": 3, "amplitude": 5.0},
            "had distances that are too short",
        ),
        ({"kind": "strained", "structure": {"molecule": "H2O"}}, "periodic"),
        ({"kind": "strained", "structure": CU, "strain": 5}, "0.05 is 5 %"),
        ({"kind": "vacancy", "structure": CU, "vacancies": 4}, "larger supercell"),
        ({"kind": "dimers", "pairs": ["Qq-Cu"]}, "not an element pair"),
        ({"kind": "random_packed", "composition": {"Cu": 8}, "volume_per_atom": 2.0}, "do not fit"),
        ({"kind": "files", "paths": ["absent.xyz"]}, "no such file"),
        ({"structure": CU}, "no 'kind'"),
        ("rattled", "not a mapping"),
    ],
)
def test_wrong_requests_say_what_is_wrong(entry, message):
    with pytest.raises(errors.AceError, match=message):
        generate([entry], 0)


def test_pickles_that_are_no_data_frames_are_refused(tmp_path):
    for name in ("frames.pckl.gzip", "frames.pkl", "frames.data"):
        (tmp_path / name).write_bytes(pickle.dumps([print]))
        with pytest.raises(
            errors.AceError, match=r"it wants builtins\.print.*nothing in it was run.*energy=e, forces=f"
        ):
            read_files(tmp_path / name)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "rattled", "structure": CU, "supercell": 300}, r"300 makes 1\.08e\+08 atoms of 4, at most 200000"),
        ({"kind": "supercells", "structure": CU, "sizes": [[10**6, 10**6, 1]]}, r"makes 4e\+12 atoms"),
        ({"kind": "clusters", "composition": {"Li": 4}, "count": 3000}, "3000 structures are asked for, at most 2000"),
        ({"kind": "clusters", "composition": {"Li": 3000}}, "3000 atoms are asked for; at most 100"),
        ({"kind": "random_packed", "composition": {"Li": 10**12}}, "at most 2000 can be drawn at random"),
    ],
)
def test_requests_that_would_never_end(entry, message):
    with pytest.raises(errors.AceError, match=message):
        generate([entry])


def test_an_at_sign_belongs_to_the_name(tmp_path):
    write(tmp_path / "T", bulk("Cu"), format="extxyz")
    write(tmp_path / "T2.extxyz", [bulk("Al"), bulk("Al", cubic=True)], format="extxyz")
    (tmp_path / "T2.extxyz").rename(tmp_path / "T@1.extxyz")
    assert [len(a) for a in read_files("T@1.extxyz", base_directory=tmp_path)] == [1, 4]
    assert [len(a) for a in read_files("T@1.extxyz", index=-1, base_directory=tmp_path)] == [4]


def test_files_with_numbers_that_are_not_finite(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nCu 0 nan 0\n")
    with pytest.raises(errors.AceError, match=r"a\.xyz, structure 0: the position of atom 0 is not finite"):
        read_files("a.xyz", base_directory=tmp_path)
