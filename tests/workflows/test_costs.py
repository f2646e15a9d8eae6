"""Cost by stage: jobs side by side count once in wall time, cached ones not at all, the rest is without any job."""

import pytest

from aiida_aceal.report.costs import cost_cells, cost_headings, cost_lines, cost_words
from aiida_aceal.workflows.costs import REST, STAGES, JobCost, cost_table, stage_of

JOBS = [
    JobCost(stage="md", began=10.0, ended=20.0, core_seconds=18.0),
    JobCost(stage="md", began=15.0, ended=30.0, core_seconds=14.0),
    JobCost(stage="labels", began=40.0, ended=45.0, core_seconds=9.0),
    JobCost(stage="fits", began=50.0, ended=60.0, core_seconds=20.0),
    JobCost(stage="validation", began=55.0, ended=65.0, core_seconds=10.0),
    JobCost(stage="validation", began=70.0, ended=71.0, core_seconds=3.0, cached=True),
]


def test_table_of_one_generation():
    table = cost_table(JOBS, 0.0, 100.0)
    assert table["stages"]["md"] == {"wall_seconds": 20.0, "core_seconds": 32.0, "n_jobs": 2}
    assert table["stages"]["selection"] == {"wall_seconds": 0.0, "core_seconds": 0.0, "n_jobs": 0}
    assert table["stages"]["validation"] == {"wall_seconds": 10.0, "core_seconds": 10.0, "n_jobs": 1}
    # 20 of MD, 5 of labels, 15 of the fit and the validation beside it
    assert table[REST]["wall_seconds"] == 100.0 - 40.0
    assert table["total"] == {"wall_seconds": 100.0, "core_seconds": 71.0, "n_jobs": 5}
    assert table["cached"] == {"n_jobs": 1, "core_seconds": 3.0}


@pytest.mark.parametrize(
    ("label", "stage"),
    [
        ("explore_md", "md"), ("score", "selection"), ("extract", "selection"), ("select", "selection"),
        ("label_initial", "labels"), ("label_label", "labels"), ("label_test", "labels"), ("sampler", "labels"),
        ("test_sampler", "labels"), ("fit", "fits"), ("maxvol", "fits"), ("old_active_set_job", "fits"),
        ("before", "validation"), ("holdout", "validation"), ("holdout_before", "validation"),
        ("test_evaluation", "validation"), ("window_001", REST), ("summary", REST),
    ],
)  # fmt: skip
def test_stages_of_children(label, stage):
    assert stage_of(label) == stage


def test_lines_and_words():
    table = cost_table(JOBS, 0.0, 100.0)
    costs = {"generations": {"3": table}, "campaign": cost_table([], 0.0, 0.0), "total": table}
    unit, rows = cost_cells(costs)
    assert unit == "s"
    assert rows[0] == ["3", "20.0/32.0", "-", "5.0/9.0", "10.0/20.0", "10.0/10.0", "60.0", "100.0/71.0", "5 + 1 cached"]
    assert [row[0] for row in rows] == ["3", "sum"]  # nothing was done outside of generations
    assert {len(row) for row in rows} == {len(cost_headings())} == {len(STAGES) + 4}
    assert len(cost_lines(costs)) == 4
    words = cost_words(costs)
    assert words.startswith("71.0 core s (MD 32.0, fits 20.0, validation 10.0, labels 9.0)")
    assert "no job at work for 60% of the time" in words
    assert "1 job from earlier campaigns saved 3.0 core s" in words


def test_long_campaigns_are_counted_in_hours():
    table = cost_table([JobCost(stage="labels", began=0.0, ended=7200.0, core_seconds=72000.0)], 0.0, 9000.0)
    unit, rows = cost_cells({"generations": {"0": table}, "campaign": None, "total": table})
    assert unit == "h"
    assert rows[0][3] == "2.0/20.0"
    assert rows[0][6] == "0.5"
