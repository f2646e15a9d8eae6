"""The report of a campaign: complete, self-contained, safe, for any number of generations."""

import io
import re

import pytest

from aiida_aceal.report.figures import draw
from aiida_aceal.report.page import page
from aiida_aceal.report.table import HEADINGS, cells, number, rich_table, text_lines


def row(generation, **kwargs):
    values = {
        "generation": generation,
        "status": "learned",
        "n_candidates": 12,
        "n_selected": 5,
        "n_training": 20 + 5 * generation,
        "gamma_lo": 2.0,
        "gamma_hi": 10.0,
        "gamma_stop": 2.0,
        "wall_seconds": 12.3,
        "label_core_seconds": 0.4,
        "md_steps_reached": 1000 * generation,
        "md_steps_total": 5000,
        "max_gamma": 15.0,
        "quarantine": [],
    }
    for name in ("energy", "forces"):
        for measure in ("rmse", "max"):
            values[f"new_{name}_{measure}_before"] = 0.05
            values[f"new_{name}_{measure}_after"] = 0.01
            values[f"holdout_{name}_{measure}"] = 0.02
    return {**values, **kwargs}


def first():
    nothing = dict.fromkeys(("md_steps_reached", "md_steps_total", "max_gamma", "new_forces_rmse_before"))
    return row(0, status="initial", **nothing)


ROWS = {
    "none": [],
    "first": [first()],
    "some": [first(), row(1), row(2, status="refused"), row(3, status="converged", max_gamma=1.5)],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_page_is_one_file(rows):
    text = page("Copper & co", rows, HEADINGS, [cells(r) for r in rows], {"Seed": 1}, ["a <b> line"])
    assert text.count("<tr") == len(rows) + 1
    assert not re.search(r'(src|href|url)\s*[=(]\s*["\']?(http|//)', text)
    assert "Copper &amp; co" in text
    assert "a &lt;b&gt; line" in text
    assert '<meta name="viewport"' in text


def test_failed_labels_are_listed():
    rows = [row(1, quarantine=[{"hash": "abc123", "reason": "SCF did not converge"}])]
    text = page("t", rows, HEADINGS, [cells(r) for r in rows], {})
    assert "abc123: SCF did not converge" in text


def test_figures_differ_with_the_numbers():
    assert draw("Force error", ROWS["some"]) != draw("Force error", ROWS["first"])


def test_table_of_terminal_and_of_plain_text():
    lines = text_lines(ROWS["some"])
    assert len(lines) == 5
    assert "50.0 → 10.0" in lines[2]
    assert len({len(line) for line in lines[:3]}) == 1
    table = rich_table(ROWS["some"])
    assert table.row_count == 4
    assert len(table.columns) == len(HEADINGS)


def test_narrow_terminals_get_the_same_numbers_on_two_lines():
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rich_table(ROWS["some"], "Copper", width=80))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    for word in ("50.0→10.0", "converged", "fit refused", "20.0", "35", "5000"):
        assert word in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0.00"),
        (1.2345, "1.23"),
        (123.4, "123"),
        (0.00123, "0.00123"),
        (1e-6, "1.00e-06"),
        (1e7, "1.00e+07"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_campaigns_stored_before_the_best_was_recorded_are_shown(aiida_profile, tmp_path):
    """Their rows say nothing of the best, of three roles, or of a test set."""
    from aiida.orm import WorkChainNode

    from aiida_aceal.report.campaign import result_lines, write_report

    node = WorkChainNode().store()
    node.set_process_state("finished")
    old = [row(0, status="initial"), row(1, holdout_forces_rmse=0.005, accepted=True)]
    assert result_lines(node, old) == [
        "Validation force RMSE (gate, choice, calibration): 20.0 -> 5.0 meV/A, 4.0 times smaller"
    ]
    assert cells(old[1])[-1] == "learned"
    assert cells({**old[1], "is_best": False})[-1] == "learned, not best"
    assert "Generations" in write_report(node, tmp_path / "report.html").read_text()


def test_what_is_said_of_a_campaign_without_a_test_set(aiida_profile):
    from aiida.orm import WorkChainNode

    from aiida_aceal.report.campaign import result_lines

    node = WorkChainNode().store()
    node.set_process_state("finished")
    rows = [first(), row(1, holdout_forces_rmse=0.005, accepted=True, is_best=True), row(2, is_best=False)]
    lines = result_lines(node, rows)
    assert lines[0] == "Potential: of generation 1, the best on the validation set"
    assert "20.0 -> 5.0 meV/A" in lines[1]
    assert lines[2].startswith("Test set: none; errors on the validation set")
    assert lines[2].endswith("flatter it")
