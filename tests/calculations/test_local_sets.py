"""Local active sets in the graph: built by settings, and used by grade, select, exploration of pools and MD."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk

from aiida_aceal.ace import AceModel
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.uncertainty import ActiveSet, LocalActiveSet


@pytest.fixture
def frames(cu_atoms):
    """Two kinds of copper, named in info."""
    rng = np.random.default_rng(3)
    found = cu_atoms(12, seed=20)
    for atoms in found:
        atoms.info["phase"] = "fcc"
    for _ in range(12):
        atoms = bulk("Cu", "bcc", 2.87, cubic=True).repeat((2, 1, 1))
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        atoms.info["phase"] = "bcc"
        found.append(atoms)
    return found


@pytest.fixture
def run(aceal_worker_code, learned, job_metadata):
    def factory(name, **inputs):
        base = {"code": aceal_worker_code, "potential": learned[0], "metadata": job_metadata()}
        results, node = run_get_node(CalculationFactory(name), **{**base, **inputs})
        assert node.is_finished_ok, node.exit_message
        return results

    return factory


@pytest.fixture
def local(learned, frames):
    """Unstored node of a local set."""
    values = {"group_key": "phase", "definition": "own", "switch": 1.5}
    return CalculationFactory("aceal.maxvol")(
        potential=learned[0], settings=orm.Dict(values), g0=ConfigurationsData.from_atoms(frames)
    )


def engine(learned, active_set) -> AceModel:
    model = AceModel(learned[0].get_potential(), threads=1)
    model.active_set = active_set
    return model


def test_node(learned, local, frames, tmp_path):
    loaded = orm.load_node(local.pk)
    assert loaded.local == {"definition": "own", "switch": 1.5, "clusters": {"Cu": 2}}
    assert loaded.check_potential(learned[0]) is None
    held = loaded.get_active_set(learned[0])
    assert isinstance(held, LocalActiveSet)
    assert held.names == {"Cu": ["bcc", "fcc"]}
    assert [facts["name"] for facts in loaded.report["local"]["clusters"]["Cu"]] == ["bcc", "fcc"]
    # the main file is what ML-PACE reads: the global part
    with loaded.as_file() as path:
        plain = ActiveSet.load(path)
    assert type(plain) is ActiveSet
    assert np.array_equal(plain.inverses["Cu"], held.sets["Cu"].inverse)
    assert np.array_equal(loaded.get_inverses()["Cu"], held.sets["Cu"].inverse)
    assert loaded.rank == {"Cu": held.sets["Cu"].rank}
    # and back from the file
    held.save(tmp_path / "set.npz")
    again = ActiveSetData(file=tmp_path / "set.npz", potential=learned[0])
    assert again.local == loaded.local
    assert again.report == loaded.report


def test_plain_set_is_not_local(learned):
    assert learned[1].local is None
    assert learned[1].local_filename is None
    assert type(learned[1].get_active_set(learned[0])) is ActiveSet


def test_job_builds_what_the_calcfunction_builds(run, learned, frames, local):
    dataset = {"g0": ConfigurationsData.from_atoms(frames)}
    settings = {"group_key": "phase", "definition": "own", "switch": 1.5}
    built = run("aceal.active_set", dataset=dataset, settings=settings)["active_set"]
    assert built.local == local.local
    here, there = (node.get_active_set(learned[0]) for node in (local, built))
    for a, b in zip(here.clusters["Cu"], there.clusters["Cu"]):
        assert a.rank == b.rank
        assert a.log_volume == pytest.approx(b.log_volume, rel=1e-3)
    assert "local" in built.report
    with pytest.raises(ValueError, match="previous: it is a local active set"):
        run("aceal.active_set", dataset=dataset, previous=built)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 2, "group_key": "phase"}, "not both"),
        ({"switch": 0.5}, "switch requires clusters or group_key"),
        ({"clusters": 0}, "clusters: must be an integer from 1 to 1000"),
        ({"clusters": 2, "definition": "mean"}, "definition: must be"),
        ({"clusters": 2, "exclude_outliers": True}, "leave exclude_outliers out"),
    ],
)
def test_refused(run, learned, frames, settings, message):
    node = ConfigurationsData.from_atoms(frames[:2])
    with pytest.raises(ValueError, match=message):
        run("aceal.active_set", dataset={"g0": node}, settings=settings)
    _, made = CalculationFactory("aceal.maxvol").run_get_node(
        potential=learned[0], settings=orm.Dict(settings), g0=node
    )
    assert made.exit_status == 301


def test_grade_and_select(run, learned, local, cu_configurations):
    pool = cu_configurations(8, seed=31, rattle=0.2, labelled=False)
    held = local.get_active_set(learned[0])
    expected = [engine(learned, held).evaluate(atoms, gamma=True).gamma for atoms in pool.to_atoms()]
    everywhere = [engine(learned, held.global_set()).evaluate(atoms, gamma=True).gamma for atoms in pool.to_atoms()]
    assert not np.allclose(np.concatenate(expected), np.concatenate(everywhere)), "the test would prove nothing"
    graded = run("aceal.grade", configurations=pool, active_set=local)["graded"]
    assert graded.get_array("atom_gamma") == pytest.approx(np.concatenate(expected), rel=1e-9)
    settings = {"strategy": "uncertainty", "count": 1}
    chosen = run("aceal.select", configurations=pool, active_set=local, settings=settings, seed=1)["selected"]
    assert chosen.hashes == [pool.hashes[int(np.argmax([g.max() for g in expected]))]]


def test_pool(run, learned, local, cu_configurations):
    pool = cu_configurations(8, seed=31, rattle=0.2, labelled=False)
    held = local.get_active_set(learned[0])
    settings = {"gamma_lo": 0.01, "gamma_hi": 1e9, "max_candidates": 8}
    found = run("aceal.explore.pool", configurations=pool, active_set=local, settings=settings)["candidates"]
    for atoms in found.to_atoms():
        assert atoms.arrays["gamma"] == pytest.approx(engine(learned, held).evaluate(atoms, gamma=True).gamma, rel=1e-6)


def test_md(aceal_lmp_code, learned, local, job_metadata):
    """The deck is the same; aceal-lmp finds the local set beside the .asi and grades every frame by it."""
    results, node = run_get_node(
        CalculationFactory("aceal.lammps"),
        code=aceal_lmp_code,
        structure=ConfigurationsData.from_atoms([bulk("Cu", cubic=True) * (2, 2, 2)]),
        potential=learned[0],
        active_set=local,
        seed=42,
        settings={"steps": 20, "temperature_K": 900.0, "timestep_ps": 0.002, "gamma_interval": 5, "gamma_lo": 0.01,
                  "gamma_hi": 1e9},
        metadata=job_metadata(),
    )  # fmt: skip
    assert node.is_finished_ok, node.exit_message
    held = local.get_active_set(learned[0])
    for atoms in results["candidates"].to_atoms([1, -1]):
        gamma = engine(learned, held).evaluate(atoms, gamma=True).gamma
        assert atoms.arrays["gamma"] == pytest.approx(gamma, rel=1e-6)
        assert not np.allclose(gamma, engine(learned, held.global_set()).evaluate(atoms, gamma=True).gamma)
    assert "clusters Cu 2; definition own, switch 1.5" in results["retrieved"].get_object_content("log.lammps")
