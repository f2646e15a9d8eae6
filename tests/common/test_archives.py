"""Active sets, local sets and ensembles from outside: what is damaged, encrypted or a bomb is refused by name."""

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_aceal.common.archives import read_arrays
from aiida_aceal.common.errors import AceError
from aiida_aceal.fitting.ensemble import Ensemble
from aiida_aceal.uncertainty import ActiveSet, build_local_active_set
from aiida_aceal.uncertainty.element_set import ElementActiveSet

GOOD = np.array([[2.0, 1.0], [0.5, 1.5]])


def active_set() -> ActiveSet:
    rows = np.zeros((2, 2), dtype=np.int64)
    return ActiveSet({"Cu": ElementActiveSet(GOOD, rows, 2, 1.0), "Zn": ElementActiveSet(GOOD, rows, 2, 1.0)})


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_comment(facts: dict) -> bytes:
    buffer = io.BytesIO(npz(Cu=GOOD))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = json.dumps({"format": "aceal-active-set-1", **facts}).encode()
    return buffer.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Cu.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data)
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(npz(Cu=GOOD))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("Cu.npy", "w") as stream:
        for _ in range(200):
            stream.write(bytes(2**20))
    return buffer.getvalue()


def twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Cu.npy", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("Cu.npy", b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npz(Cu=np.zeros((2, 2))), "the array of Cu holds zeros only, with which every grade is 0"),
        (npz(Cu=np.full((2, 2), 1e200)), r"holds 1\.0e\+200, with which every grade overflows"),
        (npz(Cu=GOOD * np.nan), "NaN or infinity"),
        (npz(Cu=GOOD[:1]), r"shape \(1, 2\), but must be square"),
        (npz(Cu=np.array([["a", "b"], ["c", "d"]])), "must hold numbers"),
        (npz(Cu=GOOD + 1j), "holds complex128, only plain numbers"),
        (npz(), "holds no element"),
        (b"", "not a readable archive"),
        (b"PK\x05\x06" + bytes(10), "not a readable archive"),
        (npz(Cu=GOOD)[:-40], "not a readable archive"),
        (encrypted(), "'Cu.npy' is encrypted"),
        (bomb(), r"would unpack to 200 MiB; this is more than 100 times"),
        (twice(), "'Cu.npy' occurs twice"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000)}\n"), "does not fit its"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 2)}\n"), "ValueError"),
        (header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}\n", b"cos\nsystem\n"), "only plain numbers"),
        (header("(" * 5000), "not a readable archive"),
        (with_comment({"elements": [1]}), "its metadata are damaged"),
        (with_comment({"elements": {"Cu": {"rank": "high"}}}), "its metadata are damaged"),
        (with_comment({"elements": {"Cu": {"active_environments": [1, 2]}}}), "its metadata are damaged"),
        (with_comment({"tolerance": "small"}), "its metadata are damaged"),
    ],
)
def test_bad_active_sets(tmp_path, content, message):
    (tmp_path / "a.asi").write_bytes(content)
    with pytest.raises(AceError, match=message) as caught:
        ActiveSet.load(tmp_path / "a.asi")
    assert str(caught.value).startswith(str(tmp_path / "a.asi"))


def test_arrays_are_read_as_numpy_writes_them():
    plain = {
        "a": GOOD,
        "b": np.asfortranarray(GOOD),
        "c": np.arange(3),
        "d": np.array("text"),
        "e": np.array(["x", "yz"]),
    }
    read = read_arrays(npz(**plain))
    assert not read.packed
    assert set(read.arrays) == set(plain)
    for name, values in plain.items():
        assert np.array_equal(read.arrays[name], values)
        assert read.arrays[name].dtype == values.dtype
    assert read.arrays["b"].flags.f_contiguous


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 10**9}, "1000000000 members; an ensemble has 2 to"),
        ({"members": "two"}, "'two' members"),
        ({"thresholds": [1]}, "AttributeError"),
        ({"thresholds": {"energy": None}}, "TypeError"),
        ({"format": "other"}, "format 'other'"),
        ({"use": "luck"}, "indicator 'luck' is unknown"),
        ({"report": 3}, "TypeError"),
        ({"members": 3}, "member_002"),
    ],
)
def test_bad_ensembles(tmp_path, small_potential, change, message):
    path = tmp_path / "e.zip"
    Ensemble((small_potential(), small_potential())).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["ensemble.json"] = json.dumps({**json.loads(parts["ensemble.json"]), **change}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(AceError, match=message):
        Ensemble.load(path)


def damaged(content: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    result = bytearray(content)
    for place, value in changes:
        result[place % len(result)] = value
    return bytes(result[: len(result) - cut % len(result)]) if cut % 3 == 0 else bytes(result)


CHANGES = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory, small_potential, cu_atoms):
    from aiida_aceal.ace import AceModel

    folder = tmp_path_factory.mktemp("archives")
    potential = small_potential()
    active_set().save(folder / "a.asi")
    build_local_active_set(AceModel(potential, threads=1), cu_atoms(4), clusters=2).save(folder / "l.asi")
    Ensemble((potential, potential)).save(folder / "e.zip")
    return {name: (folder / name).read_bytes() for name in ("a.asi", "l.asi", "e.zip")}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["a.asi", "l.asi", "e.zip"]), CHANGES, st.integers(0, 10**6))
def test_damaged_archives_are_refused_or_finite(files, tmp_path_factory, name, changes, cut):
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(damaged(files[name], changes, cut))
    try:
        found = Ensemble.load(path) if name == "e.zip" else ActiveSet.load(path)
    except AceError:
        return
    if isinstance(found, ActiveSet):
        assert all(np.isfinite(s.inverse).all() and s.inverse.any() for s in found.sets.values())


def test_zip_of_a_later_version_is_refused(files, tmp_path):
    content = bytearray(files["a.asi"])
    content[content.index(b"PK\x01\x02") + 6] = 64  # version needed to extract: 6.4
    (tmp_path / "a.asi").write_bytes(content)
    with pytest.raises(AceError, match=r"a\.asi: is not a readable archive .*version 6\.4"):
        ActiveSet.load(tmp_path / "a.asi")


@pytest.mark.parametrize("key", ["definition", "switch", "clusters"])
def test_local_sets_that_lack_an_entry(files, tmp_path, key):
    with np.load(io.BytesIO(files["l.asi"])) as data:
        arrays = dict(data)
    facts = json.loads(arrays["meta"].tobytes())
    del facts["local"][key]
    arrays["meta"] = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    (tmp_path / "l.asi").write_bytes(npz(**arrays))
    with pytest.raises(AceError, match=f"its metadata are damaged .KeyError: '{key}'"):
        ActiveSet.load(tmp_path / "l.asi")
