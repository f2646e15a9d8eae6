"""``aceal.compare_uncertainty`` with the real worker, and the command that runs it."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.plugins import CalculationFactory
from ase.io import write
from click.testing import CliRunner

from aiida_aceal.ace import AceError
from aiida_aceal.inputs.compare_uncertainty import read_uncertainty_input
from aiida_aceal.report.uncertainty import HEADINGS, figures, markdown_table, page
from aiida_aceal.selection.indicators import IndicatorSettings

pytestmark = pytest.mark.long

SETTINGS = {"clusters": 2, "ensemble": {"members": 3}, "fit": {"reference_energies": "fit"}}


@pytest.fixture
def frames(cu_configurations):
    """Two kinds: nearly perfect cells, and strongly shaken ones."""
    found = []
    for name, seed, count, scale in (("cold", 1, 12, 0.05), ("hot", 2, 8, 0.25)):
        for atoms in cu_configurations(count, seed=seed, rattle=scale).to_atoms():
            atoms.info["group"] = name
            found.append(atoms)
    return found


@pytest.fixture
def report(aceal_worker_code, cu_potential, frames, job_metadata):
    """A comparison that has learnt the cold kind only, computed once and taken from the cache later."""
    from aiida_aceal.data.dataset import ConfigurationsData

    inputs = {
        "code": aceal_worker_code,
        "potential": cu_potential(scale=0.0),
        "train": ConfigurationsData.from_atoms(frames[:8], source="train"),
        "test": ConfigurationsData.from_atoms(frames[8:], source="test"),
        "settings": SETTINGS,
        "seed": 1,
        "metadata": job_metadata(),
    }
    with enable_caching():
        _, node = run_get_node(CalculationFactory("aceal.compare_uncertainty"), **inputs)
        _, again = run_get_node(CalculationFactory("aceal.compare_uncertainty"), **inputs)
    assert node.is_finished_ok, node.exit_message
    assert again.base.caching.is_created_from_cache
    return node.outputs.report.get_dict()


def test_all_indicators_grade_and_find_the_kind_that_was_not_learnt(report):
    assert list(report["indicators"]) == ["global", "own", "minimum", "switch", "ensemble dE", "ensemble dF"]
    assert report["known"] == ["cold"]
    assert report["groups"].count("hot") == 8
    for name, entry in report["indicators"].items():
        assert len(entry["values"]) == report["n_structures"] == 12, name
    for name in ("global", "own", "ensemble dF"):
        assert report["indicators"][name]["novelty"]["auc"] > 0.8
        assert report["indicators"][name]["spearman"] > 0.5
    values = {name: report["indicators"][name]["values"] for name in ("own", "minimum")}
    assert all(low <= own * (1 + 1e-9) for low, own in zip(values["minimum"], values["own"], strict=True))


def test_report_shows_every_indicator(report):
    drawn = figures(report)
    assert len(drawn) == 8  # six indicators, ROC, calibration
    assert all(png.startswith(b"\x89PNG") for png in drawn.values())
    text = page(report, "A <title>", {"Started": "now"})
    assert text.count("data:image/png") == 8
    assert "A &lt;title&gt;" in text
    assert "http" not in text.replace('http-equiv="', "")
    table = markdown_table(report).splitlines()
    assert len(table) == 2 + 6
    assert all(line.count("|") == len(HEADINGS) + 1 for line in table)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"indicators": ["globl"]}, "did you mean 'global'"),
        ({"indicators": ["own", "own"]}, "each name once"),
        ({"cluster": 3}, "clusters"),
        ({"ensemble": {"method": "strong"}}, "does not go with method: linear"),
        ({"switch": 0.0}, "switch"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(settings, words):
    with pytest.raises(AceError, match=words):
        IndicatorSettings.read(settings)


def test_command(frames, tmp_path, codes, aiida_profile):
    from aiida_aceal.cli.root import main

    for atoms in frames:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = energy, forces
    write(tmp_path / "all.extxyz", frames)
    data = {
        "train": "all.extxyz",
        "train_groups": ["cold"],
        "test_fraction": 0.2,
        "energy_key": "REF_energy",
        "forces_key": "REF_forces",
        "basis": {"cutoff": 5.0, "nradmax_by_orders": [4, 2], "lmax_by_orders": [0, 1]},
        "settings": {"clusters": 2, "ensemble": {"members": 3}},
        "codes": {"worker": codes["aceal-worker"].full_label},
        "threads": 1,
    }
    path = tmp_path / "input.yaml"
    path.write_text(yaml.safe_dump(data))
    words = ["compare", "uncertainty", str(path), "--profile", aiida_profile.name]
    result = CliRunner().invoke(main, [*words, "-o", str(tmp_path / "out"), "-v"])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert re.search(r"^AceCompareUncertaintyCalculation<\d+>: \w+", result.output, re.MULTILINE)
    assert "ensemble dF" in result.output
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert numbers["n_structures"] + numbers["n_train"] == len(frames)
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
    dry = CliRunner().invoke(main, [*words, "--dry-run", "--indicator", "global"])
    assert dry.exit_code == 0
    assert "indicators: global\n" in dry.output
    prepared = read_uncertainty_input(path, {"test_fraction": None})
    kinds = [atoms.info["group"] for atoms in prepared.test]
    assert (kinds.count("cold"), kinds.count("hot")) == (2, 8)  # known and novel kinds, or there were no ROC
    path.write_text(yaml.safe_dump({**data, "train_groups": ["warm"]}))
    with pytest.raises(AceError, match="no configuration has group"):
        read_uncertainty_input(path)
    path.write_text(yaml.safe_dump({**data, "trian": 1}))
    with pytest.raises(AceError, match="did you mean 'train'"):
        read_uncertainty_input(path)
