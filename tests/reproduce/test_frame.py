"""What all studies share: list, missing data, progress, files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from aiida_aceal.cli.root import main
from aiida_aceal.common.errors import AceError
from aiida_aceal.reproduce import STUDIES, find_study
from aiida_aceal.reproduce.bench import Progress, duration
from aiida_aceal.reproduce.sources import SOURCES
from aiida_aceal.reproduce.study import Finding, Outcome, Step, Table, write


def invoke(*words, code=0):
    result = CliRunner().invoke(main, ["reproduce", *words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def test_list_names_every_study_and_its_figures():
    text = invoke("--list")
    for name in STUDIES:
        assert name in text
        assert find_study(name).figures in text


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("full", [False, True])
def test_both_forms_are_valid_and_have_a_plan_of_different_steps(name, full):
    study = find_study(name)
    assert study.name == name
    labels = [step.label for step in study.plan(study.settings(full))]
    assert labels
    assert len(set(labels)) == len(labels)
    assert set(study.sources) <= set(SOURCES)


def test_unknown_names_and_settings_are_told(tmp_path):
    assert "did you mean 'linear-full'" in invoke("linear-ful", "--dry-run", code=2)
    text = invoke("linear-full", "--dry-run", "--set", "trian=3", code=2)
    assert "trian" in text
    assert "train" in text


def test_a_dry_run_shows_jobs_and_needs_no_data(monkeypatch):
    monkeypatch.delenv("ACEAL_DATA", raising=False)
    text = invoke("linear-full", "--dry-run")
    assert "full grades, seed 0" in text
    assert "5 jobs" in text


def test_missing_data_are_named_with_their_link(monkeypatch, tmp_path):
    monkeypatch.delenv("ACEAL_DATA", raising=False)
    text = invoke("linear-full", code=2)
    for word in ("Cu-II_1k.extxyz", "--data FOLDER", "ACEAL_DATA", SOURCES["Cu-II"].link, "REF_energy"):
        assert word in text
    monkeypatch.setenv("ACEAL_DATA", str(tmp_path))
    assert f"not in {tmp_path}" in invoke("linear-full", code=2).replace("\n", " ")


def test_time_left_follows_the_steps_that_were_computed():
    now = [0.0]
    progress = Progress([Step("a", 10.0), Step("b", 20.0), Step("c", 40.0)], lambda: now[0])
    assert progress.left() == 70.0
    assert progress.begin("a") == "[1/3] a (about 70 s left)"
    now[0] = 30.0  # three times as long as declared
    progress.end(cached=False)
    assert progress.left() == pytest.approx(180.0)
    progress.begin("b")
    now[0] = 31.0
    progress.end(cached=True)  # tells nothing of the speed
    assert progress.left() == pytest.approx(120.0)
    with pytest.raises(RuntimeError, match="the plan has 'c'"):
        progress.begin("b")


def test_durations():
    assert [duration(s) for s in (0.2, 40, 600, 12600)] == ["1 s", "40 s", "10 min", "3.5 h"]


def test_files_of_an_outcome(tmp_path):
    study = find_study("linear-full")
    form = study.settings(False)
    table = Table("Numbers", ("name", "value"), [("a", 1.0 / 3.0), ("b", None)])
    outcome = Outcome([Finding("A claim", "no", "0.3 instead of 1")], [table], {"": b"png"}, {"x": [1]}, ["A remark."])
    paths = write(study, form, "short", outcome, tmp_path)
    assert [path.name for path in paths] == [f"linear-full.{end}" for end in ("md", "json", "csv", "png")]
    text = (tmp_path / "linear-full.md").read_text()
    for part in ("| A claim | no | 0.3 instead of 1 |", "A remark.", "| a | 0.333 |", "| b | – |", "(linear-full.png)",
                 SOURCES["Cu-II"].link, "seeds 0"):  # fmt: skip
        assert part in text
    assert (tmp_path / "linear-full.csv").read_text() == f"name,value\na,{1 / 3!r}\nb,\n"
    assert json.loads((tmp_path / "linear-full.json").read_text())["settings"]["train"] == form.train
    write(study, form.replace(train=7, seeds=(1, 2)), "short", outcome, tmp_path)  # the command that makes it again
    command = "aiida-aceal reproduce linear-full --set 'seeds=[1, 2]' --set 'train=7'"
    assert command in (tmp_path / "linear-full.md").read_text()


def test_a_study_that_does_not_exist():
    with pytest.raises(AceError, match="did you mean 'linear-full'"):
        find_study("linear_full")


def test_the_example_runs_the_command_and_names_what_failed(tmp_path):
    script = Path(__file__).resolve().parents[2] / "examples" / "papers" / "all_studies.py"
    if not script.is_file():
        pytest.skip("the examples are not part of an installed package")
    words = [sys.executable, str(script), "linear-full", "nonesuch", "--dry-run", "--output", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert "full grades, seed 0" in done.stdout
    assert "not run: nonesuch" in done.stderr


def test_only_the_sets_of_the_form_are_needed():
    study = find_study("committee")
    assert study.needs(study.settings(False, {"pools": ["C"]})) == ()
    assert study.needs(study.settings(False, {"pools": ["TiO2", "C"]})) == ("TiO2",)
    assert set(study.needs(study.settings(True))) == set(study.sources)
    study = find_study("usefulness")
    assert study.needs(study.settings(False, {"cases": ["InP crystals", "InP with defects"]})) == ("InP",)
