"""Pickled data frames of pacemaker: what pandas writes is read, and nothing that a pickle says is ever run."""

import gzip
import os
import pickle
import pickletools
import subprocess

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_aceal.common.configurations import get_labels, read_configurations
from aiida_aceal.common.dataframes import ALLOWED
from aiida_aceal.common.errors import AceError


def structures(count=3):
    found = []
    for k in range(count):
        atoms = bulk("Cu", cubic=True) if k % 2 else bulk("NaCl", "rocksalt", a=5.6)
        atoms.rattle(0.1, seed=k)
        atoms.info["any"] = {"k": [k]}
        atoms.set_constraint(FixAtoms([0]))
        if k:
            atoms.calc = SinglePointCalculator(atoms, energy=-99.0, forces=np.zeros((len(atoms), 3)))
        found.append(atoms)
    return found


def frame(as_list=False):
    atoms = structures()
    forces = [np.random.default_rng(k).normal(size=(len(a), 3)) for k, a in enumerate(atoms)]
    return pd.DataFrame(
        {
            "name": ["a", "b", "c"],
            "ase_atoms": atoms,
            "energy": [-1.0, -2.0, -3.5],
            "energy_corrected": [0.5, 0.25, np.float64(0.125)],
            "forces": [f.tolist() for f in forces] if as_list else forces,
            "NUMBER_OF_ATOMS": [len(a) for a in atoms],
        }
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("change", ["as it is", "lists", "part", "index", "not zipped"])
def test_frames_are_read(tmp_path, protocol, change):
    data = frame(change == "lists")
    data = {"part": data[data.energy < -1.5], "index": data.set_index("name")}.get(change, data)
    content = pickle.dumps(data, protocol)
    path = tmp_path / "train.pckl.gzip"
    path.write_bytes(content if change == "not zipped" else gzip.compress(content))
    said = []
    found = read_configurations(path, say=said.append, require=("energy", "forces"))
    assert len(found) == len(data)
    for atoms, (_, row) in zip(found, data.iterrows()):
        assert np.array_equal(atoms.positions, row.ase_atoms.positions)
        assert np.array_equal(atoms.numbers, row.ase_atoms.numbers)
        assert np.array_equal(atoms.cell, row.ase_atoms.cell)
        assert np.array_equal(atoms.pbc, row.ase_atoms.pbc)
        energy, forces, _ = get_labels(atoms)
        assert energy == row.energy_corrected
        assert np.array_equal(forces, np.array(row.forces))
    assert said == [f"{path}: energy from the column energy_corrected, forces from the column forces"]


def test_another_column_can_be_named(tmp_path):
    frame().to_pickle(tmp_path / "a.pckl.gzip", compression="gzip", protocol=4)
    found = read_configurations(tmp_path / "a.pckl.gzip", energy_key="energy")
    assert [get_labels(atoms)[0] for atoms in found] == [-1.0, -2.0, -3.5]
    with pytest.raises(AceError, match=r"no column 'E' for energy_key; columns: .*energy_corrected"):
        read_configurations(tmp_path / "a.pckl.gzip", energy_key="E")
    frame().drop(columns="ase_atoms").to_pickle(tmp_path / "a.pckl.gzip", compression="gzip")
    with pytest.raises(AceError, match="no column ase_atoms"):
        read_configurations(tmp_path / "a.pckl.gzip")


class Evil:
    """Calls whatever it is told to, when it is unpickled."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch ran"), "posix.system"),
        ((eval, "open('ran', 'w')"), "builtins.eval"),
        ((exec, "open('ran', 'w')"), "builtins.exec"),
        ((subprocess.run, ["touch", "ran"]), "subprocess.run"),
        ((np.load, "ran"), "numpy.load"),
        ((pd.read_pickle, "ran"), "pandas.read_pickle"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_anything_else_is_refused_by_name(tmp_path, monkeypatch, call, name, protocol):
    monkeypatch.chdir(tmp_path)
    data = frame()
    data["extra"] = [Evil(*call)] * 3
    (tmp_path / "bad.pckl.gzip").write_bytes(gzip.compress(pickle.dumps(data, protocol)))
    with pytest.raises(AceError, match=f"it wants .*{name.split('.')[-1]}, which no data frame of pacemaker needs"):
        read_configurations(tmp_path / "bad.pckl.gzip")
    assert not (tmp_path / "ran").exists()


def test_allowed_names_are_only_records(tmp_path, monkeypatch):
    """A pickle may name getattr and call it; nothing is got, and what it would be called on is refused or inert."""
    monkeypatch.chdir(tmp_path)
    program = b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR(S'ran'\ntR."  # ndarray.tofile('ran')
    pickletools.dis(program, out=(tmp_path / "text").open("w"))
    (tmp_path / "bad.pckl").write_bytes(program)
    with pytest.raises(AceError, match=r"bad\.pckl"):
        read_configurations(tmp_path / "bad.pckl")
    for dotted in (b"cnumpy\nndarray.tofile\n.", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."):
        (tmp_path / "bad.pckl").write_bytes(dotted)
        with pytest.raises(AceError, match=r"numpy\.ndarray\.tofile"):
            read_configurations(tmp_path / "bad.pckl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pckl", "text"]
    assert not {"eval", "exec", "open", "compile", "__import__"} & {name for _, name in ALLOWED}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_frames_end_with_one_message(tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(CONTENTS)))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content) // 2]))]
    path = tmp_path_factory.mktemp("damaged") / "a.pckl"
    path.write_bytes(bytes(content))
    found, message = [], str(path)
    try:
        found = read_configurations(path)
    except AceError as error:
        message = str(error)
    assert str(path) in message
    assert len(found) <= 3


CONTENTS = [pickle.dumps(frame(as_list), protocol) for as_list in (False, True) for protocol in (2, 4, 5)]


@pytest.mark.parametrize("content", [b"x", b"\x80\x04", pickle.dumps([1, 2]), pickle.dumps({"a": [1]}), b""])
def test_what_is_no_frame_is_refused(tmp_path, content):
    (tmp_path / "a.pckl").write_bytes(content)
    with pytest.raises(AceError, match=r"a\.pckl: "):
        read_configurations(tmp_path / "a.pckl")
