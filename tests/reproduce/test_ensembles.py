"""Weak against strong ensembles, in a tiny form on copper by EMT."""

import numpy as np
import pytest

from aiida_aceal.reproduce.ensembles import numbers


@pytest.mark.long
def test_study(reproduce, copper_data, picture):
    tiny = {"train": 12, "test": 5, "wide": 8, "functions": 8, "cutoff": 4.5, "evaluations": 3, "members": 2,
            "energy_limit": 0.3}  # fmt: skip
    text, found = reproduce("ensembles", copper_data, **tiny)
    assert "[4/4] strong deviations, seed 0" in text
    row = found["numbers"]["seeds"][0]
    assert row["structures"] == 13
    assert row["dF: rank correlation of the two"] > 0.0
    assert row["dF: rank correlation with the error, weak"] > 0.0
    picture("ensembles")


def test_numbers_of_known_deviations():
    n = 8
    one = {"role": np.array([0] * 4 + [1] * 4), "vanish": np.zeros(n, bool), "forces": np.arange(1.0, n + 1),
           "energy": np.arange(1.0, n + 1), "dF": np.arange(1.0, n + 1), "dE": np.arange(1.0, n + 1)}  # fmt: skip
    other = {**one, "dF": 3 * one["dF"], "dE": one["dE"][::-1]}
    row = numbers({"weak": one, "strong": other}, {"weak": {"forces": 4.0}, "strong": {}})
    assert row["dF: rank correlation of the two"] == pytest.approx(1.0)
    assert row["dE: rank correlation of the two"] == pytest.approx(-1.0)
    assert row["dF: strong / weak"] == pytest.approx(3.0)
    assert row["dF: missed, weak"] is None or row["dF: missed, weak"] == 0.0
    assert row["dF: missed, strong"] is None  # no threshold, no rate
