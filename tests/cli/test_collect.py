"""``aiida-aceal collect``: labels that are in the profile already become one set that knows where each is from."""

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.common.configurations import get_labels, read_configurations
from aiida_aceal.data.dataset import ConfigurationsData


def finished(inputs, outputs, process_type="aiida.calculations:vasp.vasp", status=0, caller=None, cls=orm.CalcJobNode):
    """A process as AiiDA stores it."""
    node = cls(process_type=process_type)
    node.set_process_label(process_type.split(".")[-1].capitalize() + "Process")
    for label, value in inputs.items():
        node.base.links.add_incoming(value.store(), LinkType.INPUT_CALC if cls is orm.CalcJobNode else
                                     LinkType.INPUT_WORK, label)  # fmt: skip
    if caller is not None:
        node.base.links.add_incoming(caller, LinkType.CALL_CALC, f"job_{len(caller.called)}")
    node.store()
    for label, value in outputs.items():
        value.base.links.add_incoming(node, LinkType.CREATE, label)
        value.store()
    node.set_process_state("finished")
    node.set_exit_status(status)
    if status:
        node.set_exit_message("did not reach the end")
    return node.seal()


def shaken(seed, elements=("Cu", "Cu", "Au", "Au")):
    atoms = bulk("Cu", cubic=True, a=3.9)
    atoms.symbols[:] = elements
    atoms.rattle(0.05, seed=seed)
    atoms.calc = EMT()
    return atoms


def of_vasp(atoms, converged=True, status=0, caller=None, with_structure=False, shift=0.0):
    """A calculation of aiida-vasp, with the outputs that it has by default."""
    energy, stress = atoms.get_potential_energy() + shift, -atoms.get_stress(voigt=False) / (0.1 * units.GPa)
    misc = {
        "total_energies": {"energy_extrapolated": energy, "energy_free": energy - 0.5, "energy_no_entropy": energy + 1},
        "forces": atoms.get_forces().tolist(), "stress": stress.tolist(),
        "run_status": {"electronic_converged": converged},
    }  # fmt: skip
    structure = orm.StructureData(ase=atoms)
    outputs = {"misc": orm.Dict(misc)} | ({"structure": orm.StructureData(ase=atoms)} if with_structure else {})
    return finished({"structure": structure}, outputs, status=status, caller=caller)


def collected(text):
    return orm.load_node(int(text.split("as <")[1].split(">")[0]))


@pytest.fixture
def collect(cli, aiida_profile):
    return lambda *words, code=0: cli("collect", *words, "--profile", aiida_profile.name, code=code)


def test_calculations_of_vasp(collect, tmp_path):
    atoms = [shaken(seed) for seed in range(3)]
    nodes = [of_vasp(one) for one in atoms]
    group = orm.Group(label="my vasp runs").store()
    group.add_nodes([*nodes, of_vasp(shaken(7), converged=False), of_vasp(shaken(8), status=700)])
    text = collect("my vasp runs", nodes[0].pk, "-o", tmp_path / "a.extxyz", "-l", "mine")
    assert "VaspProcess" in text
    assert "it failed (did not reach the end)" in text
    assert "the electronic structure is not converged" in text
    made = collected(text)
    assert (made.label, len(made)) == ("mine", 3)
    for one, other, node in zip(made.to_atoms(), atoms, nodes):
        energy, forces, stress = get_labels(one)
        assert energy == pytest.approx(other.get_potential_energy(), abs=1e-9)
        assert forces == pytest.approx(other.get_forces(), abs=1e-9)
        assert stress == pytest.approx(other.get_stress(), abs=1e-9)
        assert one.info["source"] == f"VaspProcess <{node.pk}>"
    assert len(read_configurations(tmp_path / "a.extxyz", require=("energy", "forces"))) == 3
    # provenance: every set comes from the outputs that hold its labels
    before = {link.node.uuid for link in made.creator.base.links.get_incoming().all()}
    assert {node.outputs.misc.uuid for node in nodes} <= before
    assert {node.inputs.structure.uuid for node in nodes} <= before
    free = collected(collect(nodes[0].pk, "--energy", "free"))
    assert get_labels(free[0])[0] == pytest.approx(atoms[0].get_potential_energy() - 0.5)


def test_jobs_below_a_process_and_the_order_of_atoms(collect):
    caller = orm.WorkChainNode()
    caller.set_process_label("MyOwnWorkChain")
    caller.store()
    mixed = shaken(20, ("Cu", "Au", "Cu", "Au"))
    of_vasp(shaken(21), caller=caller)
    of_vasp(mixed, caller=caller)
    text = collect(caller.pk)
    assert "atoms of one element are not together" in text
    assert len(collected(text)) == 1
    made = collected(collect(of_vasp(mixed, with_structure=True).pk))
    assert get_labels(made[0])[1] == pytest.approx(mixed.get_forces(), abs=1e-9)


def test_quantum_espresso(collect):
    atoms = shaken(30)
    trajectory = orm.ArrayData()
    trajectory.set_array("forces", np.array([np.zeros((4, 3)), atoms.get_forces()]))
    outputs = {
        "output_parameters": orm.Dict({"energy": -10.0, "energy_smearing": -0.5}), "output_trajectory": trajectory,
    }  # fmt: skip
    inputs = {"structure": orm.StructureData(ase=atoms), "parameters": orm.Dict({"SYSTEM": {"smearing": "gaussian"}})}
    node = finished(inputs, outputs, "aiida.calculations:quantumespresso.pw")
    made = collected(collect(node.pk))
    assert get_labels(made[0])[0] == pytest.approx(-9.75)
    assert get_labels(made[0])[1] == pytest.approx(atoms.get_forces())


def test_jobs_and_sets_of_ours(collect, cu_atoms, aceal_worker_code, job_metadata):
    pool = ConfigurationsData.from_atoms(cu_atoms(3, labelled=False), source="pool")
    results, job = run_get_node(
        CalculationFactory("aceal.label.ase"), code=aceal_worker_code, configurations=pool,
        settings={"calculator": "emt"}, metadata=job_metadata(),
    )  # fmt: skip
    assert job.is_finished_ok, job.exit_message
    own = ConfigurationsData.from_atoms(cu_atoms(2, seed=5), source="mine").store()
    text = collect(job.pk, own.pk, results["labelled"].pk, pool.store().pk)
    assert f"Left out: set <{pool.pk}>: no labels." in text
    made = collected(text)
    assert made.hashes == [*results["labelled"].hashes, *own.hashes]
    assert get_labels(made[0])[0] == get_labels(results["labelled"][0])[0]


def test_two_labels_of_one_structure_are_said(collect):
    one, other = of_vasp(shaken(40)), of_vasp(shaken(40), shift=1.0)
    text = collect(one.pk, other.pk)
    assert f"Different labels of one structure: VaspProcess <{one.pk}> and VaspProcess <{other.pk}>." in text
    assert "1 met again left out" in text
    assert get_labels(collected(text)[0])[0] == pytest.approx(shaken(40).get_potential_energy())


def test_nothing_to_collect(collect):
    number = orm.Int(3).store()
    text = collect(number.pk, code=1)
    assert f"node <{number.pk}> is a Int" in text
    assert "nothing was stored" in text
    assert "'no such group' is neither a group nor a node" in collect("no such group", code=1)
    orm.Group(label="empty one").store()
    assert "group 'empty one' is empty" in collect("empty one", code=1)
    bad = of_vasp(shaken(50), converged=False)
    assert "no labels could be collected: the electronic structure is not converged" in collect(bad.pk, code=1)
