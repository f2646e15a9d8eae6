"""Calibration of gamma in each generation, and the policy that accepts what it proposes."""

import numpy as np
import pytest

from aiida_aceal.fitting import Calibration
from aiida_aceal.report.figures import draw
from aiida_aceal.report.rows import generations, rows_of
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.windows import policies
from aiida_aceal.workflows.windows.calibration import calibration_of, has_pairs, proposal_text


def pairs(slope: float, count: int = 400) -> dict:
    """Report of an evaluation in which the force error grows with gamma."""
    gamma = np.geomspace(0.2, 40.0, count)
    return {"graded_errors": {"gamma": gamma.tolist(), "error": (slope * gamma).tolist(), "n": count}}


def row(slope: float, count: int = 400) -> dict:
    return {"calibration": calibration_of([pairs(slope, count)])}


def test_window_follows_the_expected_error():
    settings = {"policy": "calibrated", "error_lo": 0.03, "error_hi": 0.12, "lo_bounds": [1.0, 10.0]}
    flat = policies.choose_window(settings, [row(0.01)])
    assert flat.gamma_lo == pytest.approx(3.0, rel=0.05)
    assert flat.gamma_hi == pytest.approx(12.0, rel=0.05)
    assert flat.gamma_stop == flat.gamma_lo
    assert "400 environments" in flat.reason
    assert "30 at gamma_lo" in flat.reason
    steep = policies.choose_window(settings, [row(0.01), {}, row(0.02)])  # the last one counts
    assert steep.gamma_lo == pytest.approx(1.5, rel=0.05)
    assert steep.gamma_hi == pytest.approx(6.0, rel=0.05)


def test_bounds_hold_and_what_was_not_seen_is_said():
    window = policies.choose_window({"policy": "calibrated", "error_lo": 1.0, "error_hi": 50.0}, [row(0.001)])
    assert (window.gamma_lo, window.gamma_hi) == (5.0, 25.0)
    assert "not reached in the data" in window.reason


@pytest.mark.parametrize(
    ("given", "window", "words"),
    [
        # the proposal of this data: gamma_lo 5, gamma_hi 25
        ({"gamma_stop": 1.5}, (1.5, 25.0, 1.5), "gamma_lo only 1.5, since gamma_stop 1.5 bounds it"),
        ({"gamma_stop": 7.0}, (5.0, 25.0, 7.0), None),
        ({"gamma_lo": 2.0}, (5.0, 25.0, 5.0), "gamma_stop follows gamma_lo: 5 instead of 2; state gamma_stop"),
        ({"gamma_lo": 5.0, "gamma_hi": 9.0}, (5.0, 25.0, 5.0), None),
        (
            {"gamma_stop": 9.0, "hi_bounds": [6.0, 6.0], "lo_bounds": [3.0, 3.0]},
            (3.0, 6.0, 6.0),
            "gamma_stop 6 instead of 9",
        ),
    ],
)
def test_the_stop_criterion_is_never_loosened_in_silence(given, window, words):
    settings = {"policy": "calibrated", "error_lo": 1.0, "error_hi": 50.0, **given}
    settings.setdefault("gamma_lo", 1.5)
    found = policies.choose_window({"gamma_hi": 10.0, **settings}, [row(0.001)])
    assert (found.gamma_lo, found.gamma_hi, found.gamma_stop) == window
    assert ("gamma_stop" in found.reason) == (words is not None)
    assert words is None or words in found.reason
    assert found.gamma_stop <= given.get("gamma_stop", np.inf)


def test_fixed_window_while_there_is_too_little():
    settings = {"policy": "calibrated", "gamma_lo": 3.0, "gamma_hi": 12.0, "min_count": 500}
    for history in ([], [{}], [row(0.01)]):
        window = policies.choose_window(settings, history)
        assert (window.gamma_lo, window.gamma_hi, window.gamma_stop) == (3.0, 12.0, 3.0)
        assert "500 graded environments" in window.reason


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"error_low": 0.1}, "did you mean 'error_lo'"),
        ({"error_lo": 0.3, "error_hi": 0.1}, "error_lo .0.3. must not exceed error_hi .0.1."),
        ({"hi_bounds": [25.0, 5.0]}, "hi_bounds must be two positive ascending numbers"),
        ({"gamma_lo": 12.0, "gamma_hi": 3.0}, "must be below gamma_hi"),
    ],
)
def test_wrong_settings_show_at_submission(settings, words):
    with pytest.raises(ValueError, match=words):
        policies.choose_window({"policy": "calibrated", **settings})


def test_proposal_in_words():
    assert proposal_text([{}]) is None
    rows = [row(0.01), row(0.02), {}]
    found = rows[1]["calibration"]["proposal"]
    assert f"gamma_hi {found['gamma_hi']:.3g}" in proposal_text(rows)
    assert draw("Calibration of γ", rows) != draw("Calibration of γ", rows[:1])


def test_no_pairs():
    assert not has_pairs([{}, {"graded_errors": {}}, {"graded_errors": {"gamma": [1.0], "error": [0.1]}}])
    assert has_pairs([pairs(0.1)])


@pytest.mark.long
def test_generations_store_their_calibration(finished_campaign):
    found = {}
    for number, generation in enumerate(generations(finished_campaign)):
        node = output(generation, "calibration")
        learned = output(generation, "labelled") is not None and number > 0
        assert (node is not None) == learned
        if node is not None:
            found[number] = node.get_dict()
    assert found
    for number, data in found.items():
        calibration = Calibration.from_dict(data)
        labelled = output(generations(finished_campaign)[number], "labelled")
        holdout = finished_campaign.outputs.validation
        # both the new configurations and the hold-out set are in it, all atoms of sets as small as these
        assert calibration.count == sum(n.base.attributes.get("n_atoms") for n in (labelled, holdout))
        assert calibration.gamma.max() > 1.5
        assert (np.diff(calibration.error) >= 0).all()
        assert 0.3 < calibration.spearman <= 1.0
        assert data["proposal"]["gamma_lo"] < data["proposal"]["gamma_hi"]
        assert rows_of(finished_campaign)[number]["calibration"] == data
    window = policies.choose_window({"policy": "calibrated", "min_count": 100}, rows_of(finished_campaign))
    assert window.reason.startswith("calibrated on")
