"""``aceal.validate`` with the real worker and EMT as the reference: numbers, reuse of labels, failures, provenance."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.properties import Engine, PropertiesSettings, compute_properties
from aiida_aceal.workflows.validate.curves import curves_of
from aiida_aceal.workflows.validate.workchain import ValidateWorkChain

pytestmark = pytest.mark.long

SMALL = {
    "eos": {"points": 5, "phases": ["hcp"]},
    "phonon": {"supercell_length": 6.0, "mesh_length": 15.0, "band_points": 5},
    "defects": {"cell_length": 7.0},
}


@pytest.fixture(scope="module")
def fitted():
    """Two EMT copper potentials, the active set of the first, an ensemble."""
    from aiida_aceal.ace import AceModel, build_potential
    from aiida_aceal.fitting import fit_linear
    from aiida_aceal.uncertainty import build_active_set

    rng = np.random.default_rng(0)
    frames = []
    for k in range(24):
        atoms = bulk("Cu", cubic=True, a=3.6) * ((2, 2, 2) if k % 2 else (1, 1, 1))
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        frames.append(atoms)
    frames = Engine(EMT).label(frames)
    basis = build_potential({"elements": ["Cu"], "cutoff": 5.0, "nradmax_by_orders": [6, 3], "lmax_by_orders": [0, 2]})
    potentials = [fit_linear(basis, part).potential for part in (frames, frames[:16], frames[8:])]
    return potentials, build_active_set(AceModel(potentials[0]), frames)


@pytest.fixture
def inputs(aceal_worker_code, job_metadata, fitted):
    options = job_metadata()["options"]
    return {
        "potential": AcePotentialData(potential=fitted[0][0]),
        "structure": ConfigurationsData.from_atoms([bulk("Cu", a=3.62)], source="test"),
        "settings": {**SMALL, "properties": "eos,elastic,vacancy"},
        "worker": {"code": aceal_worker_code, "options": options},
        "labeller": {
            "entry_point": orm.Str("aceal.label.ase"),
            "code": aceal_worker_code,
            "settings": orm.Dict({"calculator": "emt"}),
            "options": orm.Dict(options),
        },
    }


def validate(inputs, **changes):
    return run_get_node(WorkflowFactory("aceal.validate"), **{**inputs, **changes})[1]


def test_numbers_labels_and_where_they_come_from(inputs, fitted, tmp_path):
    from aiida_aceal.data.ensemble import EnsembleData
    from aiida_aceal.fitting.ensemble import Ensemble

    fitted[1].save(tmp_path / "set.asi")
    more = {
        "active_set": ActiveSetData(file=tmp_path / "set.asi"),
        "ensemble": EnsembleData(ensemble=Ensemble(tuple(fitted[0]))),
    }
    node = validate(inputs, **more)
    assert node.is_finished_ok, node.exit_message
    out = node.outputs
    assert set(out.numbers) == {"eos", "elastic", "vacancy"}

    # the reference's numbers are those of EMT itself
    settings = PropertiesSettings(properties="eos,elastic", eos=SMALL["eos"])
    direct, _ = compute_properties(settings, [bulk("Cu", a=3.62)], Engine(EMT))
    eos = out.numbers["eos"].get_dict()
    bulk_moduli = [data["fcc"]["bulk_modulus_GPa"] for data in (eos["reference"], direct["eos"])]
    assert bulk_moduli[0] == pytest.approx(bulk_moduli[1], rel=0.01)
    elastic = out.numbers["elastic"].get_dict()
    for name, value in direct["elastic"]["independent_GPa"].items():
        assert elastic["reference"]["independent_GPa"][name] == pytest.approx(value, rel=5e-3)
    assert abs(elastic["reference"]["residual_pressure_GPa"]) < 0.05  # at its own lattice

    row = next(row for row in elastic["rows"] if row["quantity"] == "independent_GPa.C44")
    assert row["difference"] == pytest.approx(row["potential"] - row["reference"])
    assert row["gamma_max"] > 0
    assert len(row["members"]) == 3
    assert row["standard_deviation"] > 0
    vacancy = out.numbers["vacancy"].get_dict()
    assert vacancy["residual_force_eV_per_A"] == pytest.approx(vacancy["reference"]["Cu"]["max_force_eV_per_A"])
    assert vacancy["residual_force_eV_per_A"] > 0.005 > vacancy["potential"]["Cu"]["max_force_eV_per_A"] * 0.99

    curves = curves_of(out.curves["eos"])
    assert curves["reference"]["fcc"]["energy_eV_per_atom"].shape == (5,)
    assert np.array_equal(
        curves["reference"]["hcp"]["volume_A3_per_atom"], curves["potential"]["hcp"]["volume_A3_per_atom"]
    )

    # what was labelled can be trained on
    structures = out.structures
    assert structures.has_labels("energy", "forces", "stress")
    assert any("vacancy:defect/Cu" in atoms.info["cases"] for atoms in structures.iter_atoms())
    assert set(vacancy["structures"]) <= set(structures.hashes)
    summary = out.summary.get_dict()
    # 3.62 is far from EMT's lattice, so that the volumes were searched twice
    assert summary["n_labelled"] == summary["n_structures"] + 10
    assert summary["n_labelled"] == len(structures)
    assert summary["n_reused"] == 0
    assert summary["worst"]["relative_percent"]
    assert not summary["failed"]

    # a number leads to its jobs
    query = orm.QueryBuilder().append(orm.Dict, filters={"id": out.numbers["elastic"].pk}, tag="number")
    query.append(orm.CalcJobNode, with_descendants="number", project="attributes.process_label")
    jobs = {f"Ace{name}Calculation" for name in ("LabelAse", "Evaluate", "Properties", "PropertyNumbers")}
    assert set(query.all(flat=True)) == jobs


def label_jobs(node):
    return [job for job in node.called_descendants if job.process_label == "AceLabelAseCalculation"]


def test_no_label_is_paid_twice(inputs, fitted):
    """Another potential needs labels for what it relaxed itself, and for nothing else; no cache is on."""
    first = validate(inputs)
    other = AcePotentialData(potential=fitted[0][1])
    again = validate(inputs, potential=other, labelled={"first": first.outputs.structures})
    assert again.is_finished_ok, again.exit_message
    labelled = [job.inputs.configurations for job in label_jobs(again)]
    assert [len(node) for node in labelled] == [1]
    moved = labelled[0].hashes
    cases = {atoms.info["aceal_hash"]: atoms.info["cases"] for atoms in again.outputs.structures.iter_atoms()}
    assert [cases[digest] for digest in moved] == ["vacancy:defect/Cu"]
    summary = again.outputs.summary.get_dict()
    assert summary["n_labelled"] == 1
    assert summary["n_reused"] == summary["n_structures"] - 1
    for name in ("eos", "elastic"):
        before, after = (n.outputs.numbers[name].get_dict() for n in (first, again))
        assert before["reference"] == after["reference"]
        assert before["potential"] != after["potential"]
    # the same potential again: nothing at all
    third = validate(inputs, labelled={"first": first.outputs.structures})
    assert not label_jobs(third)
    assert third.outputs.numbers["vacancy"].get_dict()["rows"] == first.outputs.numbers["vacancy"].get_dict()["rows"]


def test_what_cannot_be_had_has_a_reason(inputs, monkeypatch):
    """Copper has no antisites; the others go on. MD of both sides and phonons, all at once."""
    waited = []
    to_context = ValidateWorkChain.to_context

    def record(self, **children):
        waited.extend(children)
        to_context(self, **children)

    monkeypatch.setattr(ValidateWorkChain, "to_context", record)
    md = {"cell_length": 5.0, "steps": 40, "equilibration": 10, "interval": 5, "timestep_ps": 0.002}
    melting = {"width": 5.0, "length": 5.0, "heating_steps": 10, "hottest_K": 400.0}
    node = validate(
        inputs, settings={**SMALL, "properties": "antisite,phonon,md,melting", "md": md, "melting": melting}
    )
    assert node.is_finished_ok, node.exit_message
    summary = node.outputs.summary.get_dict()
    assert summary["failed"] == ["antisite", "melting"]
    assert "did not melt up to 400 K" in summary["properties"]["melting"]["potential_error"]
    assert "only with melting.reference: true" in summary["properties"]["melting"]["reference_error"]
    assert "needs two elements" in summary["properties"]["antisite"]["reference_error"].replace("they need", "needs")
    found = node.outputs.numbers["md"].get_dict()
    assert found["reference"]["npt"]["volume_A3_per_atom"] > 0
    assert any(row["quantity"] == "rdf_mean_difference" for row in found["rows"])
    assert "bands" in curves_of(node.outputs.curves["phonon"])["reference"]
    # labels are made while dynamics run: nothing waits for these before the structures are there
    assert [key for key in waited if key.startswith("md_")] == ["md_potential", "md_reference"]
    assert waited.index("md_potential") > waited.index("structures")


def test_a_reference_that_fails(inputs):
    """Every label ends with an error of the calculator."""
    method = {"calculator": "ase.calculators.lj:LennardJones", "kwargs": {"sigma": "wide"}}
    node = validate(inputs, labeller={**inputs["labeller"], "settings": orm.Dict(method)})
    assert node.exit_status == 401
    assert "No structure could be labelled: " in node.exit_message
    assert "exit" in node.exit_message.split(": ", 1)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"properties": "eos,elastc"}}, "did you mean 'elastic'|names among"),
        ({"settings": {"elastc": {}}}, "did you mean 'elastic'"),
        ({"settings": {"eos": {"phases": ["fccc"]}}}, "unknown phase 'fccc'"),
        ({"structure": [bulk("Au")]}, "Au"),
        ({"structure": [bulk("Cu"), bulk("Cu", a=3.7)]}, "two structures are called 'fcc'"),
        ({"labeller": {"entry_point": "aceal.label.asee"}}, "aceal.label.ase"),
    ],
)
def test_refused_at_submission(inputs, change, message):
    if "structure" in change:
        change = {"structure": ConfigurationsData.from_atoms(change["structure"], source="test")}
    if "labeller" in change:
        change = {"labeller": {**inputs["labeller"], "entry_point": orm.Str("aceal.label.asee")}}
    with pytest.raises(ValueError, match=message):
        validate(inputs, **change)


def test_a_campaign_ends_with_properties(codes, tmp_path):
    """After generation 0 alone: the summary is an output, `status` and the report show it."""
    from small_campaign import builder_for, small

    from aiida_aceal.report.campaign import result_lines, write_report
    from aiida_aceal.report.rows import rows_of

    wanted = {"properties": "elastic", "lattice": "given", "structure": [{"bulk": "Cu", "a": 3.6}], "every": 5}
    data = small(validate=wanted, loop={"max_generations": 0}, validation={"steps": 50})
    del data["test"]
    _, node = run_get_node(builder_for(data, codes))
    assert node.exit_status == 410, node.exit_message
    summary = node.outputs.properties.get_dict()
    assert summary["worst"]["property"] == "elastic"
    (child,) = (child for child in node.called if child.process_label == "ValidateWorkChain")
    assert child.inputs.potential.uuid == node.outputs.potential.uuid
    assert child.inputs.active_set.uuid == node.outputs.active_set.uuid
    line = next(line for line in result_lines(node, rows_of(node)) if line.startswith("Worst property: elastic "))
    assert f"validation <{child.pk}>" in line
    text = write_report(node, tmp_path / "report.html").read_text()
    assert "independent_GPa.C44" in text
    assert "<h2>Properties</h2>" in text


def test_campaigns_refuse_bad_properties_before_they_start(codes):
    from small_campaign import builder_for, small

    for change, message in (
        ({"structure": [{"bulk": "Au"}]}, "Au"),
        ({"eos": {"phases": ["fccc"]}}, "unknown phase"),
        ({"every": 0}, "validate.every"),
    ):
        with pytest.raises(ValueError, match=message):
            builder_for(small(validate={"properties": "eos", **change}), codes)
