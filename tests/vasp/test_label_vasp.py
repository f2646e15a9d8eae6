"""``aceal.label.vasp`` through aiida-vasp's real WorkChain and parsers, with a stand-in for the executable."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.plugins import WorkflowFactory
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.calculations.label_functions import vasp_labels
from aiida_aceal.common.configurations import get_labels
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.collect import collect_labels, inputs_of, sources_of


@pytest.fixture
def run_label(fake_vasp_code, fake_potcar_family, job_metadata):
    def run(frames, options=None, **settings):
        configurations = ConfigurationsData.from_atoms(frames, source="pool")
        return run_get_node(
            WorkflowFactory("aceal.label.vasp"),
            code=fake_vasp_code,
            configurations=configurations,
            settings={"potential_family": fake_potcar_family, "max_concurrent": 2, **settings},
            options=options or job_metadata()["options"],
        )

    return run


def alloy(seed: int = 0):
    """Cu and Au in turn, and shaken."""
    atoms = bulk("Cu", cubic=True, a=3.9)
    atoms.symbols[[1, 3]] = "Au"
    atoms.positions += np.random.default_rng(seed).normal(0, 0.05, atoms.positions.shape)
    atoms.info["reason"] = f"alloy {seed}"
    return atoms


def close_pair(distance: float):
    """A box with two atoms at the given distance (A)."""
    atoms = bulk("Cu", cubic=True)[[0, 1]]
    atoms.set_cell([8.0, 8.0, 8.0])
    atoms.positions = [[0, 0, 0], [0, 0, distance]]
    return atoms


def emt(atoms):
    work = atoms.copy()
    work.calc = EMT()
    return work.get_potential_energy(), work.get_forces(), work.get_stress()


def test_batch_with_failures(run_label):
    """Order of atoms and of configurations, labels, what fails and why, what error handlers changed, costs."""
    frames = [alloy(0), close_pair(0.8), bulk("Al", cubic=True), close_pair(1.7), alloy(1)]
    frames.insert(3, frames[0].copy())
    frames[3].set_cell(np.zeros((3, 3)))
    frames[3].pbc = False
    results, node = run_label(frames)
    assert node.is_finished_ok, node.exit_message
    labelled, report = results["labelled"].to_atoms(), results["report"].get_dict()
    hashes = node.inputs.configurations.hashes
    assert [a.info["aceal_hash"] for a in labelled] == [hashes[i] for i in (0, 2, 4, 5)]
    for atoms, index in zip(labelled, (0, 2, 4, 5), strict=True):
        energy, forces, stress = emt(frames[index])
        assert get_labels(atoms)[0] == pytest.approx(energy, abs=1e-6)
        assert get_labels(atoms)[1] == pytest.approx(forces, abs=1e-6)
        assert get_labels(atoms)[2] == pytest.approx(stress, abs=1e-6)
        assert orm.load_node(atoms.info["label_process"]).process_label == "VaspWorkChain"
    assert np.abs(emt(frames[0])[1]).max() > 0.05, "the test must see a permutation of atoms"
    assert labelled[0].info["reason"] == "alloy 0"
    assert labelled[0].get_chemical_symbols() == ["Cu", "Au", "Cu", "Au"]
    assert (report["n_labelled"], report["n_failed"], report["n_stress"]) == (4, 2, 4)
    crash, no_cell = report["failures"]
    assert (crash["index"], crash["hash"]) == (1, hashes[1])
    assert "did not reach the end of execution" in crash["reason"]
    assert "VASP: Error in ZHEGV" in crash["reason"]
    assert (no_cell["index"], no_cell["process"]) == (3, None)
    assert "no cell" in no_cell["reason"]
    # the handler of aiida-vasp lowered AMIX for the hard one: said in the report
    assert report["changes"].keys() == {"4"}
    assert report["changes"]["4"]["amix"] == [None, 0.2]
    assert report["incar"]["isym"] == 0
    costs = {c["index"]: c for c in report["costs"]}
    assert costs[0]["core_seconds"] == pytest.approx(1.5)
    assert costs[4]["core_seconds"] == pytest.approx(3.0), "both calculations of the hard one count"
    assert report["core_seconds"] == pytest.approx(sum(c["core_seconds"] for c in costs.values()))


def test_its_calculations_can_be_collected(run_label):
    """As if they were somebody's own: from the outputs of aiida-vasp's WorkChain, and from those of its job."""
    results, _ = run_label([alloy(0)])
    (label,) = results["labelled"].to_atoms()
    chain = orm.load_node(label.info["label_process"])
    (job,) = [child for child in chain.called_descendants if isinstance(child, orm.CalcJobNode)]
    for process in (chain, job):
        made = collect_labels(**inputs_of(sources_of(process), "extrapolated"))["configurations"]
        (atoms,) = made.to_atoms()
        order = np.argsort(label.get_chemical_symbols(), kind="stable")
        assert atoms.get_chemical_symbols() == [label.symbols[k] for k in order]
        assert get_labels(atoms)[0] == pytest.approx(get_labels(label)[0], abs=1e-9)
        assert get_labels(atoms)[1] == pytest.approx(get_labels(label)[1][order], abs=1e-9)
        assert get_labels(atoms)[2] == pytest.approx(get_labels(label)[2], abs=1e-9)
        assert chain.outputs.misc.uuid in {link.node.uuid for link in made.creator.base.links.get_incoming().all()}


def test_a_killed_calculation_is_tried_again(run_label, job_metadata, tmp_path):
    """The first calculation is killed with all its processes; the structure is labelled all the same."""
    flag = tmp_path / "done"
    kill = "( while ! pkill -KILL -P $$ -f vasp; do sleep 0.05; done ) &"
    options = job_metadata(prepend_text=f"if [ ! -e '{flag}' ]; then touch '{flag}'; {kill} fi")["options"]
    results, node = run_label([alloy()], options)
    assert node.is_finished_ok, node.exit_message
    assert (results["report"]["n_labelled"], results["report"]["n_failed"]) == (1, 0)
    labels = [link.link_label for link in node.base.links.get_outgoing(link_type=LinkType.CALL_WORK).all()]
    assert sorted(labels) == ["label_00000", "label_00000_02"]
    assert results["report"]["costs"][0]["n_calculations"] >= 2
    options = job_metadata(prepend_text=kill)["options"]
    results, node = run_label([alloy(1)], options, max_resubmissions=0)
    assert node.exit_status == 310
    assert (results["report"]["n_failed"], results["report"]["n_not_tried"]) == (0, 1), "not tried is no failure"


def test_provenance_and_throttle(run_label):
    results, node = run_label([alloy(seed) for seed in range(5)], max_concurrent=2)
    labelled = results["labelled"]
    (collect,) = labelled.base.links.get_incoming(link_type=LinkType.CREATE).all_nodes()
    assert collect.process_label == "collect_vasp_labels"
    misc = collect.base.links.get_incoming(link_type=LinkType.INPUT_CALC).nested()
    assert sum(name.startswith("misc_") for name in misc) == 5
    structure = orm.load_node(labelled[0].info["label_process"]).inputs.structure
    (cut,) = structure.base.links.get_incoming(link_type=LinkType.CREATE).all_nodes()
    assert cut.inputs.configurations.uuid == node.inputs.configurations.uuid
    spans = []
    for i in range(5):
        (child,) = node.base.links.get_outgoing(link_label_filter=f"label_{i:05d}").all_nodes()
        spans.append((child.ctime, child.mtime))
    for begin, _ in spans:
        assert sum(b <= begin < e for b, e in spans) <= 2, "more than max_concurrent at a time"


@pytest.mark.parametrize(("energy", "shift"), [("free", -0.002), ("no_entropy", 0.002)])
def test_which_energy(run_label, energy, shift):
    results, _ = run_label([alloy()], energy=energy, stress=False)
    atoms = results["labelled"].to_atoms()[0]
    assert get_labels(atoms)[0] == pytest.approx(emt(alloy())[0] + shift * 4, abs=1e-6)
    assert get_labels(atoms)[2] is None


@pytest.mark.long
def test_nothing_or_too_little(run_label):
    results, node = run_label([close_pair(0.8), close_pair(1.2)], max_iterations=2)
    assert node.exit_status == 310
    assert "2 failed, the first with" in node.exit_message
    assert "labelled" not in results
    assert "exit" in results["report"]["failures"][1]["reason"]
    results, node = run_label([alloy(), close_pair(0.8)], max_failed_fraction=0.4)
    assert node.exit_status == 311
    assert len(results["labelled"]) == 1, "what was labelled is kept"


def test_large_forces_are_refused(run_label):
    results, node = run_label([alloy(), close_pair(1.95)], max_force=5.0)
    assert node.is_finished_ok
    assert "above max_force = 5" in results["report"]["failures"][0]["reason"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"potential_family": "NONE"}, "no POTCAR family 'NONE'"),
        ({"potential_family": None}, "potential_family: must be text, found None"),
        ({"potential_mapping": {"Cu": "Cu_pv"}}, "has no POTCAR 'Cu_pv' for Cu"),
        ({"incar": {"ENCUT": 400}}, "write 'encut' for 'ENCUT'"),
        ({"incar": {"nsw": 10}}, "a label is a single point"),
        ({"incar": {"encutt": 400}}, "encutt"),
        ({"incar": {"isif": 0}}, "does not give the full stress"),
        ({"kpoint_spacing": 0.1}, "did you mean 'kpoints_spacing'"),
        ({"kpoints_spacing": 0}, "kpoints_spacing: must be a positive number"),
        ({"max_concurrent": 0}, "max_concurrent: must be a positive integer, found 0"),
        ({"energy": "total"}, "energy: must be 'extrapolated', 'free' or 'no_entropy'"),
    ],
)
def test_refused_at_submission(run_label, settings, message):
    with pytest.raises(ValueError, match=message):
        run_label([alloy()], **settings)


def test_refused_code_and_element(run_label, aceal_worker_code, fake_potcar_family, cu_configurations):
    with pytest.raises(ValueError, match=r"one for 'vasp\.vasp' is needed"):
        run_get_node(
            WorkflowFactory("aceal.label.vasp"),
            code=aceal_worker_code,
            configurations=cu_configurations(1),
            settings={"potential_family": fake_potcar_family},
        )
    with pytest.raises(ValueError, match="has no POTCAR 'Si' for Si"):
        run_label([bulk("Si")])


def test_reading_misc():
    """Signs, units and order of VASP's numbers, and what must not pass."""
    misc = {
        "total_energies": {"energy_extrapolated": -1.0, "energy_free": -2.0, "energy_no_entropy": -3.0},
        "forces": [[0.0, 0.0, 1.0]],
        "stress": [[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]],
        "run_status": {"electronic_converged": True},
    }
    labels = vasp_labels(misc, 1)
    # 10 kB = 1 GPa of compression is a negative stress
    assert labels["stress"] == pytest.approx(-units.GPa * np.array([1.0, 2.0, 3.0, 0.3, 0.2, 0.1]))
    assert vasp_labels(misc, 1, "free")["energy"] == -2.0
    for change, message in (
        ({"forces": None}, "no forces"),
        ({"forces": [[0, 0, 0], [0, 0, 0]]}, "2 forces for 1 atoms"),
        ({"total_energies": {}}, "no energy_extrapolated"),
        ({"run_status": {"electronic_converged": False}}, "not converged"),
    ):
        with pytest.raises(ValueError, match=message):
            vasp_labels({**misc, **change}, 1)
    assert "stress" not in vasp_labels({**misc, "stress": None}, 1)
