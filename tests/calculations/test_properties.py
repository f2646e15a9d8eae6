"""aceal.properties: structures, labels of another job, numbers; all as nodes."""

from __future__ import annotations

import json

import pytest
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk

from aiida_aceal.data.dataset import ConfigurationsData


@pytest.fixture
def run(aceal_worker_code, learned, job_metadata):
    def call(**inputs):
        structure = ConfigurationsData.from_atoms([bulk("Cu")], source="given")
        base = {"code": aceal_worker_code, "potential": learned[0], "structure": structure, "metadata": job_metadata()}
        return run_get_node(CalculationFactory("aceal.properties"), **{**base, **inputs})

    return call


def test_numbers_and_structures(run):
    settings = {"properties": "eos,antisite", "calculator": "emt", "eos": {"points": 5}}
    results, node = run(settings=settings)
    assert node.is_finished_ok, node.exit_message
    assert len(results["structures"].to_atoms()) == 5
    report = results["report"]
    assert report["properties"]["eos"]["fcc"]["bulk_modulus_GPa"] == pytest.approx(134.4, rel=0.01)
    assert "two elements" in report["failed"]["antisite"]
    numbers = json.loads(results["numbers"].get_content())
    assert len(numbers["eos"]["fcc"]["curves"]["energy_eV_per_atom"]) == 5
    # the same from the labelled structures, as another job could have labelled them, compared with these numbers
    again, node = run(
        settings={"properties": "eos", "eos": {"points": 5}},
        labelled=results["structures"],
        reference=results["numbers"],
    )
    assert node.is_finished_ok, node.exit_message
    rows = {row["quantity"]: row for row in again["report"]["comparison"]}
    assert rows["fcc.bulk_modulus_GPa"]["difference"] == pytest.approx(0.0, abs=1e-6)


def test_settings_are_checked_at_submission(run):
    with pytest.raises(ValueError, match=r"elastic.strain"):
        run(settings={"elastic": {"strain": 1.0}})
