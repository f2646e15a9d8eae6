"""Accuracy against usefulness, in a tiny form on sets made here."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import write

from aiida_aceal.reproduce.usefulness import CASES, UsefulnessForm, conclude, kind, split


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Folder with small sets under the names of mlearn's molybdenum and the others."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("sets")
    (folder / "mlearn").mkdir()
    frames = []
    for group, shake, count in (("AIMD-NVT", 0.1, 16), ("Elastic", 0.0, 12), ("Vacancy", 0.1, 12)):
        for _ in range(count):
            atoms = bulk("Mo", cubic=True) * 2
            if group == "Vacancy":
                del atoms[0]
            atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
            atoms.positions += rng.normal(0.0, shake or 0.01, atoms.positions.shape)
            atoms.calc = LennardJones(sigma=2.5, epsilon=0.5, rc=5.0, smooth=True)
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
            atoms.info["group"] = group
            atoms.calc = None
            frames.append(atoms)
    write(folder / "mlearn" / "Mo-training.extxyz", frames, format="extxyz")
    return folder


@pytest.mark.unproven
def test_study(reproduce, sets, picture):
    tiny = {"cases": ["Mo dynamics", "Mo mixed"], "sizes": [6, 14], "train": 14, "test": 12, "clusters": 2,
            "members": 2, "seeds": [0]}  # fmt: skip
    text, found = reproduce("usefulness", sets, **tiny)
    assert "[4/4] Mo mixed: 14 functions, seed 0" in text
    rows = found["numbers"]["rows"]
    assert [row["homogeneous"] for row in rows] == [True, True, False, False]
    assert rows[1]["error"] < rows[0]["error"]
    for row in rows:
        assert 0.0 <= row["novelty global"] <= 1.0
        assert row["calibration global"] >= 0.0
    assert len(found["findings"]) == 5
    picture("usefulness")


def test_split_keeps_novel_kinds_out_of_what_is_learnt():
    frames = []
    for group in ["EOS"] * 30 + ["s_aIn"] * 20 + ["iP"] * 20 + ["vv"] * 20:
        atoms = bulk("In", "fcc", a=4.6)
        atoms.info["group"] = group
        frames.append(atoms)
    form = UsefulnessForm(train=20, test=20)
    for name in ("InP crystals", "InP with defects"):
        train, test = split(frames, CASES[name], form, 0)
        assert {a.info["group"] for a in train} == {"learnt kinds"}
        assert sum(a.info["group"] == "novel kinds" for a in test) == 10
        assert len(train) == 20
    assert kind(frames[30]) == "aIn"


def test_verdicts_follow_the_numbers():
    form = UsefulnessForm(cases=("Mo dynamics", "Mo mixed"), sizes=(10, 20))
    rows = []
    for case in form.cases:
        for size in form.sizes:
            row = {"case": case, "homogeneous": CASES[case].homogeneous, "functions": size, "seed": 0}
            row["force RMSE"] = row["error"] = 100 / size
            for name in ("global", "own", "minimum", "switch", "ensemble dF"):
                row |= {f"rank {name}": size / 40, f"novelty {name}": 0.9 if name == "own" else 0.5 + size / 100,
                        f"calibration {name}": 0.1 if CASES[case].homogeneous else 0.3,
                        f"missed {name}": 0.5 if "dF" in name else 0.1,
                        f"alarms {name}": 0.0 if "dF" in name else 0.2}  # fmt: skip
            rows.append(row)
    assert [f.verdict for f in conclude(rows, form).findings] == ["yes"] * 5
    for row in rows:
        for name in ("global", "ensemble dF"):
            row[f"rank {name}"] = 1.0 / row["functions"]
            row[f"calibration {name}"] = 0.2 if row["homogeneous"] else 0.1
        row["novelty own"] = 0.5
    verdicts = [f.verdict for f in conclude(rows, form).findings]
    assert (verdicts[0], verdicts[3], verdicts[4]) == ("no", "no", "no")
