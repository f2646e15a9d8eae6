"""Extrapolation in composition, in a tiny form."""

import numpy as np
import pytest

from aiida_aceal.reproduce.al_ni import decorations, numbers


@pytest.mark.release
def test_study(reproduce, picture):
    text, found = reproduce("al-ni", structures=60, functions=20, cutoff=4.5, members=3)
    assert "grades, seed 1" in text
    for row in found["numbers"]["seeds"]:
        assert row["train"] + row["test"] + row["beyond"] == 60
        assert row["gamma outside train"] == 0.0  # by construction
        assert row["gamma outside beyond"] >= row["gamma outside test"]
        assert row["gamma beyond"] > row["gamma test"]
        assert row["gamma beyond"] > 1.0
    assert len(found["findings"]) == 3
    picture("al-ni")


def test_decorations_are_what_they_say():
    frames = decorations(60, 3)
    assert len(frames) == 60
    assert {a.info["crystal"] for a in frames} == {"fcc", "bcc", "hcp"}
    assert max(map(len, frames)) == 8
    assert min(map(len, frames)) >= 2
    for atoms in frames:
        assert atoms.get_distances(0, range(len(atoms)), mic=True)[1:].min(initial=9.0) > 1.8
    assert decorations(5, 3)[4].positions == pytest.approx(frames[4].positions)


def test_numbers_of_known_grades():
    one = {"role": np.array([0, 0, 1, 2, 2]), "energy": np.array([1, 1, 2, 40, 60]) / 1000,
           "gamma": np.array([0.5, 1.0, 0.9, 3.0, 5.0]), "dE": np.array([1, 1, 1, 1, 9.0])}  # fmt: skip
    row = numbers(one, {"gamma": 1.001, "dE": 2.0})
    assert row["energy error beyond"] == pytest.approx(50.0)
    assert row["gamma outside beyond"] == 1.0
    assert row["gamma outside test"] == 0.0
    assert row["dE outside beyond"] == 0.5
