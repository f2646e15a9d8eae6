"""Labels by hand: the campaign hands structures out, ends or pauses, and goes on with what comes back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.calculators.emt import EMT
from ase.io import read, write
from click.testing import CliRunner
from small_campaign import CELL, small

from aiida_aceal.cli.root import main

SCRIPT = Path(__file__).with_name("daemon_manual.py")


def by_hand(**changes) -> dict:
    """The small campaign with a person as labeller."""
    rattled = {"kind": "rattled", "structure": CELL, "supercell": [2, 2, 2], "count": 3, "amplitude": 0.1}
    data = small(loop={"max_generations": 1}, **changes)
    data["label"] = {"entry_point": "aceal.label.manual", "settings": {"poscar": True, "incar": {"encut": 400}}}
    data["validation"] = [rattled]
    return data


def emt(path):
    """All structures of a file, labelled."""
    frames = read(path, ":")
    for atoms in frames:
        atoms.calc = EMT()
        atoms.get_forces()
    return frames


@pytest.fixture
def run(aiida_profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def words(*given, code=0):
        result = CliRunner().invoke(main, [*map(str, given), "--profile", aiida_profile.name])
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return result.output

    return words


def number_in(text: str) -> int:
    assert "aiida-aceal labels " in text, text
    return int(text.split("aiida-aceal labels ")[1].split()[0])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_campaign_ends_and_goes_on(run, tmp_path):
    from aiida.orm import load_node

    (tmp_path / "input.yaml").write_text(yaml.safe_dump(by_hand()))
    text = run("run", "input.yaml", code=1)
    pk = number_in(text)
    node = load_node(pk)
    assert node.exit_status == 414
    assert "Waiting for labels: 13 structures wait" in text
    assert {key: len(value) for key, value in node.outputs.to_label.items()} == {
        "initial": 6, "validation": 3, "test": 4,
    }  # fmt: skip
    folder = tmp_path / f"aceal-{pk}-to-label"
    assert len(list(folder.glob("*/POSCAR"))) == 13
    assert f"campaign {pk} waits for labels and has none yet" in run("resume", pk, code=1)
    assert "waits for labels of 13 of 13" in run("labels", pk)

    frames = emt(folder / "structures.extxyz")
    write("first.extxyz", frames[:8], format="extxyz")
    write("rest.extxyz", frames[8:], format="extxyz")
    strange = frames[0].copy()
    strange.rattle(0.1)
    strange.calc = EMT()
    strange.get_forces()
    write("strange.extxyz", strange, format="extxyz")
    assert "is none of the 13 structures that wait" in run("labels", pk, "strange.extxyz", code=2)
    assert "5 structures still without a label" in run("labels", pk, "first.extxyz")
    run("labels", pk, "-w", "left")
    assert len(read("left/structures.extxyz", ":")) == 5

    text = run("labels", pk, "rest.extxyz", code=1)
    second = load_node(number_in(text))
    rows = [g for g in second.called if g.process_label == "GenerationWorkChain"]
    assert [g.exit_status for g in rows] == [0, 410]
    assert second.outputs.summary.get_dict()["n_training"] == 6
    assert second.outputs.potential.is_fitted
    chosen = second.outputs.to_label["label"]
    write("one.extxyz", emt(tmp_path / f"aceal-{second.pk}-to-label" / "structures.extxyz")[:1], format="extxyz")
    text = run("labels", second.pk, "one.extxyz", "--partial", code=1)
    assert "Not converged (exit status 410)" in text
    from aiida_aceal.cli.status import load_campaign

    third = load_campaign(None)
    total = third.outputs.summary.get_dict()
    assert total["n_training"] == 7
    assert total["n_failed_labels"] == 0
    assert third.outputs.test_report["n_structures"] == 4
    assert len(chosen) > 1
    # where the labels come from stands in the graph
    labels = third.inputs.labeller.labels
    assert labels.creator.process_label == "merge_labels"
    assert {info["label_source"] for info in labels.infos} >= {"first.extxyz, structure 0", "one.extxyz, structure 0"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_labeller_and_a_data_set(run, tmp_path):
    """Fit, active set, MD, select, and the structures to be labelled in an output and a file."""
    from aiida.orm import load_node

    from aiida_aceal.exploration.initial import generate

    write("bare.extxyz", generate(by_hand()["initial"] * 2, seed=4), format="extxyz")
    write("train.extxyz", emt("bare.extxyz"), format="extxyz")
    data = {**by_hand(), "label": "none", "dataset": ["train.extxyz"], "validation": 0.25}
    del data["initial"], data["test"]
    (tmp_path / "input.yaml").write_text(yaml.safe_dump(data))
    assert "label       aceal.label.manual" in run("run", "input.yaml", "--dry-run")
    text = run("run", "input.yaml", "-o", "out", code=1)
    node = load_node(number_in(text))
    assert node.exit_status == 414
    assert node.outputs.potential.is_fitted
    assert list(node.outputs.to_label) == ["label"]
    assert len(read("out/to_label/structures.extxyz", ":")) == len(node.outputs.to_label["label"])


@pytest.mark.release
@pytest.mark.timeout(1800)
def test_a_campaign_of_the_daemon_pauses(tmp_path):
    environment = {
        **os.environ,
        "AIIDA_PATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    done = subprocess.run(
        [sys.executable, SCRIPT], capture_output=True, text=True, env=environment, timeout=1700, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert "waits for labels: aiida-aceal labels" in result["status"]
    assert result["rounds"] == [4, 9, result["rounds"][-1]]  # the test set, initial and validation, what was chosen
    assert result["exit_status"] == 410
    assert result["n_training"] == 6 + result["rounds"][-1]
    assert result["campaigns"] == 1
