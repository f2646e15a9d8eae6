"""Window policies: numbers, errors, and policies of other packages."""

import pytest

from aiida_aceal.workflows.windows import policies


def test_fixed_window_stops_at_gamma_lo_unless_told_otherwise():
    window = policies.choose_window({"gamma_lo": 3.0, "gamma_hi": 12.0})
    assert (window.gamma_lo, window.gamma_hi, window.gamma_stop) == (3.0, 12.0, 3.0)
    assert policies.choose_window({"gamma_lo": 3.0, "gamma_hi": 12.0, "gamma_stop": 5.0}).gamma_stop == 5.0
    assert policies.choose_window({}).as_dict()["gamma_lo"] == 2.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"policy": "fixt"}, ["fixt", "did you mean 'fixed'"]),
        ({"gamma_low": 2.0}, ["gamma_low", "gamma_lo"]),
        ({"gamma_lo": 10.0, "gamma_hi": 2.0}, ["10.0", "below gamma_hi 2.0"]),
        ({"gamma_lo": 2.0, "gamma_hi": 10.0, "gamma_stop": 1.0}, ["gamma_stop 1.0", "between"]),
        ({"gamma_lo": float("nan")}, ["gamma_lo", "positive number", "nan"]),
        ({"gamma_lo": "two"}, ["positive number", "two"]),
    ],
)
def test_bad_windows_are_refused_with_the_remedy(settings, words):
    with pytest.raises(ValueError) as caught:
        policies.choose_window(settings)
    for word in words:
        assert word in str(caught.value)


def test_another_package_can_add_a_policy(monkeypatch):
    class Point:
        name = "widening"

        @staticmethod
        def load():
            return lambda settings, history: policies.Window(2.0, 10.0 + 5 * len(history), 2.0, "wider each time")

    monkeypatch.setattr(policies, "entry_points", lambda group: [Point] if group == policies.GROUP else [])
    assert policies.choose_window({"policy": "widening"}, [{}, {}]).gamma_hi == 20.0
