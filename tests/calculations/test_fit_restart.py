"""A nonlinear fit that runs out of time goes on from its coefficients."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.restart import under_restart
from aiida_aceal.workflows.restart_fit import rest_of

NONLINEAR = {"evaluations": 8000, "tolerance": 0, "early_stopping": False, "refresh": 5, "ladder": [3]}


def test_what_is_left_of_a_fit():
    report = {"settings": {"nonlinear": {"evaluations": 400}}, "rounds": [{"evaluations": 1}, {"evaluations": 150}]}
    rest = rest_of({"method": "nonlinear", "nonlinear": {"ladder": [20], "start": "linear", "refresh": 7}}, report)
    assert rest == {"method": "nonlinear", "nonlinear": {"evaluations": 250, "start": "auto", "refresh": 7}}
    assert rest_of({"method": "nonlinear"}, report)["nonlinear"] == {"evaluations": 250, "start": "auto"}
    report["rounds"][-1]["evaluations"] = 400
    assert rest_of({}, report)["nonlinear"]["evaluations"] == 1


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_fit_goes_on_from_its_coefficients(aceal_worker_code, cu_potential, cu_configurations, job_metadata):
    cls, inputs = under_restart(
        CalculationFactory("aceal.fit"),
        {
            "code": aceal_worker_code,
            "potential": cu_potential(scale=0.0),
            "dataset": {"g0": cu_configurations(100)},
            "settings": orm.Dict({"method": "nonlinear", "nonlinear": NONLINEAR}),
            "seed": orm.Int(1),
            "metadata": job_metadata(max_wallclock_seconds=8),
        },
    )
    assert cls.__name__ == "FitRestartWorkChain"
    _, node = run_get_node(cls, **inputs)
    assert node.is_finished_ok, node.exit_message
    jobs = sorted((n for n in node.called if isinstance(n, orm.CalcJobNode)), key=lambda job: job.pk)
    assert len(jobs) > 1
    assert [job.exit_status for job in jobs] == [306] * (len(jobs) - 1) + [0]
    assert "of at most 8000 evaluations" in jobs[0].exit_message
    reports = [output(job, "report").get_dict() for job in jobs]
    made = [report["rounds"][-1]["evaluations"] for report in reports]
    for before, after, job in zip(jobs, jobs[1:], reports[1:]):
        assert after.inputs.potential.uuid == before.outputs.potential.uuid
        assert job["start"] == "potential"
    assert [r["settings"]["nonlinear"]["evaluations"] for r in reports[1:]] == [
        8000 - sum(made[: k + 1]) for k in range(len(made) - 1)
    ]
    errors = [report["train"]["forces"]["rmse"] for report in reports]
    for before, report in zip(errors, reports[1:]):  # where the one before ended
        assert report["rounds"][0]["force_rmse"] == pytest.approx(before, rel=0.02)
    assert errors[-1] <= 1.01 * errors[0]
    assert node.outputs.potential.uuid == jobs[-1].outputs.potential.uuid
