"""From reports of steps to the numbers of a generation."""

import pytest

from aiida_aceal.workflows import summary


def explored(**kwargs):
    return {"status": "completed", "steps_reached": 100, "steps_total": 100, "max_gamma": 1.5, **kwargs}


def test_the_shortest_run_and_the_largest_grade_decide():
    numbers = summary.exploration_numbers([explored(), explored(status="halted", steps_reached=40, max_gamma=11.0)])
    assert numbers["md_steps_reached"] == 40
    assert numbers["max_gamma"] == 11.0
    assert not numbers["complete"]


def test_steps_of_explorers_of_different_length_are_not_mixed():
    long = explored(status="halted", steps_reached=500, steps_total=10000)
    for reports in ([explored(), long], [long, explored(steps_reached=90)], [explored(steps_reached=None), long]):
        numbers = summary.exploration_numbers(reports)
        assert (numbers["md_steps_reached"], numbers["md_steps_total"]) == (500, 10000)
    assert summary.exploration_numbers([{"status": "completed", "max_gamma": 1.2}])["md_steps_reached"] is None


@pytest.mark.parametrize(
    ("report", "converged"),
    [
        ({}, True),
        ({"max_gamma": 2.0}, True),
        ({"max_gamma": 2.01}, False),
        ({"status": "halted"}, False),
        ({"status": "failed"}, False),
        ({"max_gamma": None}, False),
    ],
)
def test_converged_means_full_length_and_no_grade_above_the_threshold(report, converged):
    numbers = summary.exploration_numbers([explored(**report)])
    assert summary.is_converged(numbers, 2.0) is converged


def test_a_generation_without_exploration_is_not_converged():
    assert not summary.is_converged(summary.exploration_numbers([]), 2.0)


def evaluated(forces, energy=0.001):
    return {"energy": {"rmse": energy, "max": 2 * energy}, "forces": {"rmse": forces, "max": 3 * forces}}


def test_gate_tolerates_a_little_and_names_numbers():
    assert summary.is_worse(evaluated(0.10), evaluated(0.11), 0.1) is None
    assert summary.is_worse(evaluated(0.12), evaluated(0.11), 0.1) is None
    reason = summary.is_worse(evaluated(0.13), evaluated(0.11), 0.1)
    assert "0.13" in reason
    assert "0.11" in reason
    assert "10 %" in reason


def test_the_best_is_the_newest_of_the_smallest_error():
    assert summary.is_best(evaluated(0.1), evaluated(0.1))
    assert summary.is_best(evaluated(0.09, energy=1.0), evaluated(0.1))
    assert not summary.is_best(evaluated(0.11), evaluated(0.1))
    assert not summary.is_best({"forces": {"rmse": None}}, evaluated(0.1))
    rows = [{"generation": 0, "is_best": True}, {"generation": 1, "is_best": True}, {"generation": 2, "is_best": False}]
    assert summary.best_row(rows)["generation"] == 1
    assert summary.best_row([{"generation": 0}]) == {}, "of a campaign that did not record it"


def test_gate_uses_energies_if_there_are_no_forces():
    assert summary.is_worse({"energy": {"rmse": 0.2}}, {"energy": {"rmse": 0.1}}, 0.1)
    assert summary.is_worse({"energy": {"rmse": 0.1}}, {"energy": {"rmse": 0.1}}, 0.1) is None


def test_gate_refuses_what_is_not_finite():
    assert "not finite" in summary.is_worse({"forces": {"rmse": None}}, evaluated(0.1), 0.1)


def test_row_and_totals():
    facts = {"generation": 3, "status": "learned", "n_labelled": 5, "n_failed_labels": 1, "label_core_seconds": 2.0}
    reports = {"before": evaluated(0.3), "after": evaluated(0.1), "holdout": evaluated(0.2), "explore_md": explored()}
    row = summary.generation_row(facts, reports)
    assert row["new_forces_rmse_before"] == 0.3
    assert row["new_forces_max_after"] == pytest.approx(0.3)
    assert row["holdout_energy_rmse"] == 0.001
    assert row["md_steps_reached"] == 100
    first = {**row, "generation": 0, "holdout_forces_rmse": 0.8}
    total = summary.campaign_summary({"status": "converged"}, [first, row])
    assert total["holdout_improvement"] == pytest.approx(4.0)
    middle = {**row, "generation": 1, "holdout_forces_rmse": 0.1, "is_best": True}
    best = summary.campaign_summary({"status": "converged"}, [first, middle, row])
    assert best["holdout_improvement"] == pytest.approx(8.0)
    assert best["holdout_forces_rmse_best"] == 0.1
    assert best["holdout_forces_rmse_last"] == 0.2
    assert total["n_labelled"] == 10
    assert total["n_failed_labels"] == 2
    assert total["label_core_seconds"] == 4.0


def test_attempts_of_other_explorers_are_no_md_length():
    md = {"status": "completed", "steps_reached": 900, "steps_total": 1000, "max_gamma": 2.0}
    active = {"mode": "active", "status": "completed", "steps_reached": 4, "steps_total": 100, "max_gamma": 9.0}
    numbers = summary.exploration_numbers([md, active])
    assert (numbers["md_steps_reached"], numbers["md_steps_total"]) == (900, 1000)
    assert numbers["max_gamma"] == 9.0
    assert summary.exploration_numbers([active])["md_steps_reached"] == 4
