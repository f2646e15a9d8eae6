"""Runs in the command itself: paused jobs end them, reports reach the display."""

import logging

import pytest
from aiida import orm
from small_campaign import builder_for, small

from aiida_aceal.cli.embedded import run_watched
from aiida_aceal.cli.live import Display, Watcher, quiet_logging


@pytest.mark.timeout(120)
def test_a_job_that_cannot_be_submitted_ends_the_run(codes, aiida_profile):
    """AiiDA pauses such a job and waits for ever; a command that runs it must not."""
    computer = orm.Computer(
        label="no-workdir",
        hostname="localhost",
        transport_type="core.local",
        scheduler_type="core.direct",
        workdir="/proc/no/such/folder",
    ).store()
    computer.configure(safe_interval=0, use_login_shell=False)
    computer.set_minimum_job_poll_interval(0.0)
    code = orm.InstalledCode(
        label="worker", computer=computer, filepath_executable="/bin/true", default_calc_job_plugin="aceal.evaluate"
    ).store()
    node = run_watched(builder_for(small(), {**codes, "aceal-worker": code}), Watcher(Display("test")))
    assert node.is_killed
    assert "AceSampleCalculation" in node.process_status
    assert "cannot go on" in node.process_status


def test_reports_go_to_the_display_and_the_console_stays_clean(capsys):
    display = Display("test")
    with quiet_logging(display):
        logging.getLogger("aiida.orm.nodes.process").log(23, "[12|GenerationWorkChain|fit]: generation 1: fitting")
    assert display.step == "generation 1: fitting"
    assert capsys.readouterr().err == ""
    assert any(isinstance(handler, logging.StreamHandler) for handler in logging.getLogger("aiida").handlers)
