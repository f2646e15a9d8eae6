"""Selection from a pool, in a tiny form on copper by EMT."""

import numpy as np
import pytest

from aiida_aceal.common.configurations import configuration_hash
from aiida_aceal.common.errors import AceError
from aiida_aceal.reproduce import sources
from aiida_aceal.reproduce.pool import STRATEGIES, conclude, curve, parts
from aiida_aceal.reproduce.pool import PoolForm as Form

TINY = {"train": 8, "test": 4, "wide": 4, "functions": 15, "sizes": [3, 6], "cutoff": 4.5, "energy_limit": 0.3}


@pytest.mark.release
def test_study(reproduce, copper_data, picture):
    text, found = reproduce("pool", copper_data, **TINY)
    assert "all of the pool learnt, seed 0" in text
    rows = found["numbers"]["rows"]
    assert [r["strategy"] for r in rows] == ["start", *(name for name in STRATEGIES for _ in range(2)), "all"]
    for row in rows[1:-1]:  # all strategies learn the same number of structures
        assert row["structures"] == 8 + row["added"]
        assert 0 <= row["entered"] <= row["added"]
    assert all(row["entered"] == 0 for row in rows if row["strategy"] == "random")
    assert rows[-1]["structures"] == 36 - 8
    assert rows[-1]["force RMSE"] < rows[0]["force RMSE"]
    picture("pool")


def test_start_pool_and_test_set_share_nothing(copper_data):
    frames = sources.read("Cu-II", copper_data)
    form = Form(**{**TINY, "sizes": (3, 6)})
    sets = [{configuration_hash(a) for a in part} for part in parts(frames, form, 1)]
    assert sum(map(len, sets)) == len(set().union(*sets)) == len(frames)
    with pytest.raises(AceError, match="the pool has 20 structures"):
        parts(frames, form.replace(sizes=(30,)), 1)


def made(factors):
    """Rows of one seed whose errors are these factors of a common curve."""
    rows = [{"strategy": "start", "seed": 0, "atoms": 10, "structures": 5, "force RMSE": 100.0,
             "largest force error": 900.0, "energy RMSE": 9.0}]  # fmt: skip
    for name, factor in factors.items():
        for size, value in ((10, 50.0), (20, 30.0)):
            rows.append({"strategy": name, "seed": 0, "added": size, "entered": size, "atoms": size, "structures": size,
                         "force RMSE": factor * value, "largest force error": 9 * factor * value,
                         "energy RMSE": 1.0})  # fmt: skip
    return [*rows, {**rows[0], "strategy": "all", "force RMSE": 20.0}]


def test_verdicts_follow_the_numbers():
    form = Form(sizes=(10, 20))
    good = conclude(made({"random": 1.5, "CUR": 2.0, "CUR, scaled": 1.0, "MaxVol": 0.7}), form)
    assert [f.verdict for f in good.findings][:2] == ["yes", "yes"]
    assert good.findings[3].verdict == "yes"
    assert good.findings[4].verdict == "yes"  # 21 against 20
    bad = conclude(made({"random": 1.0, "CUR": 0.9, "CUR, scaled": 1.0, "MaxVol": 2.0}), form)
    assert [f.verdict for f in bad.findings] == ["no"] * 5
    assert curve(made({"random": 1.0}), "random", "force RMSE", (10, 20)) == pytest.approx(np.array([50.0, 30.0]))
