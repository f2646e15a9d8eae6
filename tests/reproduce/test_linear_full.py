"""Linear against full grade, in a tiny form on copper by EMT."""

import numpy as np
import pytest

from aiida_aceal.reproduce.linear_full import LinearFullForm as Form
from aiida_aceal.reproduce.linear_full import conclude, numbers


@pytest.mark.release
def test_study(reproduce, copper_data, picture):
    tiny = {"train": 12, "test": 6, "wide": 8, "functions": 12, "evaluations": 5, "cutoff": 4.5, "energy_limit": 0.3}
    text, found = reproduce("linear-full", copper_data, **tiny)
    assert "[5/5] full grades, seed 0" in text
    mean = found["numbers"]["mean"]
    assert mean["structures"] == 14
    assert mean["atoms"] == 14 * 8
    assert mean["outside, linear"] > 0.4  # the wild cells are outside what was learnt
    assert mean["rank correlation of the two"] > 0.5
    assert mean["linear: rank correlation with the force error"] > 0.3
    assert picture("linear-full")[0] > 600
    assert {f["verdict"] for f in found["findings"]} <= {"yes", "partly", "no"}
    again, same = reproduce("linear-full", copper_data, **tiny)
    assert "1 s of computing" in again  # all from the cache
    assert same == found


def test_split_that_leaves_nothing(reproduce, copper_data):
    text, _ = reproduce("linear-full", copper_data, code=2, train=30)
    assert "30 are to be learnt" in text.replace("\n", " ")


def atoms(line, full, error):
    """One structure of one atom for each number, all of them new."""
    n = len(line)
    return {"linear": np.array(line), "full": np.array(full), "error": np.array(error), "structure": np.arange(n),
            "role": np.ones(n, dtype=int)}  # fmt: skip


def test_numbers_on_grades_that_are_known():
    found = numbers(atoms([0.5, 0.8, 3.0, 20.0], [0.6, 1.2, 6.0, 100.0], [0.01, 0.01, 0.02, 0.05]))
    assert found["same side of 1"] == 0.75
    assert found["outside, linear"] == 0.5
    assert found["outside, full"] == 0.75
    assert found["above ten"] == 1
    assert found["full / linear, linear above ten"] == pytest.approx(5.0)
    assert found["full / linear, linear 1 to 10"] == pytest.approx(2.0)
    assert found["linear: median error inside, meV/A"] == pytest.approx(10.0)
    assert found["linear: median error at 5 to 20, meV/A"] == pytest.approx(50.0)


def test_verdicts_follow_the_numbers():
    form = Form()
    good = conclude([atoms([0.5, 0.8, 3.0, 20.0], [0.6, 0.9, 6.0, 100.0], [0.01, 0.01, 0.02, 0.03])], form)
    assert [f.verdict for f in good.findings] == ["yes", "yes", "yes"]
    bad = conclude([atoms([0.5, 0.8, 3.0, 20.0], [1.5, 1.2, 3.0, 10.0], [0.001, 0.001, 0.02, 0.9])], form)
    assert [f.verdict for f in bad.findings] == ["no", "no", "no"]
