"""Window policy `regimes`: which window follows from which history, and why."""

import pytest

from aiida_aceal.workflows.windows.policies import choose_window

WATER = {"policy": "regimes", "gamma_lo": 2.0, "gamma_hi": 25.0}


def row(generation, reached, *, gamma=30.0, status="learned", total=1000):
    return {
        "generation": generation,
        "md_steps_reached": reached,
        "md_steps_total": total,
        "max_gamma": gamma,
        "status": status,
    }


def limits(history, **settings):
    window = choose_window({**WATER, **settings}, history)
    return window.gamma_lo, window.gamma_hi


def test_the_water_study_is_followed():
    """12 short runs, one in the wide window, then lower thresholds until every run is complete."""
    assert limits([]) == (10.0, 15.0)
    history = [row(0, None, total=None, status="initial")] + [row(g, 10 * g) for g in range(1, 12)]
    assert limits(history) == (10.0, 15.0)
    assert choose_window(WATER, history).gamma_interval == 1
    history.append(row(12, 120))
    assert limits(history) == (10.0, 25.0)
    window = choose_window(WATER, history)
    assert window.gamma_interval is None
    assert window.reason == "regimes: wide (generation 12 was the last of 12 in its regime)"
    history.append(row(13, 600))
    assert limits(history) == (5.0, 25.0)
    assert "reached 60 % of the MD length; 50 % are required" in choose_window(WATER, history).reason
    history += [row(g, 900) for g in range(14, 18)]
    assert limits(history) == (5.0, 25.0), "within the third regime only complete runs lower the threshold"
    history.append(row(18, 1000, gamma=9.0))
    assert limits(history) == (2.0, 25.0)
    assert limits([*history, row(19, 1000, gamma=4.0), row(20, 10)]) == (2.0, 25.0), "never back"


def test_every_window_asks_for_the_last_gamma_stop():
    for history in ([], [row(1, 600)], [row(1, 600), row(2, 600)]):
        assert choose_window(WATER, history).gamma_stop == 2.0
    assert choose_window({**WATER, "gamma_stop": 4.0}, []).gamma_stop == 4.0


def test_complete_runs_skip_windows_above_what_they_saw():
    history = [row(1, 1000, gamma=3.1, status="no_candidates")]
    assert limits(history) == (2.0, 25.0)
    assert "ran its full length with gamma <= 3.1" in choose_window(WATER, history).reason
    assert limits([row(1, 1000, gamma=7.0, status="no_candidates")]) == (5.0, 25.0)


def test_no_candidates_move_on():
    assert limits([row(1, 10, status="no_candidates")]) == (10.0, 25.0)


def test_parameters_of_the_user():
    own = {"narrow": [4, 6], "wide": [3, 30], "lowered": [2.5, 1.5], "max_narrow": 2, "max_wide": 1}
    assert limits([], **own) == (4, 6)
    history = [row(1, 5), row(2, 5)]
    assert limits(history, **own) == (3, 30)
    history.append(row(3, 5))
    assert limits(history, **own) == (2.5, 30)
    history.append(row(4, 1000))
    assert limits(history, **own) == (1.5, 30)
    assert limits([row(1, 100)], widen_at=0.1) == (10.0, 25.0)
    assert choose_window({**WATER, "narrow_interval": None}, []).gamma_interval is None
    assert limits([], gamma_hi=10.0) == (4.0, 6.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"narow": [4, 6]}, ["narow", "did you mean 'narrow'"]),
        ({"narrow": [6, 4]}, ["narrow", "must rise"]),
        ({"narrow": 6}, ["narrow", "[lower, upper]"]),
        ({"wide": [3, 5]}, ["wide", "as high as narrow"]),
        ({"lowered": [2, 5]}, ["lowered", "fall"]),
        ({"lowered": []}, ["lowered"]),
        ({"widen_at": 1.5}, ["widen_at", "1.5"]),
        ({"max_narrow": 0}, ["max_narrow", "0"]),
        ({"gamma_lo": "two"}, ["gamma_lo", "two"]),
        ({"gamma_stop": 24.0}, ["gamma_stop 24.0", "gamma_hi 15"]),
    ],
)
def test_bad_settings_are_refused_with_the_remedy(settings, words):
    with pytest.raises(ValueError) as caught:
        choose_window({**WATER, **settings})
    for word in words:
        assert word in str(caught.value)


def test_usable_from_the_input_file(codes):
    """The protocol's own gamma_lo and gamma_hi are the last window; wrong keys are found before anything runs."""
    from small_campaign import builder_for, small

    from aiida_aceal.ace import AceError

    data = small()
    data["window"] = {"policy": "regimes", "max_narrow": 3}
    builder = builder_for(data, codes)
    assert builder.window["policy"] == "regimes"
    assert choose_window(builder.window.get_dict()).gamma_hi == pytest.approx(6.0)
    data["window"]["max_narow"] = 3
    with pytest.raises(AceError, match="unknown key 'max_narow'; did you mean 'max_narrow'"):
        builder_for(data, codes)


def test_interval_of_the_window_is_for_md_only(aiida_profile):
    from aiida import orm

    from aiida_aceal.workflows.functions import with_window

    window = orm.Dict(choose_window(WATER).as_dict())
    md = with_window(orm.Dict({"steps": 100, "gamma_interval": 10}), window).get_dict()
    assert (md["gamma_interval"], md["gamma_lo"], md["gamma_hi"]) == (1, 10.0, 15.0)
    other = with_window(orm.Dict({"count": 5, "gamma_lo": 3.0}), window).get_dict()
    assert "gamma_interval" not in other
    assert other["gamma_lo"] == 3.0
