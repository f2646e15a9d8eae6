"""AcePotentialData and ActiveSetData: attributes, checks, which set belongs to which potential."""

from __future__ import annotations

import io

import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.plugins import DataFactory

from aiida_aceal.ace import AceError, AcePotential
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.potential import AcePotentialData, basis_hash, potential_hash


def asi(writer=np.savez, **arrays) -> io.BytesIO:
    buffer = io.BytesIO()
    writer(buffer, **arrays)
    buffer.seek(0)
    return buffer


def test_entry_points():
    assert DataFactory("aceal.potential") is AcePotentialData
    assert DataFactory("aceal.active_set") is ActiveSetData


def test_potential_round_trip(small_potential, tmp_path):
    potential = small_potential(elements=("Ni", "Al"), n_density=2).with_reference_energies({"Al": -1.5, "Ni": 2.0})
    node = AcePotentialData(potential=potential).store()
    node = orm.load_node(node.pk)
    assert node.elements == ["Al", "Ni"]
    assert node.n_functions == potential.n_functions
    assert node.n_densities == {"Al": 2, "Ni": 2}
    assert node.cutoff == 5.0
    assert node.embedding == dict.fromkeys(["Al", "Ni"], "FinnisSinclairShiftedScaled")
    assert node.radial_type == ["SBessel"]
    assert node.base.attributes.get("max_rank") == 3
    assert node.is_fitted
    assert node.reference_energies == {"Al": -1.5, "Ni": 2.0}
    back = node.get_potential()
    assert isinstance(back, AcePotential)
    assert potential_hash(back) == potential_hash(potential)
    path = tmp_path / "pot.yaml"
    path.write_text(node.content)
    for again in (AcePotentialData(file=path), AcePotentialData(file=path.open("rb"))):
        assert again.base.attributes.all == node.base.attributes.all
    assert node._exportcontent("yaml")[0].decode() == node.content


def test_hashes_tell_basis_from_coefficients(small_potential):
    fitted, other = small_potential(seed=0), small_potential(seed=1)
    assert basis_hash(fitted) == basis_hash(other) == basis_hash(small_potential(scale=0.0))
    assert potential_hash(fitted) != potential_hash(other)
    assert basis_hash(fitted) != basis_hash(small_potential(cutoff=5.5))
    assert not AcePotentialData(potential=small_potential(scale=0.0)).is_fitted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no 'species' list"),
        ("species: [", "not valid YAML"),
        ("elements: [Cu]\nE0: [0]\n", "not a B-basis potential"),
    ],
)
def test_bad_potential(text, message):
    with pytest.raises(AceError, match=message):
        AcePotentialData(file=io.BytesIO(text.encode()))


def test_bad_potential_files(tmp_path, small_potential):
    with pytest.raises(AceError, match=r"none\.yaml: no such file"):
        AcePotentialData(file=tmp_path / "none.yaml")
    (tmp_path / "a.yace").write_text("x")
    with pytest.raises(AceError, match=r"a\.yace: a C-tilde potential cannot be refitted"):
        AcePotentialData(file=tmp_path / "a.yace")
    text = small_potential().to_yaml().replace("SBessel", "Unheard")
    with pytest.raises(AceError, match="unknown radial type radbase='Unheard'"):
        AcePotentialData(file=io.BytesIO(text.encode()))
    with pytest.raises(AceError, match="not a text file"):
        AcePotentialData(file=io.BytesIO(b"\xff\xfe\x00\x81"))
    with pytest.raises(ValidationError):
        AcePotentialData().store()
    with pytest.raises(ValueError, match="not both"):
        AcePotentialData(potential=small_potential(), file=tmp_path / "none.yaml")


def test_active_set(cu_potential):
    potential = cu_potential().store()
    size = potential.n_functions["Cu"]
    inverse = np.random.default_rng(0).normal(size=(size, size))
    places = [[0, 3], [1, 2], [-1, -1]]
    facts = {"rank": size - 1, "log_volume": -np.inf, "environments": 80, "active_environments": places}
    report = {"kind": "linear", "passes": 3, "tolerance_reached": 1.001, "elements": {"Cu": facts}}
    node = ActiveSetData(file=asi(Cu=inverse), report=report, potential=potential, structures=["aa", "bb"]).store()
    node = orm.load_node(node.pk)
    assert node.elements == ["Cu"]
    assert node.sizes == {"Cu": size}
    assert node.kind == "linear"
    assert node.rank == {"Cu": size - 1}
    assert node.log_volume == {"Cu": None}
    assert node.base.attributes.get("tolerance_reached") == 1.001
    assert node.base.attributes.get("n_environments") == {"Cu": 80}
    assert node.report["passes"] == 3
    assert node.environments == {"Cu": [["aa", 3], ["bb", 2], [None, -1]]}
    assert np.array_equal(node.get_inverses()["Cu"], inverse)
    with node.as_file() as path:
        assert path.read_bytes() == node.content
    assert node.check_potential(potential) is None
    assert node.check_potential(cu_potential(scale=0.0)) is None, "a linear set fits any coefficients"
    assert "made for another potential" in node.check_potential(cu_potential(cutoff=5.5))


def test_active_set_of_unknown_origin(cu_potential):
    """Without a stored potential the sizes decide."""
    potential = cu_potential(n_density=2)
    size = potential.n_functions["Cu"]
    node = ActiveSetData(file=asi(Cu=np.eye(size))).store()
    assert node.check_potential(potential) is None
    assert "belongs to another potential" in ActiveSetData(file=asi(Cu=np.eye(size + 1))).check_potential(potential)
    assert "is for Ni" in ActiveSetData(file=asi(Ni=np.eye(size))).check_potential(potential)


def test_full_active_set_needs_its_coefficients(cu_potential):
    potential = cu_potential(n_density=2)
    size = 2 * potential.n_functions["Cu"]
    node = ActiveSetData(file=asi(Cu=np.eye(size)), potential=potential)
    assert node.kind == "full"
    assert node.check_potential(potential) is None
    assert "other coefficients" in node.check_potential(cu_potential(n_density=2, seed=1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (io.BytesIO(b"not a zip"), "not a readable archive"),
        (asi(), "holds no element"),
        (asi(Cu=np.eye(3)[:, :2]), r"expected a float64 square"),
        (asi(Cu=np.eye(3, dtype=np.float32)), "expected a float64 square"),
        (asi(Cu=np.asfortranarray(np.arange(9.0).reshape(3, 3))), "Fortran order"),
        (asi(Cu=np.full((2, 2), np.nan)), "NaN or infinity"),
        (asi(np.savez_compressed, Cu=np.eye(3)), "compressed"),
    ],
)
def test_bad_active_set(content, message):
    with pytest.raises(AceError, match=message):
        ActiveSetData(file=content)


def test_active_set_of_another_potential_is_refused(cu_potential):
    with pytest.raises(AceError, match="belongs to another potential"):
        ActiveSetData(file=asi(Cu=np.eye(5)), potential=cu_potential())
    with pytest.raises(ValidationError):
        ActiveSetData().store()
