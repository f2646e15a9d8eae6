"""ConfigurationsData: content, identity, merging, files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError
from aiida.plugins import DataFactory
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from aiida_aceal.ace import AceError
from aiida_aceal.common.configurations import configuration_hash, get_labels, read_configurations
from aiida_aceal.data.dataset import ConfigurationsData


def test_entry_point():
    assert DataFactory("aceal.dataset") is ConfigurationsData


def test_round_trip_through_the_store(cu_atoms):
    cells = [*cu_atoms(3), molecule("H2O"), bulk("CuI", "zincblende", a=6.05)]
    cells[3].info.update({"reason": "seen", "score": np.float64(1.5), "list": np.arange(3)})
    cells[3].set_constraint(FixAtoms([0]))
    cells[4].arrays["gamma"] = np.array([0.5, 7.0])
    cells[4].info["source"] = "hand"
    node = ConfigurationsData.from_atoms(cells, source="mixed").store()
    node = orm.load_node(node.pk)
    assert len(node) == 5
    assert node.elements == ["Cu", "H", "I", "O"]
    assert node.sizes.tolist() == [4, 4, 4, 3, 2]
    attributes = node.base.attributes.all
    assert attributes["n_atoms"] == 17
    assert (attributes["n_energy"], attributes["has_energy"], attributes["n_forces"]) == (3, False, 3)
    assert attributes["gamma_max"] == 7.0
    assert node.gamma_max.tolist() == [-np.inf] * 4 + [7.0]
    assert not node.has_labels("energy")
    back = node.to_atoms()
    for before, after in zip(cells, back):
        assert np.array_equal(before.positions, after.positions)
        assert np.array_equal(before.numbers, after.numbers)
        assert np.array_equal(before.cell, after.cell)
        assert np.array_equal(before.pbc, after.pbc)
        assert after.info["aceal_hash"] == configuration_hash(before)
        for x, y in zip(get_labels(before), get_labels(after)):
            assert (x is None) == (y is None)
            assert x is None or np.array_equal(x, y)
    assert [a.info["source"] for a in back] == ["mixed"] * 4 + ["hand"]
    assert back[3].info["score"] == 1.5
    assert back[3].info["list"] == [0, 1, 2]
    assert back[3].constraints[0].index.tolist() == [0]
    assert "gamma" not in back[3].arrays
    assert back[4].arrays["gamma"].tolist() == [0.5, 7.0]
    assert [a.info["aceal_hash"] for a in back] == node.hashes


def test_infos_are_not_in_the_data_base(cu_atoms):
    node = ConfigurationsData.from_atoms(cu_atoms(2), infos=[{"reason": "a"}, {"reason": "b"}]).store()
    assert [i["reason"] for i in node.infos] == ["a", "b"]
    assert "reason" not in str(node.base.attributes.all)


def test_extend_skips_duplicates_and_prefers_labels(cu_atoms):
    bare = cu_atoms(3, labelled=False)
    first = ConfigurationsData.from_atoms(bare, source="bare")
    second = ConfigurationsData.from_atoms([*cu_atoms(3)[1:], *cu_atoms(2, seed=1)], source="labelled")
    both = first.extend(second)
    assert len(both) == 5
    assert len(set(both.hashes)) == 5
    assert [get_labels(a)[0] is not None for a in both.to_atoms()] == [False, True, True, True, True]
    assert [i["source"] for i in both.infos] == ["bare"] + ["labelled"] * 4
    assert len(ConfigurationsData.merge([first, second], skip_duplicates=False)) == 7
    assert len(both.extend(both)) == 5


def test_select_and_slice(cu_configurations):
    node = cu_configurations(5)
    assert node.select([3, 0]).hashes == [node.hashes[3], node.hashes[0]]
    assert node[1:3].hashes == node.hashes[1:3]
    assert configuration_hash(node[-1]) == node.hashes[-1]
    with pytest.raises(IndexError, match="configuration 5 of 5"):
        node.to_atoms([5])


def test_files(cu_configurations, tmp_path):
    node = cu_configurations(3).store()
    node.write_extxyz(tmp_path / "a.extxyz")
    read = read_configurations(tmp_path / "a.extxyz", require=("energy", "forces", "stress"))
    assert [configuration_hash(a) for a in read] == node.hashes
    again = ConfigurationsData.from_atoms(read)
    assert again.hashes == node.hashes
    assert np.array_equal(again.get_array("forces"), node.get_array("forces"))
    buffer = io.StringIO()
    node.write_extxyz(buffer, indices=[2])
    assert buffer.getvalue().startswith("4\n")
    assert buffer.getvalue().count("Lattice") == 1
    content, _ = node._exportcontent("extxyz")
    assert content.decode() == (tmp_path / "a.extxyz").read_text()


def test_same_content_same_node_hash(cu_configurations):
    """Caching needs that equal content gives equal node hashes."""
    assert (
        cu_configurations(2).store().base.caching.compute_hash()
        == cu_configurations(2).store().base.caching.compute_hash()
    )
    assert (
        cu_configurations(2).store().base.caching.compute_hash()
        != cu_configurations(2, seed=1).store().base.caching.compute_hash()
    )


def test_query(cu_configurations):
    node = cu_configurations(7, source="only here").store()
    query = orm.QueryBuilder().append(
        ConfigurationsData,
        filters={
            "attributes.n_configurations": {">": 5},
            "attributes.source": "only here",
            "attributes.elements": {"contains": ["Cu"]},
            "attributes.has_forces": True,
        },
    )
    assert query.one()[0].uuid == node.uuid


def test_bad_input(cu_atoms):
    with pytest.raises(ValueError, match="at least one configuration"):
        ConfigurationsData.from_atoms([])
    with pytest.raises(ValueError, match="1 infos were given for 2"):
        ConfigurationsData.from_atoms(cu_atoms(2), infos=[{}])
    (bad,) = cu_atoms(1)
    bad.calc.results["forces"][3, 0] = np.nan
    with pytest.raises(AceError, match="configuration 0 of vasp: the force of atom 3 is not finite"):
        ConfigurationsData.from_atoms([bad], source="vasp")
    with pytest.raises(ValidationError, match="incomplete ConfigurationsData"):
        ConfigurationsData().store()
    node = ConfigurationsData.from_atoms(cu_atoms(2))
    node.set_array("energies", np.zeros(5))
    with pytest.raises(ValidationError, match="array 'energies' has shape"):
        node.store()


def test_nothing_is_computed(monkeypatch):
    """A live calculator on the atoms must not start: only stored results are labels."""
    from ase.calculators.emt import EMT

    atoms = bulk("Cu")
    atoms.calc = EMT()
    node = ConfigurationsData.from_atoms([atoms])
    assert node.base.attributes.get("n_energy") == 0


def test_ten_thousand_frames_stay_small():
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(3000):
        atoms = Atoms("Li4", positions=rng.random((4, 3)) * 5, cell=[9, 9, 9], pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=rng.normal(size=(4, 3)))
        frames.append(atoms)
    node = ConfigurationsData.from_atoms(frames).store()
    assert len(str(node.base.attributes.all)) < 1000
    assert len(node.to_atoms(range(0, 3000, 500))) == 6
