"""Jobs that were ended from outside are known by the words of shells and schedulers, and by accounting."""

import pytest
from aiida import orm

from aiida_aceal.parsers.worker_base import end_of


@pytest.mark.parametrize(
    "line",
    [
        "_aiidasubmit.sh: line 12:  6760 Killed                  'aceal-worker' 'fit' 'settings.yaml'",
        "/var/spool/slurmd/job00012/slurm_script: line 20: 71 Terminated  aceal-worker label",
        "slurmstepd: error: *** JOB 12 ON node03 CANCELLED AT 2026-03-01T12:00:00 ***",
        "slurmstepd: error: *** JOB 12 ON node03 CANCELLED AT 2026-03-01T12:00:00 DUE TO NODE FAILURE ***",
        "=>> PBS: job killed: Terminated on signal SIGTERM",
    ],
)
def test_words_of_shells_and_schedulers(line):
    assert end_of(orm.CalcJobNode(), f"something else\n{line}\n") == line


@pytest.mark.parametrize(
    "line",
    [
        "no structure was killed",
        "slurmstepd: error: *** JOB 12 ON n CANCELLED AT 2026 DUE TO TIME LIMIT ***",
        "the run terminated normally",
        "ERROR: Lost atoms",
    ],
)
def test_words_of_programs_are_not_taken_for_them(line):
    assert end_of(orm.CalcJobNode(), line) is None


@pytest.mark.parametrize(("state", "ended"), [("CANCELLED by 1000", True), ("NODE_FAIL", True), ("COMPLETED", False)])
def test_states_by_accounting(state, ended):
    node = orm.CalcJobNode()
    text = f"AllocCPUS|Account|State|\n2|me|{state}|\n2|me|{state.split()[0]}|\n"
    node.set_detailed_job_info({"retval": 0, "stdout": text, "stderr": ""})
    assert (end_of(node, "") is not None) is ended
