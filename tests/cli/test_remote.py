"""``aiida-aceal check --remote``: a job with each code of an input."""

import re

import yaml
from aiida import orm
from small_campaign import small


def checked(cli, aiida_profile, tmp_path, data, code=0):
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(data))
    return cli("check", "--remote", tmp_path / "input.yaml", "--profile", aiida_profile.name, code=code)


def test_every_code_is_tried(cli, aiida_profile, codes, tmp_path):
    """Worker, LAMMPS and labeller answer, with the time it took."""
    names = {"worker": codes["aceal-worker"].full_label, "lammps": codes["aceal-lmp"].full_label}
    before = orm.QueryBuilder().append(orm.CalcJobNode).count()
    text = checked(cli, aiida_profile, tmp_path, small(codes=names))
    lines = {
        words: next(line for line in text.splitlines() if words in line) for words in ("worker ", "LAMMPS ace", "lab")
    }
    assert "answers; " in lines["worker "]
    assert "ML-PACE is there: 20 steps" in lines["LAMMPS ace"]
    assert "Cu32: " in lines["lab"]
    assert all(re.search(r"s from submission to result, it began after \d+ s", line) for line in lines.values())
    assert all(line.split()[0] == "ok" for line in lines.values())
    assert orm.QueryBuilder().append(orm.CalcJobNode).count() == before + 3


def test_what_does_not_answer_is_named(cli, aiida_profile, codes, localhost, tmp_path):
    """A code that is not there, and a method that cannot do the elements, each in its line."""
    broken = orm.InstalledCode(label="broken", computer=localhost, filepath_executable="/bin/false").store()
    data = small(codes={"lammps": broken.full_label, "worker": codes["aceal-worker"].full_label})
    data["label"] = {"entry_point": "aceal.label.manual"}
    data["validation"] = data["test"]
    del data["test"]
    text = checked(cli, aiida_profile, tmp_path, data, code=1)
    failed = [line for line in text.splitlines() if line.split()[:1] == ["FAILED"]]
    assert len(failed) == 1
    assert broken.full_label in failed[0]
    assert "exit 3" in failed[0]
    assert "a person labels" in text
