"""A hop of a cation, in a tiny form with EMT."""

import numpy as np
import pytest

from aiida_aceal.reproduce.frenkel import STRATEGIES, conclude, cut, hop, minima, numbers
from aiida_aceal.reproduce.frenkel import FrenkelForm as Form


@pytest.mark.release
def test_study(reproduce, picture):
    tiny = {"elements": ["Cu", "Au"], "lattice": 5.6, "repeat": [1, 1, 1], "calculator": "emt", "steps": 60,
            "interval": 3, "first": 4, "added": 4, "functions": 12, "cutoff": 4.5, "points": 7}  # fmt: skip
    text, found = reproduce("frenkel", **tiny)
    assert "viability: hop, seed 0" in text
    rows = found["numbers"]["rows"]
    assert [row["strategy"] for row in rows] == list(STRATEGIES)
    assert {row["structures"] for row in rows} == {8}
    assert len(found["numbers"]["reference"]) == 7
    assert found["numbers"]["reference"][0] == 0.0
    picture("frenkel")


def test_the_hop_ends_on_an_empty_site_of_the_same_kind():
    form = Form(points=5)
    path = hop(form)
    assert [a.info["x"] for a in path] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for atoms in (path[0], path[-1]):  # four anions around the cation, at the bond length
        d = [atoms.get_distance(0, k, mic=True) for k, s in enumerate(atoms.symbols) if s == "I"]
        near = sorted(d)[:4]
        assert near == pytest.approx([form.lattice * np.sqrt(3) / 4] * 4)
    assert path[0].positions[1:] == pytest.approx(path[-1].positions[1:])


def test_minima_and_numbers_of_known_profiles():
    reference = np.array([0.0, 0.5, 1.0, 0.6, 0.4])
    assert minima(reference) == [0, 4]
    assert minima(np.array([0.0, 0.5, 0.495, 0.6, 1.0])) == [0]  # too shallow
    found = numbers(np.array([0.0, 0.5, 0.2, 0.6, 1.0]), reference)
    assert found["invented"] == 1
    assert found["missed"] == 1
    assert found["error"] == pytest.approx(0.8)
    assert numbers(reference, reference)["error"] == 0.0


def test_what_is_tested_is_not_learnt():
    first, added, rest = cut(list(range(20)), 6, 6)
    assert len(first) == len(added) == 6
    assert not (set(first) | set(added)) & set(rest)


def test_verdicts_follow_the_numbers():
    reference = np.array([0.0, 0.5, 1.0, 0.6, 0.4])
    cases = (("standard", 2.0), ("random", 0.5), ("d_optimal", 0.2), ("viability", 0.1))
    rows = [{"strategy": name, "seed": 0, "structures": 8, "entered": 0, "MAE at 300 K, energy": 1.0,
             "MAE at 300 K, forces": 20.0, "hot force RMSE": 90.0,
             **numbers(reference * (1 + error) if error < 1 else -reference, reference)}
            for name, error in cases]  # fmt: skip
    good = conclude(rows, [], reference, Form())
    assert [f.verdict for f in good.findings] == ["yes"] * 4
    bad = conclude([{**row, **numbers(reference * 0.9, reference)} for row in rows], [], reference, Form())
    assert [f.verdict for f in bad.findings] == ["yes", "no", "no", "no"]
