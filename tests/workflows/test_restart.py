"""Jobs of core.direct that are really killed, run out of time, or fail: what the restart WorkChains do about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.restart import check_restart, under_restart

pytestmark = pytest.mark.long


@pytest.fixture
def run_restarting():
    """Run a CalcJob as campaigns do; returns the WorkChain and its jobs."""

    def run(entry_point, restart=None, **inputs):
        if restart is not None:
            inputs["restart"] = orm.Dict(restart)
        cls, inputs = under_restart(CalculationFactory(entry_point), inputs)
        _, node = run_get_node(cls, **inputs)
        return node, sorted(node.called, key=lambda child: child.pk)

    return run


@pytest.fixture
def evaluation(aceal_worker_code, cu_configurations, cu_potential):
    return {"code": aceal_worker_code, "configurations": cu_configurations(2), "potential": cu_potential()}


def story(node):
    return "\n".join(log.message for log in orm.Log.collection.get_logs_for(node))


def only_once(tmp_path, lines):
    """Shell lines that the first job runs, but not those after it."""
    flag = tmp_path / "done"
    return f"if [ ! -e '{flag}' ]; then touch '{flag}'; {lines}; fi"


@pytest.mark.parametrize(
    ("lines", "status"),
    [("kill -KILL $$", 303), ("( while ! pkill -TERM -P $$ -f worker; do sleep 0.05; done ) & true", 309)],
)
def test_a_killed_job_is_submitted_again(run_restarting, evaluation, job_metadata, tmp_path, lines, status):
    metadata = job_metadata(prepend_text=only_once(tmp_path, lines))
    node, jobs = run_restarting("aceal.evaluate", **evaluation, metadata=metadata)
    assert node.is_finished_ok, node.exit_message
    assert [job.exit_status for job in jobs] == [status, 0]
    assert "submitted again" in story(node)
    assert output(node, "report").get_dict()["n_structures"] == 2
    assert [link.link_label for link in node.base.links.get_outgoing(node_class=orm.CalcJobNode).all()] == [
        "iteration_01",
        "iteration_02",
    ]


def test_resubmissions_are_bounded(run_restarting, evaluation, job_metadata):
    metadata = job_metadata(prepend_text="kill -KILL $$")
    node, jobs = run_restarting("aceal.evaluate", {"max_resubmissions": 1}, **evaluation, metadata=metadata)
    assert node.exit_status == 303
    assert node.exit_message.endswith("(the last of 2 jobs)")
    assert len(jobs) == 2
    assert output(node, "retrieved") is not None, "what there is, is kept"


def test_more_time(run_restarting, evaluation, job_metadata):
    metadata = job_metadata()
    metadata["options"]["max_wallclock_seconds"] = 1
    restart = {"wallclock_factor": 500, "wallclock_bound": 300}
    node, jobs = run_restarting("aceal.evaluate", restart, **evaluation, metadata=metadata)
    assert [job.exit_status for job in jobs] == [306, 0], node.exit_message
    assert [job.get_option("max_wallclock_seconds") for job in jobs] == [1, 300]
    node, jobs = run_restarting("aceal.evaluate", {"wallclock_bound": 1}, **evaluation, metadata=metadata)
    assert (node.exit_status, len(jobs)) == (306, 1)


def test_less_memory(run_restarting, evaluation, job_metadata):
    """Out of memory: half as many threads, until there is one."""
    lines = "echo 'MemoryError: numpy' > aceal.err; cat aceal.err >&2; exit 1"
    node, jobs = run_restarting("aceal.evaluate", **evaluation, metadata=job_metadata(threads=4, prepend_text=lines))
    assert [job.exit_status for job in jobs] == [307] * 3, node.exit_message
    threads = [(job.get_option("environment_variables") or {}).get("OMP_NUM_THREADS") for job in jobs]
    assert threads == [None, "2", "1"]


def test_a_failure_of_its_own_is_not_repeated(run_restarting, evaluation, localhost):
    code = orm.InstalledCode(label="no", computer=localhost, filepath_executable="/nowhere/aceal-worker").store()
    node, jobs = run_restarting("aceal.evaluate", **{**evaluation, "code": code})
    assert (node.exit_status, len(jobs)) == (302, 1)
    assert "/nowhere/aceal-worker" in node.exit_message
    node, jobs = run_restarting(
        "aceal.evaluate", {"on_unhandled_failure": "restart_once"}, **{**evaluation, "code": code}
    )
    assert (node.exit_status, len(jobs)) == (302, 2)


@pytest.fixture
def hanging(aceal_worker_code, cu_atoms):
    """A job of four labels, of which those of the given indices hang."""

    def inputs(*indices, **settings):
        frames = cu_atoms(4, labelled=False, rattle=0.01)
        for index in indices:
            frames[index].positions[:, 0] += 1.0
        return {
            "code": aceal_worker_code,
            "configurations": ConfigurationsData.from_atoms(frames).store(),
            "settings": orm.Dict(
                {"calculator": "faulty:Faulty", "kwargs": {"fault": "hang"}, "workers": 1, **settings}
            ),
        }

    return inputs


FAULTY = f"export PYTHONPATH='{Path(__file__).parents[1] / 'worker'}'\n"


def kill_after_labels(number):
    """Shell lines that kill the worker of a job when it has made so many labels."""
    count = 'n=$(grep -c \'"state": "labelled"\' labels.jsonl)'
    wait = f"n=0; while [ ${{n:-0}} -lt {number} ]; do sleep 0.05; {count}; done"
    return f"( {wait}; pkill -KILL -P $$ -f worker ) & true"


def test_labels_of_a_killed_job_are_kept(run_restarting, hanging, job_metadata, tmp_path):
    """All processes of the first job are killed after two labels; the second job takes them and makes the others."""
    lines = only_once(tmp_path, kill_after_labels(2))
    inputs = hanging(2, timeout=4)
    node, jobs = run_restarting("aceal.label.ase", **inputs, metadata=job_metadata(prepend_text=FAULTY + lines))
    assert jobs[0].exit_status == 311, jobs[0].exit_message
    report = output(node, "report").get_dict()
    assert output(jobs[1], "report").get_dict()["n_taken"] == 2
    assert node.is_finished_ok, node.exit_message
    hashes = inputs["configurations"].hashes
    assert output(node, "labelled").hashes == [hashes[0], hashes[1], hashes[3]]
    assert (report["n_labelled"], report["n_failed"], report["n_not_tried"]) == (3, 1, 0)
    assert "no result after 4 s" in report["failures"][0]["reason"]
    assert report["failures"][0]["reason"].endswith("(tried 3 times)")


def test_labels_go_on_with_more_time(run_restarting, hanging, job_metadata):
    """Four labels of three seconds each are too many for the first job; the next ones get more time."""
    inputs = hanging(0, 1, 2, 3, kwargs={"fault": "slow"})
    metadata = job_metadata(prepend_text=FAULTY)
    metadata["options"]["max_wallclock_seconds"] = 12
    node, jobs = run_restarting("aceal.label.ase", **inputs, metadata=metadata)
    assert node.is_finished_ok, node.exit_message
    assert [job.exit_status for job in jobs] == [*[311] * (len(jobs) - 1), 0]
    assert [job.get_option("max_wallclock_seconds") for job in jobs][:2] == [12, 24]
    assert output(node, "labelled").hashes == inputs["configurations"].hashes
    made = [output(job, "report").get_dict() for job in jobs]
    assert made[-1]["n_taken"] == made[-2]["n_labelled"], "no label is made twice"


def test_an_unfinished_job_is_gone_on_from_with_caching(run_restarting, hanging, job_metadata, tmp_path):
    """The same input, run again, computes only what is missing; once that is there, nothing."""
    from aiida.manage.caching import enable_caching

    restart = {"handler_overrides": {"handle_incomplete_labels": {"enabled": False}}}
    metadata = job_metadata(prepend_text=FAULTY + only_once(tmp_path, kill_after_labels(2)))
    inputs = {**hanging(2, kwargs={"fault": "slow"}), "metadata": metadata}
    node, jobs = run_restarting("aceal.label.ase", restart, **inputs)
    assert (node.exit_status, len(jobs)) == (311, 1)
    assert len(output(node, "labelled")) == 2
    with enable_caching(identifier="aiida.calculations:aceal.label.ase"):
        node, jobs = run_restarting("aceal.label.ase", restart, **inputs)
        assert node.is_finished_ok, node.exit_message
        assert "going on from the labels of AceLabelAseCalculation" in story(node)
        assert output(node, "report").get_dict()["n_taken"] == 2
        assert len(output(node, "labelled")) == 4
        node, jobs = run_restarting("aceal.label.ase", restart, **inputs)
    assert [job.base.caching.is_created_from_cache for job in jobs] == [True]
    assert len(output(node, "labelled")) == 4


def test_settings_of_restarts_are_checked():
    assert check_restart({"max_iterations": 2, "handler_overrides": {"handle_lost_job": {"enabled": False}}}) is None
    assert "max_iterations: must be a positive integer, found 0" in check_restart({"max_iterations": 0})
    assert "no handler 'handle_all'; there are handle_lost_job" in check_restart(
        {"handler_overrides": {"handle_all": {}}}
    )
