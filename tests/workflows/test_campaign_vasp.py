"""Two generations whose labels go through aiida-vasp's real WorkChain and parsers, with a stand-in for VASP itself."""

import pytest
from aiida import orm
from aiida.engine import run_get_node
from ase.calculators.emt import EMT
from small_campaign import builder_for, small

from aiida_aceal.report.rows import generations

pytestmark = pytest.mark.long


@pytest.mark.timeout(600)
def test_two_generations_with_labels_by_vasp(codes, fake_vasp_code, fake_potcar_family):
    cell = {"bulk": "Cu", "crystal": "fcc", "a": 3.70, "cubic": True}
    data = small(
        label={"entry_point": "aceal.label.vasp", "code": "vasp"},
        loop={"max_generations": 1},
        selection={"count": 2},
        window={"gamma_stop": 1.5},
    )
    data["label"]["settings"] = {"potential_family": fake_potcar_family, "max_concurrent": 3}
    data["initial"] = [{"kind": "rattled", "structure": cell, "count": 4, "amplitude": 0.05}]
    data["validation"] = [{"kind": "rattled", "structure": cell, "count": 2, "amplitude": 0.1}]
    del data["test"]
    data["explore"]["md"]["start"] = [{"kind": "supercells", "structure": cell, "sizes": [[1, 1, 1]]}]
    data["explore"]["md"]["settings"]["steps"] = 100
    node = run_get_node(builder_for(data, {**codes, "vasp": fake_vasp_code})).node
    assert node.is_finished, node.exit_message
    assert node.exit_status in (0, 410), node.exit_message
    _, second = generations(node)
    rows = node.outputs.summary["generations"]
    assert rows[0]["n_labelled"] == 4
    assert rows[1]["status"] in ("learned", "refused")
    assert 0 < rows[1]["n_labelled"] <= 2
    assert all(row["label_core_seconds"] > 0 for row in rows)

    labels = [n for n in node.called_descendants if n.process_label == "VaspWorkChain"]
    assert len(labels) == rows[0]["n_labelled"] + rows[1]["n_labelled"] + 2
    assert all(label.is_finished_ok for label in labels)
    for key in node.outputs.dataset:
        for atoms in node.outputs.dataset[key].to_atoms():
            reference = atoms.copy()
            reference.calc = EMT()
            assert atoms.get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-6)
            assert atoms.get_forces() == pytest.approx(reference.get_forces(), abs=1e-6)
            assert orm.load_node(atoms.info["label_process"]).process_label == "VaspWorkChain"
    assert second.outputs.labelled.to_atoms()[0].info["reason"]
