"""A label that is wrong by 1000 eV is not trained on, is named, and can be released."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from click.testing import CliRunner
from small_campaign import CELL, builder_for, small

from aiida_aceal.cli.resume import _apply
from aiida_aceal.cli.root import main
from aiida_aceal.report.campaign import decisions, write_report

pytestmark = pytest.mark.long


@pytest.mark.timeout(600)
def test_a_wrong_label_is_quarantined_and_released(codes, tmp_path, aiida_profile):
    data = small(loop={"max_generations": 0})
    del data["test"]
    large = {"kind": "rattled", "structure": {**CELL, "a": 3.78}, "supercell": [2, 2, 2], "count": 1, "amplitude": 0.04}
    data["initial"].append(large)
    data["validation"] = [
        {"kind": "rattled", "structure": CELL, "supercell": [2, 2, 2], "count": 4, "amplitude": 0.08}
    ]  # fmt: skip
    worker = Path(__file__).parents[1] / "worker"
    data["label"] = {
        "settings": {"calculator": "faulty:WrongInLargeCells"},
        "options": {"prepend_text": f"export PYTHONPATH='{worker}'"},
    }
    with enable_caching():
        node = run_get_node(builder_for(data, codes)).node
    assert node.exit_status == 410, node.exit_message
    (row,) = node.outputs.summary["generations"]
    assert (row["n_labelled"], row["n_implausible_labels"], row["n_failed_labels"], row["n_training"]) == (6, 1, 0, 6)
    (item,) = row["quarantine"]
    assert item["reason"].startswith("label not plausible: its energy is +31.")
    assert item["hash"] not in node.outputs.dataset.generation_000.hashes
    assert row["holdout_energy_rmse"] < 0.1
    assert any(item["hash"] in line and "trusted_labels" in line for line in decisions(node))
    write_report(node, tmp_path / "report.html")
    assert item["hash"] in (tmp_path / "report.html").read_text("utf-8")
    said = CliRunner().invoke(main, ["status", str(node.pk), "--profile", aiida_profile.name]).output
    assert "In quarantine, not trained on (1 structure):" in said
    assert item["hash"] in said

    builder = node.get_builder_restart()
    _apply(builder, f"limits.trusted_labels=[{item['hash'][:12]}]")
    with enable_caching():
        released = run_get_node(builder).node
    (row,) = released.outputs.summary["generations"]
    assert (row["n_labelled"], row["quarantine"], row["n_training"]) == (7, [], 7)
    labels = [n for n in released.called_descendants if n.process_label == "AceLabelAseCalculation"]
    assert labels
    assert all(isinstance(n, orm.CalcJobNode) and n.base.caching.is_created_from_cache for n in labels)
