"""Errors against indicators, in a tiny form on copper by EMT."""

import numpy as np
import pytest

from aiida_aceal.ace import AceModel
from aiida_aceal.reproduce import grades
from aiida_aceal.reproduce.indicators import numbers


@pytest.mark.unproven
def test_study(reproduce, copper_data, picture):
    tiny = {"train": 14, "test": 5, "wide": 8, "sizes": [8, 20], "members": 3, "cutoff": 4.5, "energy_limit": 0.3}
    text, found = reproduce("indicators", copper_data, **tiny)
    assert "[6/6] grades, 20 functions, seed 0" in text
    small, large = found["numbers"]["bases"]
    assert (small["functions"], large["functions"]) == (8, 20)
    assert large["train_rmse"] < small["train_rmse"]
    for row in (small, large):
        for error in ("forces", "energy"):  # a higher threshold misses more and alarms less
            pairs = [row[f"gamma {t:g} {error}"] for t in grades.THRESHOLDS]
            for side, order in ((0, 1), (1, -1)):
                values = [order * pair[side] for pair in pairs if pair[side] is not None]
                assert values == sorted(values)
        assert row["rank gamma, forces"] > 0.3
    assert "site energies" in small
    assert "site energies" not in large
    for name in ("errors", "histograms", "site-energies"):
        picture(f"indicators-{name}")
    assert [t["title"][:6] for t in found["tables"]] == ["Missed", "Rank c"]


def test_rates_of_known_grades():
    errors, gamma = np.array([1.0, 1.0, 9.0, 9.0, 9.0, 9.0]), np.array([0.5, 3.0, 0.5, 3.0, 3.0, 3.0])
    assert grades.rates(errors, 5.0, gamma, 1.0) == (0.25, 0.5)
    assert grades.rates(errors, 5.0, gamma, 4.0) == (1.0, 0.0)
    assert grades.rates(errors[:2], 5.0, gamma[:2], 1.0) == (None, 0.5)


def test_learnt_structures_count_in_no_rate():
    n = 12
    found = {"forces": np.full(n, 0.01), "energy": np.full(n, 0.001), "gamma": np.full(n, 0.5), "dE": np.full(n, 0.1),
             "dF": np.full(n, 0.1), "role": np.array([0] * 8 + [1, 1, 2, 2]), "vanish": np.zeros(n, bool)}  # fmt: skip
    found["forces"][8:10] = 1.0
    row = numbers(found, {"gamma": 1.0, "dF": 0.2, "dE": 0.2})
    assert row["outliers"] == 2
    assert row["gamma 1 forces"] == [1.0, 0.0]  # both errors have a grade below 1
    assert row["largest inside"] == 1.0
    assert row["inside"] == 4


def test_site_deviation_is_that_of_the_members(small_potential, random_structures):
    members = [small_potential(seed=s) for s in range(3)]
    frames = random_structures(2)
    energies = np.array([AceModel(p).evaluate(frames[1]).energies for p in members])
    expected = np.abs(energies - energies.mean(axis=0)).max()
    assert grades.site_deviation(members, frames)[1] == pytest.approx(expected)
