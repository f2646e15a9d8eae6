"""``aceal.explore.active``, ``aceal.explore.pool`` and ``aceal.extract`` with the real worker."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory
from ase.build import bulk

from aiida_aceal.ace import AceModel
from aiida_aceal.calculations.job import AceExploreActiveCalculation
from aiida_aceal.common.configurations import write_configurations
from aiida_aceal.common.settings import build
from aiida_aceal.data.dataset import ConfigurationsData


@pytest.fixture
def run(aceal_worker_code, learned, job_metadata):
    def factory(entry_point, **inputs):
        potential, active_set = learned
        base = {"code": aceal_worker_code, "potential": potential, "active_set": active_set, "metadata": job_metadata()}
        return run_get_node(CalculationFactory(entry_point), **{**base, **inputs})

    return factory


def gammas(fitted, frames) -> np.ndarray:
    model = AceModel(fitted[0], threads=1)
    model.active_set = fitted[1]
    return np.array([model.evaluate(atoms, gamma=True).gamma.max() for atoms in frames])


def test_active(run, fitted, cu_configurations, job_metadata):
    inputs = {
        "configurations": cu_configurations(3, rattle=0.02),
        "settings": {"count": 2, "attempts": 6, "gamma_lo": 2.0, "gamma_hi": 10.0, "minimum_distance": 1.6},
        "seed": 7,
    }
    results, node = run("aceal.explore.active", **inputs)
    assert node.is_finished_ok, node.exit_message
    found = results["candidates"]
    assert 1 <= len(found) <= 2
    # later finds are graded with the earlier ones in the active set: only the first has this grade
    first = gammas(fitted, found.to_atoms([0]))[0]
    assert found.gamma_max[0] == pytest.approx(first, rel=1e-6)
    assert 2.0 < first < 10.0
    report = results["report"].get_dict()
    assert report["status"] == "completed"
    assert report["n_candidates"] == len(found)
    again, _ = run("aceal.explore.active", **{**inputs, "metadata": job_metadata(threads=2)})
    assert again["candidates"].hashes == found.hashes, "the number of cores must not matter"


def test_the_job_aims_where_the_worker_aims(run, cu_configurations, tmp_path):
    """One rule for the target: the file that the CalcJob writes must lead the worker to what was checked before."""
    from aiida_aceal.jobs.explore import JOB
    from aiida_aceal.worker.command import plan_of_file

    path = tmp_path / "settings.yaml"
    text = "mode: active\npotential: p\nactive_set: a\nstructures: [s]\noutput: o\n"
    for window in ({"gamma_lo": 2.0, "gamma_hi": 10.0}, {"gamma_lo": 2.0, "gamma_hi": 25.0}, {"gamma_hi": 100.0}, {}):
        path.write_text(text + "".join(f"{key}: {value}\n" for key, value in window.items()))
        alone = plan_of_file(JOB, path)[1]
        assert build(AceExploreActiveCalculation.JOB.node_model, window).window == alone.window
    inputs = {"configurations": cu_configurations(1), "settings": {"gamma_hi": 10.0, "attempts": 1}, "seed": 1}
    _, node = run("aceal.explore.active", **inputs)
    path.write_text(node.base.repository.get_object_content("settings.yaml"))
    assert plan_of_file(JOB, path)[1].target_gamma == 9.0


def test_active_settings(run, cu_configurations):
    common = {"configurations": cu_configurations(1), "seed": 1}
    with pytest.raises(ValueError, match="leave 'workers' out; it is the number of cores"):
        run("aceal.explore.active", settings={"workers": 3}, **common)
    with pytest.raises(ValueError, match="'output' is filled by the CalcJob"):
        run("aceal.explore.active", settings={"output": "x"}, **common)
    with pytest.raises(ValueError, match="unknown key 'cuont'"):
        run("aceal.explore.active", settings={"cuont": 3}, **common)


def test_pool(run, fitted, cu_atoms, cu_configurations, tmp_path, localhost):
    frames = [*cu_atoms(5, seed=3, rattle=0.05), *cu_atoms(5, seed=4, rattle=0.3, repeat=(2, 1, 1))]
    foreign = bulk("Ni", cubic=True)
    expected = gammas(fitted, frames)
    settings = {"gamma_lo": float(np.sort(expected)[4:6].mean()), "gamma_hi": 1e9, "minimum_distance": 0.5}
    pool = ConfigurationsData.from_atoms([*frames, foreign], source="pool")
    results, node = run("aceal.explore.pool", configurations=pool, settings=settings)
    assert node.is_finished_ok, node.exit_message
    inside = np.flatnonzero(expected > settings["gamma_lo"])
    assert sorted(results["candidates"].hashes) == sorted(pool.hashes[i] for i in inside)
    assert sorted(results["candidates"].gamma_max) == pytest.approx(sorted(expected[inside]), rel=1e-6)
    assert results["report"]["n_candidates"] == len(inside)
    # the same pool as a file, and as files that stay where they are
    path = tmp_path / "pool.extxyz"
    write_configurations(path, frames)
    by_file, node = run("aceal.explore.pool", configurations=orm.SinglefileData(path), settings=settings)
    assert node.is_finished_ok, node.exit_message
    assert by_file["candidates"].hashes == results["candidates"].hashes
    remote = orm.RemoteData(computer=localhost, remote_path=str(tmp_path)).store()
    with pytest.raises(ValueError, match="`pool_files` must list the files"):
        run("aceal.explore.pool", configurations=remote, settings=settings)
    linked, node = run(
        "aceal.explore.pool", configurations=remote, settings={**settings, "pool_files": ["pool.extxyz"]}
    )
    assert node.is_finished_ok, node.exit_message
    assert linked["candidates"].hashes == results["candidates"].hashes
    # what is known already is no candidate
    known, node = run("aceal.explore.pool", configurations=pool, settings=settings, known={"g0": results["candidates"]})
    assert node.is_finished_ok, node.exit_message
    assert "candidates" not in known
    assert known["report"]["n_candidates"] == 0


def test_extract(run, fitted, cu_atoms):
    (big,) = cu_atoms(1, seed=8, repeat=(5, 5, 5), rattle=0.05, labelled=False)
    big.positions[250] += [0.5, 0.3, 0.1]
    (small,) = cu_atoms(1, seed=9, rattle=0.4, labelled=False)
    given = ConfigurationsData.from_atoms([big, small], source="md")
    settings = {"max_atoms": 150, "max_cuts": 1, "inner_radius": 3.0, "relax": False, "gamma_lo": 1.2}
    results, node = run("aceal.extract", configurations=given, settings=settings)
    assert node.is_finished_ok, node.exit_message
    report = results["report"].get_dict()
    assert report["n_structures"] == 2
    cells = results["candidates"]
    assert len(cells) == report["n_candidates"] >= 1
    assert cells.sizes.max() <= 150
    assert given.hashes[1] in cells.hashes, "small enough: passed as it is"
    with pytest.raises(ValueError, match="unknown key 'max_atom'"):
        run("aceal.extract", configurations=given, settings={"max_atom": 3})
