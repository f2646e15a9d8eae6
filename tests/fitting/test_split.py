"""Structures held out by origin."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_aceal.common.errors import AceError
from aiida_aceal.fitting.split import BLOCK, origin, split_by_origin, stopping_split


def frames(name: str, count: int, start: int = 0) -> list[Atoms]:
    """Frames of one run, each a little different."""
    found = []
    for k in range(start, start + count):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=1000 * len(name) + k)
        atoms.info["source"] = f"{name}/{k}"
        found.append(atoms)
    return found


def test_runs_stay_on_one_side():
    structures = [atoms for run in range(20) for atoms in frames("md/" + run * "x", 5)]
    kept, held = split_by_origin(structures, 0.2, seed=1)
    assert sorted(kept + held) == list(range(100))
    assert len(held) == 20
    assert not {origin(structures[k]) for k in kept} & {origin(structures[k]) for k in held}
    assert split_by_origin(structures, 0.2, seed=1) == (kept, held)
    assert split_by_origin(structures, 0.2, seed=2) != (kept, held)


def test_of_one_long_run_frames_that_follow_one_another():
    _, held = split_by_origin(frames("md/0", 200), 0.1, seed=3)
    assert len(held) == 20
    blocks = np.split(held, np.flatnonzero(np.diff(held) > 1) + 1)
    assert all(len(block) % BLOCK == 0 for block in blocks)


def test_a_set_that_grows_holds_out_much_the_same():
    structures = frames("a", 100) + frames("bb", 100)
    before = set(split_by_origin(structures, 0.1, seed=5)[1])
    after = split_by_origin(structures + frames("ccc", 20), 0.1, seed=5)[1]
    assert len(before.intersection(after)) >= 0.7 * len(before)


def test_equal_structures_go_together_whatever_they_are_called():
    structures = frames("a", 40)
    for k, atoms in enumerate(frames("a", 40)):
        atoms.info["source"] = f"copy/{k}"
        structures.append(atoms)
    for seed in range(5):
        kept, held = split_by_origin(structures, 0.25, seed)
        assert held
        assert not {k % 40 for k in kept} & {k % 40 for k in held}


def test_free_atoms_and_the_last_of_an_element_stay():
    last = bulk("Al", cubic=True)
    structures = [Atoms("Cu"), last, *frames("a", 18)]
    for seed in range(20):
        kept, held = split_by_origin(structures, 0.5, seed)
        assert {0, 1} <= set(kept)
        assert 8 <= len(held) <= 10


def test_origin_in_the_words_of_the_file():
    first, second = frames("a", 1)[0], frames("a", 2)[1]
    assert origin(first) == origin(second)
    second.info["config_type"] = "liquid"
    assert origin(first) != origin(second)
    first.info["origin"] = second.info["origin"] = "mine"
    assert origin(first) == origin(second) == "mine"


@pytest.mark.parametrize("fraction", [0, 1, -0.1, "0.1", True])
def test_wrong_fractions(fraction):
    with pytest.raises(AceError, match="between 0 and 1"):
        split_by_origin(frames("a", 9), fraction)


def test_nothing_to_hold_out():
    with pytest.raises(AceError, match="give a separate set"):
        split_by_origin([Atoms("Cu"), Atoms("Al")], 0.5)
    assert stopping_split(frames("a", 40), 0.1, 0) == (list(range(40)), [])
    assert len(stopping_split(frames("a", 50), 0.1, 0)[1]) == 5
