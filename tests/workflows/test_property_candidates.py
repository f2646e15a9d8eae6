"""A campaign that learns from structures of properties, judges by properties, and validates after each generation."""

from __future__ import annotations

import pytest
from aiida.engine import run_get_node
from small_campaign import builder_for, small

from aiida_aceal.report.rows import generations
from aiida_aceal.workflows.base import output

WANTED = {
    "properties": "elastic,vacancy", "lattice": "given", "structure": [{"bulk": "Cu", "a": 3.6}],
    "defects": {"cell_length": 7.0},
}  # fmt: skip


def child(process, label):
    found = process.base.links.get_outgoing(link_label_filter=label).all_nodes()
    return found[0] if found else None


def calculations(process, label):
    return [one for one in process.called_descendants if one.process_label == label]


@pytest.mark.long
def test_a_campaign_with_properties_as_candidates_and_at_the_gate(codes):
    data = small(
        validate={**WANTED, "every": 1},
        gate={"properties": {"elastic": "30 %"}, "tolerance": 100.0},
        loop={"max_generations": 1},
        validation={"steps": 50},
    )
    window = {"gamma_lo": 0.0, "gamma_hi": 1e9}
    data["explore"] = {
        "properties": {"settings": window},
        # at the lattice of the tests: the same structures
        "same": {
            "entry_point": "aceal.explore.properties",
            "settings": {**window, "properties": "elastic", "relax_start": False},
        },
    }
    _, node = run_get_node(builder_for(data, codes))
    assert node.exit_status in (0, 410), node.exit_message
    rows = generations(node)
    first = rows[1]

    # settings and crystal come from the section `validate`
    (explorer,) = calculations(child(first, "explore_properties"), "AceExplorePropertiesCalculation")
    assert explorer.inputs.settings["properties"] == ["elastic", "vacancy"]
    assert len(explorer.inputs.configurations) == 1
    infos = first.outputs.candidates.infos
    assert {info["explorer"] for info in infos} == {"properties"}
    assert {info["property"] for info in infos} == {"elastic", "vacancy"}
    assert set(first.outputs.labelled.hashes) <= set(first.outputs.candidates.hashes)
    assert len(first.outputs.labelled) > 0

    # nothing that serves as a test is a candidate
    report = child(first, "explore_same").outputs.report.get_dict()
    assert report["dropped"]["serves_as_test"] == report["steps_total"] + report["dropped"]["serves_as_test"] > 0
    learnt = {digest for part in node.outputs.dataset.values() for digest in part.hashes}
    validations = [one for one in node.called if one.process_label == "ValidateWorkChain"]
    asked = [child(one, "properties") for one in rows]
    assert all(part is not None for part in asked)
    for part in (*validations, *asked):
        assert part.is_finished_ok, part.exit_message
        assert not learnt & set(part.outputs.structures.hashes)

    # the gate has judged every potential, and what it found is in the numbers of the generation
    for one, part in zip(rows, asked):
        row = one.outputs.generation_report.get_dict()
        worst = part.outputs.summary.get_dict()["properties"]["elastic"]["worst"]
        assert row["property_errors"]["elastic"] == pytest.approx(abs(worst["relative_percent"]) / 100)
        assert row["status"] != "refused" or "elastic" in row["refused"] or "RMSE" in row["refused"]
        assert one.outputs.properties.uuid == part.outputs.summary.uuid

    # after the generation (before anything is done at the end), and not once more at the end
    (validation,) = validations
    assert child(node, "validation_001").uuid == validation.uuid
    assert validation.pk < child(node, "test_evaluation").pk
    assert output(node, "properties").uuid == validation.outputs.summary.uuid

    # no label is paid twice, neither at the gate nor by validations
    paid = [
        digest
        for part in (*asked, *validations)
        for job in calculations(part, "AceLabelAseCalculation")
        for digest in job.inputs.configurations.hashes
    ]
    assert len(paid) == len(set(paid)) > 0


def test_what_is_refused_before_it_starts(codes):
    entry = {"kind": "supercells", "structure": {"bulk": "Cu", "a": 3.6}, "sizes": [[1, 1, 1]]}
    with pytest.raises(ValueError, match=r"gate.properties: give the namespace `properties` \(section `validate`\)"):
        builder_for(small(gate={"properties": {"elastic": 0.1}}), codes)
    with pytest.raises(ValueError, match="must be properties with their bounds"):
        builder_for(small(gate={"properties": {"elastic": "much"}}, validate=WANTED), codes)
    data = small(validate=WANTED)
    data["initial"] = [entry, *data["initial"]]
    with pytest.raises(ValueError, match=r"initial: structure 0 serves as a test of the property elastic \(cell\)"):
        builder_for(data, codes)
    builder_for({**data, "validate": {**WANTED, "train_on": True}}, codes)
    data = small(explore={"properties": {"settings": {"properties": "md"}}}, validate=WANTED)
    with pytest.raises(ValueError, match="names among"):
        builder_for(data, codes)
