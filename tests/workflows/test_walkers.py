"""Which walkers there are, which frames are candidates, what the common report says."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_aceal.workflows.explorers import walkers

MD = {"steps": 100, "gamma_interval": 10, "temperature_K": 300.0}


def frame(gamma, seed, amplitude=0.1):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.positions += np.random.default_rng(seed).normal(scale=amplitude, size=atoms.positions.shape)
    values = np.ones(len(atoms))
    values[0] = gamma
    atoms.set_array("gamma", values)
    return atoms


def test_walkers_are_configurations_times_schedule_times_copies():
    settings = {**MD, "walkers": 2, "schedule": [{"temperature_K": 300.0}, {"temperature_K": 900.0}]}
    assert walkers.check_settings(settings) is None
    listed = walkers.walker_list(settings, n_configurations=3)
    assert len(listed) == 12
    assert [walker["label"] for walker in listed] == sorted({walker["label"] for walker in listed})
    assert {(w["settings"]["index"], w["settings"]["temperature_K"]) for w in listed} == {
        (index, temperature) for index in range(3) for temperature in (300.0, 900.0)
    }
    assert all("walkers" not in w["settings"] and "schedule" not in w["settings"] for w in listed)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"temperature": 300}, ["temperature", "temperature_K"]),
        ({"walkers": 0}, ["walkers", "0"]),
        ({"schedule": {}}, ["schedule", "list of mappings"]),
        ({"schedule": [{"presure_bar": 1}]}, ["presure_bar", "pressure_bar"]),
        ({"seed": 1}, ["seed"]),
        ({"ensemble": "nvp"}, ["ensemble"]),
        ({"steps": 105}, ["steps", "gamma_interval"]),
        ({"minimum_distance": -1.0}, ["distance"]),
    ],
)
def test_bad_settings_are_found_before_anything_runs(extra, words):
    message = walkers.check_settings({**MD, **extra})
    assert message is not None
    for word in words:
        assert word in message


def test_frames_inside_the_window_are_kept_those_above_dropped():
    kept, dropped = walkers.choose_frames({"walker_000": [frame(3, 0), frame(8, 1), frame(40, 2)]}, 10.0, {})
    assert [atoms.arrays["gamma"].max() for atoms in kept] == [3, 8]
    assert dropped == {"above_window": 1}
    assert all(atoms.info["walker"] == "walker_000" for atoms in kept)


def test_if_gamma_jumps_over_the_window_the_least_extrapolating_frames_are_kept():
    jumped = [frame(gamma, seed) for seed, gamma in enumerate((40, 20, 90, 30))]
    kept, dropped = walkers.choose_frames({"a": jumped, "b": [frame(5, 9), frame(50, 8)]}, 10.0, {})
    assert [atoms.arrays["gamma"].max() for atoms in kept] == [20, 30, 40, 5]
    assert [bool(atoms.info.get("above_window")) for atoms in kept] == [True, True, True, False]
    assert dropped == {"above_window": 2}


def test_atoms_on_top_of_each_other_and_copies_are_dropped():
    crashed = frame(5, 0)
    crashed.positions[1] = crashed.positions[0] + [0.3, 0, 0]
    kept, dropped = walkers.choose_frames({"a": [crashed, frame(3, 1)], "b": [frame(3, 1)]}, 10.0, {})
    assert len(kept) == 1
    assert dropped == {"too_short": 1, "duplicate": 1}


def test_too_many_frames_are_thinned_evenly():
    frames = [frame(3, seed) for seed in range(10)]
    kept, dropped = walkers.choose_frames({"a": frames}, 10.0, {"max_candidates": 5})
    assert len(kept) == 5
    assert dropped == {"above_max_candidates": 5}
    assert [np.allclose(a.positions, b.positions) for a, b in zip(kept, frames[::2])] == [True] * 5


def test_one_failed_walker_makes_the_report_failed_but_keeps_the_numbers():
    rows = [
        {"label": "a", "exit_status": 0, "reason": None},
        {"label": "b", "exit_status": 320, "reason": "Lost atoms"},
        {"label": "c", "exit_status": -1, "reason": "no output at all"},
    ]
    done = {"status": "completed", "steps_reached": 100, "steps_total": 100, "max_gamma": 1.2, "n_candidates": 0}
    report = walkers.walkers_report(rows, {"a": done, "b": {**done, "steps_reached": 30, "max_gamma": 50.0}})
    assert report["status"] == "failed"
    assert report["steps_reached"] == 0
    assert report["max_gamma"] == 50.0
    assert (report["n_completed"], report["n_halted"], report["n_failed"]) == (1, 0, 2)
