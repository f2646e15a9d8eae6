"""The engine of a campaign in one process."""

from __future__ import annotations

import time

import pytest
from aiida import orm
from aiida.manage import get_manager
from aiida.plugins import CalculationFactory

from aiida_aceal.cli.embedded import run_watched
from aiida_aceal.cli.engine import LONGEST_PAUSE, PATIENCE, EmbeddedRunner, PatientJobsList
from aiida_aceal.workflows.restart import under_restart


@pytest.fixture
def evaluation(aceal_worker_code, cu_configurations, cu_potential, job_metadata):
    """Inputs of a small job."""
    inputs = {"code": aceal_worker_code, "configurations": cu_configurations(2), "potential": cu_potential()}
    return {**inputs, "metadata": job_metadata()}


@pytest.fixture(autouse=True)
def runner_of_its_own():
    """Others have the usual one."""
    get_manager().reset_runner()
    yield
    get_manager().reset_runner()


def test_a_parent_is_told_and_does_not_ask(evaluation, monkeypatch):
    asked = []

    def note(runner, node, callback):
        asked.append((node.pk, node.is_terminated))
        runner.loop.call_soon(callback)

    monkeypatch.setattr(EmbeddedRunner, "_poll_process", note)
    cls, wrapped = under_restart(CalculationFactory("aceal.evaluate"), evaluation)
    builder = cls.get_builder()
    builder._update(wrapped)
    node = run_watched(builder, lambda node: None)
    assert node.is_finished_ok, node.exit_message
    (job,) = node.called
    # asked once, when it had told us already
    assert asked == [(job.pk, True)]
    assert job.checkpoint is None
    assert node.checkpoint is None


def test_a_process_that_lives_elsewhere_is_asked_for():
    runner = EmbeddedRunner()
    node = orm.WorkChainNode().store()
    node.set_process_state("waiting")
    called = []
    runner.call_on_process_finish(node.pk, lambda: (called.append(time.monotonic()), runner.stop()))
    ended = []

    def end():
        node.set_process_state("finished")
        ended.append(time.monotonic())

    runner.loop.call_later(0.3, end)
    runner.start()
    assert called[0] >= ended[0]
    runner.close()


@pytest.fixture
def jobs_list(localhost):
    transport = EmbeddedRunner()._transport
    authinfo = localhost.get_authinfo(orm.User.collection.get_default())
    localhost.set_minimum_job_poll_interval(0.1)
    return PatientJobsList(authinfo, transport), authinfo


def test_long_jobs_are_asked_for_less_often(jobs_list, monkeypatch):
    jobs, authinfo = jobs_list
    now = [100.0]
    monkeypatch.setattr("aiida_aceal.cli.engine.time.monotonic", lambda: now[0])
    monkeypatch.setattr(jobs, "_ensure_updating", lambda: None)
    assert jobs.get_minimum_update_interval() == 0.1
    with jobs.request_job_info_update(authinfo, "1"):
        assert jobs.get_minimum_update_interval() == 0.1
        now[0] += 10.0
        assert jobs.get_minimum_update_interval() == pytest.approx(10.0 * PATIENCE)
        now[0] += 1000.0
        assert jobs.get_minimum_update_interval() == LONGEST_PAUSE
        with jobs.request_job_info_update(authinfo, "2"):  # a new job is short until it has run for long
            assert jobs.get_minimum_update_interval() == 0.1


def test_the_computer_has_the_last_word(jobs_list):
    jobs, _ = jobs_list
    jobs._authinfo.computer.set_minimum_job_poll_interval(30.0)
    assert jobs.get_minimum_update_interval() == 30.0
    jobs._authinfo.computer.set_minimum_job_poll_interval(0.1)


def test_the_first_checkpoint_is_kept_while_a_process_lives(evaluation):
    """By it `aiida_aceal.workflows.base` knows a process that is alive."""
    seen = []
    builder = CalculationFactory("aceal.evaluate").get_builder()
    builder._update(evaluation)
    node = run_watched(builder, lambda node: seen.append((node.is_terminated, node.checkpoint is not None)))
    assert node.is_finished_ok
    assert (False, True) in seen
    assert (False, False) not in seen
