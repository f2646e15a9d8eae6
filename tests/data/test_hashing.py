"""Hashes of our data nodes: computed once, and equal to what AiiDA would compute."""

from __future__ import annotations

import pytest
from aiida.orm.nodes.caching import NodeCaching

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.ensemble import EnsembleData
from aiida_aceal.data.hashing import StoredHashCaching
from aiida_aceal.data.potential import AcePotentialData


def test_all_our_data_have_it():
    for cls in (ActiveSetData, ConfigurationsData, EnsembleData, AcePotentialData):
        assert cls._CLS_NODE_CACHING is StoredHashCaching


def test_equal_data_have_equal_hashes_and_nothing_is_read_twice(cu_atoms, monkeypatch):
    first = ConfigurationsData.from_atoms(cu_atoms(3)).store()
    again = ConfigurationsData.from_atoms(cu_atoms(3)).store()
    other = ConfigurationsData.from_atoms(cu_atoms(4)).store()
    fresh = NodeCaching(first).compute_hash()
    assert first.base.caching.compute_hash() == again.base.caching.compute_hash() == fresh
    assert other.base.caching.compute_hash() != fresh

    def refuse(self):
        raise AssertionError("the files are read again")

    monkeypatch.setattr(NodeCaching, "get_objects_to_hash", refuse)
    assert first.base.caching.compute_hash() == fresh
    with pytest.raises(AssertionError):
        first.base.caching.rehash()


def test_a_hash_that_was_taken_away_is_computed(cu_atoms):
    node = ConfigurationsData.from_atoms(cu_atoms(2)).store()
    known = node.base.caching.get_hash()
    node.base.caching.clear_hash()
    assert node.base.caching.get_hash() is None
    assert node.base.caching.compute_hash() == known
    node.base.caching.rehash()
    assert node.base.caching.get_hash() == known
