"""Query by committee, in a tiny form on a pool made here."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write

from aiida_aceal.common.errors import AceError
from aiida_aceal.reproduce.committee import STRATEGIES, CommitteeForm, carbon, halves, savings


@pytest.fixture
def silicon(tmp_path):
    """Folder with a set called mlearn/Si-training, by a pair potential."""
    rng = np.random.default_rng(0)
    (tmp_path / "mlearn").mkdir()
    frames = []
    for k in range(24):
        atoms = bulk("Si", cubic=True)
        atoms.positions += rng.normal(0.0, 0.03 + 0.01 * (k % 5), atoms.positions.shape)
        atoms.calc = LennardJones(sigma=2.1, epsilon=0.5, rc=5.0, smooth=True)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    write(tmp_path / "mlearn" / "Si-training.extxyz", frames, format="extxyz")
    return tmp_path


@pytest.mark.unproven
def test_study(reproduce, silicon, picture):
    tiny = {"pools": ["Si"], "pool": 18, "test": 5, "sizes": [4, 8], "functions": 10, "members": 2, "bootstrap": 50,
            "seeds": [0, 1]}  # fmt: skip
    text, found = reproduce("committee", silicon, **tiny)
    assert "[8/8] Si: hybrid, seed 1" in text
    rows = found["tables"][0]["rows"]
    assert [row[1] for row in rows] == list(STRATEGIES)
    starts = {row[2].split(" / ")[0] for row in rows}
    assert len(starts) == 1  # all strategies of a seed start from the same structures
    saved = found["numbers"]["saved"]["Si"]
    for strategy in STRATEGIES[1:]:
        assert saved[strategy]["low"] <= saved[strategy]["high"] < 1.0
        assert found["numbers"]["tests"]["Si"][strategy]["n"] == 2
    assert len(found["findings"]) == 2  # the one on TiO2 needs TiO2
    picture("committee")


def curve(errors, sizes=(10, 20, 40)):
    return {"points": [{"n_structures": n, "forces_rmse": e} for n, e in zip(sizes, errors)]}


def test_savings_of_known_curves():
    curves = {
        "random": [curve([0.4, 0.2, 0.1]), curve([0.4, 0.2, 0.1])],
        "diversity": [curve([0.4, 0.1, 0.05]), curve([0.4, 0.1, 0.05])],
        "hybrid": [curve([0.4, 0.3, 0.2]), curve([0.4, 0.3, 0.2])],
    }
    found = savings(curves, "diversity", 50)
    assert found["saving"] == pytest.approx(0.5)  # 20 instead of 40
    assert (found["low"], found["high"]) == pytest.approx((0.5, 0.5))  # equal seeds: nothing to resample
    none = savings(curves, "hybrid", 50)
    assert not none["reached"]
    assert none["saving"] == 0.0
    assert none["reached in"] == 0.0


def test_intervals_grow_with_the_scatter_of_the_seeds():
    curves = {
        "random": [curve([0.4, 0.2, 0.1])] * 4,
        "diversity": [curve([0.4, a, a / 2]) for a in (0.06, 0.1, 0.2, 0.24)],
    }
    found = savings(curves, "diversity", 500)
    assert found["low"] < found["saving"] < found["high"]


def test_carbon_pool():
    frames = carbon(12)
    assert {a.info["group"] for a in frames} == {"diamond", "hot diamond", "graphene", "hot graphene"}
    assert {len(a) for a in frames} == {8, 16}
    sheet = frames[2]  # three neighbours at the bond length, also after strain and shaking
    d = np.sort(sheet.get_distances(0, range(1, 16), mic=True))
    assert d[:3].max() < 1.75
    assert d[3] > 2.0


def test_too_few_structures_are_told():
    frames = carbon(12)
    for atoms in frames:
        atoms.calc = LennardJones(sigma=1.2, epsilon=0.001)
    with pytest.raises(AceError, match=r"C: \d+ structures of at most 64 atoms, but 150 \+ 50"):
        halves(frames, CommitteeForm(), "C")
