"""Numbers that are not finite are refused by a class of their own, whatever the words of the message."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from aiida_aceal.ace import AcePotential
from aiida_aceal.common.archives import check_inverse, read_json
from aiida_aceal.common.configurations import read_configurations
from aiida_aceal.common.errors import AceError, NotFiniteError, refuse_not_finite
from aiida_aceal.fitting import Ensemble
from aiida_aceal.uncertainty import ActiveSet, from_rows

FRAME = (
    '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:forces:R:3 energy={e} pbc="T T T"\n'
    "Cu {x} 0 0 {f} 0 0\n"
)


@pytest.mark.parametrize("values", [{"e": "nan"}, {"x": "inf"}, {"f": "nan"}])
def test_configurations(tmp_path, values):
    (tmp_path / "a.extxyz").write_text(FRAME.format(**{"e": -1.0, "x": 0.0, "f": 0.0, **values}))
    with pytest.raises(NotFiniteError, match=r"a\.extxyz, structure 0"):
        read_configurations(tmp_path / "a.extxyz")


def test_other_mistakes_are_not_of_that_class(tmp_path):
    # "finite" in a name decided the exit code once
    (tmp_path / "finite nan.extxyz").write_text("1\n\nQq 0 0 0\n")
    with pytest.raises(AceError) as caught:
        read_configurations(tmp_path / "finite nan.extxyz")
    assert not isinstance(caught.value, NotFiniteError)


@pytest.mark.parametrize("word", [".nan", ".inf", "1e999"])
def test_potentials(tmp_path, small_potential, word):
    text = small_potential(scale=0.0).to_yaml()
    assert "rcutij: 5" in text
    (tmp_path / "p.yaml").write_text(text.replace("rcutij: 5", f"rcutij: {word}  #"))
    with pytest.raises(NotFiniteError, match=r"p\.yaml"):
        AcePotential.read(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text(text.replace("rcutij: 5", "rcutij: finite  #"))
    with pytest.raises(AceError, match="finite") as caught:
        AcePotential.read(tmp_path / "p.yaml")
    assert not isinstance(caught.value, NotFiniteError)


def test_active_sets(tmp_path):
    from_rows({"Cu": np.eye(3)}).save(tmp_path / "a.asi")
    with np.load(tmp_path / "a.asi", allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    name = next(iter(arrays))
    arrays[name] = np.full_like(arrays[name], np.nan)
    with open(tmp_path / "b.asi", "wb") as handle:
        np.savez(handle, **arrays)
    with pytest.raises(NotFiniteError, match=r"b\.asi"):
        ActiveSet.load(tmp_path / "b.asi")
    with pytest.raises(AceError) as caught:
        check_inverse(np.zeros((2, 2)), "finite")
    assert not isinstance(caught.value, NotFiniteError)


def test_ensembles(tmp_path, small_potential):
    import zipfile

    Ensemble([small_potential(seed=k) for k in (0, 1)]).save(tmp_path / "e.zip")
    with zipfile.ZipFile(tmp_path / "e.zip") as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in entries if name.endswith(".yaml"))
    entries[name] = entries[name].replace(b"rcutij: 5", b"rcutij: .nan  #")
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for key, content in entries.items():
            archive.writestr(key, content)
    with pytest.raises(NotFiniteError, match=r"f\.zip"):
        Ensemble.load(tmp_path / "f.zip")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": [1, {"b": 1e999}]}', '{"a": -Infinity}'])
def test_json(text):
    with pytest.raises(NotFiniteError, match=r"r\.json"):
        read_json(text.encode(), "r.json")


def test_reports():
    refuse_not_finite({"a": [1.0, {"b": None, "c": "nan"}]}, "report")
    with pytest.raises(NotFiniteError, match=r"report\.points\[1\]\.rmse is nan"):
        refuse_not_finite({"points": [{"rmse": 1.0}, {"rmse": float("nan")}]}, "report")


def test_engine(small_potential):
    from aiida_aceal.ace import AceModel

    with pytest.raises(NotFiniteError):
        AceModel(small_potential()).evaluate(Atoms("Cu2", [[0, 0, 0], [np.nan, 0, 2]], cell=[9, 9, 9], pbc=True))
