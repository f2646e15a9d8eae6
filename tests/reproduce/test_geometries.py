"""Indicators along simple paths, in a tiny form."""

import numpy as np
import pytest

from aiida_aceal.reproduce.geometries import NEIGHBOUR, known_range, numbers, paths
from aiida_aceal.reproduce.geometries import GeometriesForm as Form


@pytest.mark.release
def test_study(reproduce, copper_data, picture):
    tiny = {"train": 14, "functions": 20, "cutoff": 4.5, "members": 3, "points": 20, "energy_limit": 0.3}
    _, found = reproduce("geometries", copper_data, **tiny)
    row = found["numbers"]["seeds"][0]
    assert row["known from"] < NEIGHBOUR < row["known to"]
    # beyond the cutoff there is nothing to grade or to disagree on, unless emptiness is looked at
    assert row["blind, gamma"] == pytest.approx(0.0, abs=1e-6)
    assert row["blind, dE"] == pytest.approx(0.0, abs=1e-6)
    assert row["blind, gamma with emptiness"] > 1.0
    assert row["outside, gamma"] > 0.5
    assert row["approach, gamma above 1 below"] <= NEIGHBOUR
    picture("geometries")


def test_what_is_learnt_ends_where_the_energy_does():
    found = {"path": np.array([0, 0, 0, 0, 1]), "distance": np.array([2.0, 2.5, 3.0, 5.0, 1.0]),
             "reference": np.array([1.0, 0.0, 0.3, 3.0, 0.1])}  # fmt: skip
    assert known_range(found, 0.4) == [2.5, 3.0]


def test_paths():
    scan = paths(Form(points=12))
    assert len(scan) == 24
    for atoms in scan:
        nearest = min(atoms.get_distances(0, range(1, len(atoms)), mic=True)) if len(atoms) > 1 else None
        if nearest is not None:
            assert nearest == pytest.approx(atoms.info["distance"], abs=1e-6)
    assert max(a.info["distance"] for a in scan[:12]) > Form().cutoff


def test_numbers_of_a_known_path():
    d = np.array([1.5, 2.0, 2.5, 3.0, 4.0, 8.0])
    zero = np.zeros(12)
    found = {"path": np.array([0] * 6 + [1] * 6), "distance": np.concatenate([d, d]), "known": [2.2, 3.1],
             "without": np.array([9, 3, 0.5, 0.9, 2.0, 0.0] * 2), "with": np.array([9, 3, 0.5, 0.9, 2.0, 7.0] * 2),
             "dE": np.array([9, 3, 0.1, 0.1, 3.0, 0.0] * 2), "dE threshold": 1.0, "force": np.full(12, 1.0),
             "error": np.array([0.9, 0.1, 0.1, 0, 0, 0] * 2), "energy": zero, "reference": zero}  # fmt: skip
    row = numbers(found, 7.0)
    assert row["inside, gamma"] == row["outside, gamma"] == row["inside, dE"] == row["outside, dE"] == 1.0
    assert row["blind, gamma"] == 0.0
    assert row["blind, gamma with emptiness"] == 7.0
    assert row["approach, forces wrong below"] == 1.5
