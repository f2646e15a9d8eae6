"""``aceal.evaluate`` through AiiDA with the real worker, and the failures that all worker CalcJobs share."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_aceal.ace import AceModel
from aiida_aceal.calculations.worker_base import n_threads, thread_lines
from aiida_aceal.common.configurations import get_labels


@pytest.fixture
def run_evaluate(aceal_worker_code, cu_potential, cu_configurations, job_metadata):
    def run(**inputs):
        base = {
            "code": aceal_worker_code,
            "potential": cu_potential(),
            "configurations": cu_configurations(4),
            "metadata": job_metadata(),
        }
        return run_get_node(CalculationFactory("aceal.evaluate"), **{**base, **inputs})

    return run


def test_evaluate(run_evaluate, cu_potential, cu_configurations):
    results, node = run_evaluate()
    assert node.is_finished_ok, node.exit_message
    model = AceModel(cu_potential().get_potential(), threads=1)
    frames = cu_configurations(4).to_atoms()
    out = results["evaluated"].to_atoms()
    assert [a.info["aceal_hash"] for a in out] == [a.info["aceal_hash"] for a in frames]
    errors = []
    for before, after in zip(frames, out, strict=True):
        assert get_labels(after)[0] == pytest.approx(model.evaluate(before).energy, rel=1e-12)
        assert after.info["source"] == "rattled"
        assert after.arrays["reference_forces"] == pytest.approx(get_labels(before)[1], abs=0)
        errors.append(get_labels(after)[1] - get_labels(before)[1])
    assert results["report"]["forces"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    # bulk is stored once: as nodes, neither in the repository of the job nor in what was retrieved
    assert not any(name.endswith("extxyz") for name in node.base.repository.list_object_names())
    assert not any(name.endswith("extxyz") for name in results["retrieved"].base.repository.list_object_names())


def test_report_only_and_cores(run_evaluate, job_metadata):
    results, node = run_evaluate(settings={"store": False, "worst": 1}, metadata=job_metadata(threads=2))
    assert node.is_finished_ok, node.exit_message
    assert "evaluated" not in results
    assert len(results["report"]["worst"]) == 1
    assert "export OMP_NUM_THREADS=2" in node.base.repository.get_object_content("_aiidasubmit.sh")


def test_wrong_element_is_refused_at_submission(run_evaluate, cu_potential):
    with pytest.raises(ValueError, match=r"configurations: element Cu is unknown to the potential \(it knows Ni\)"):
        run_evaluate(potential=cu_potential(elements=("Ni",)))


def test_unknown_setting_is_refused_at_submission(run_evaluate):
    with pytest.raises(ValueError, match="unknown key 'wurst'; did you mean 'worst'"):
        run_evaluate(settings={"wurst": 3})


def test_what_the_worker_would_refuse_is_refused_at_submission(run_evaluate):
    with pytest.raises(ValueError, match=r"settings\.worst: must be a non-negative integer, found 'many'"):
        run_evaluate(settings={"worst": "many"})
    with pytest.raises(ValueError, match="unknown key 'stores'; did you mean 'store'"):
        run_evaluate(settings={"stores": False})


def test_out_of_walltime(run_evaluate, cu_configurations, job_metadata):
    """core.direct enforces no limit; the worker's own one does."""
    metadata = job_metadata()
    metadata["options"]["max_wallclock_seconds"] = 1
    _, node = run_evaluate(configurations=cu_configurations(3000, repeat=(2, 2, 2), labelled=False), metadata=metadata)
    assert node.exit_status == 306, node.exit_message
    assert "the time limit of 1 s is reached" in node.exit_message


def test_killed_worker(run_evaluate, job_metadata):
    """A crash that leaves no message: the shell's own word is reported."""
    _, node = run_evaluate(metadata=job_metadata(prepend_text="ulimit -v 300000"))
    assert node.exit_status in (302, 307), node.exit_message
    assert node.exit_message


def test_missing_executable(run_evaluate, localhost):
    code = orm.InstalledCode(label="none", computer=localhost, filepath_executable="/nowhere/aceal-worker").store()
    _, node = run_evaluate(code=code)
    assert node.exit_status == 302
    assert "/nowhere/aceal-worker" in node.exit_message


def test_output_lost_or_cut(run_evaluate, job_metadata):
    _, node = run_evaluate(metadata=job_metadata(append_text="rm -f evaluated.extxyz"))
    assert node.exit_status == 303
    assert "evaluated.extxyz" in node.exit_message
    results, node = run_evaluate(metadata=job_metadata(append_text="sed -i '$d' evaluated.extxyz"))
    assert node.exit_status == 304
    assert "evaluated.extxyz, structure" in node.exit_message or "structure" in node.exit_message
    assert "report" in results, "what can be read is kept"
    _, node = run_evaluate(metadata=job_metadata(append_text="head -c 20 report.json > r; mv r report.json"))
    assert node.exit_status == 304
    assert "report.json" in node.exit_message
    spoil = r"sed -i '0,/energy=-\{0,1\}[0-9.e+-]*/s//energy=nan/' evaluated.extxyz"
    _, node = run_evaluate(metadata=job_metadata(append_text=spoil))
    assert node.exit_status == 305, node.exit_message


def test_caching(run_evaluate):
    from aiida.manage.caching import enable_caching

    _, first = run_evaluate(settings={"worst": 3})
    with enable_caching(identifier="aiida.calculations:aceal.evaluate"):
        results, second = run_evaluate(settings={"worst": 3})
        _, third = run_evaluate(settings={"worst": 4})
    assert second.base.caching.get_cache_source() == first.uuid
    assert len(results["evaluated"]) == 4
    assert third.base.caching.get_cache_source() is None


def test_threads():
    assert n_threads({"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 2}}) == 2
    assert n_threads({"resources": {"num_mpiprocs_per_machine": 2, "num_cores_per_mpiproc": 4}}) == 8
    assert n_threads({"resources": {"tot_num_mpiprocs": 3, "num_machines": 1}}) == 3
    assert n_threads({"resources": {"parallel_env": "smp", "tot_num_mpiprocs": 5}}) == 5
    assert n_threads({}) == 1
    assert thread_lines({"environment_variables": {"OMP_NUM_THREADS": "7"}}) == ""
