"""The machinery of settings: what is read, what is refused, and in which words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import model_validator

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, build, check, describe, from_function, models, section, setting


class Weights(Settings):
    """How errors count."""

    kappa: float | Literal["auto"] = setting(0.3, "Share of forces.", ge=0, le=1)
    energy: float = setting(1.0, "Width.", unit="eV", gt=0)


class Run(Settings):
    """One run."""

    steps: int = setting(help="Number of steps.", ge=1)
    temperature_K: float = setting(300.0, "Temperature.", unit="K", gt=0)
    ensemble: Literal["nvt", "npt"] = setting("nvt", "Ensemble.")
    window: tuple[float, float] | None = setting(None, "From, to.", gt=0)
    ladder: tuple[int, ...] = setting((), "Sizes.", ge=1, items=(None, 3))
    distance: float | Mapping[str, float] | None = setting(None, "Shortest distance.", unit="A", gt=0)
    flag: bool = setting(True, "Whether.")
    name: str = setting("d_optimal", "Strategy.", choices=lambda: ["random", "d_optimal"])
    weights: Weights = section(Weights, "How errors count.")
    start: list[dict] | Weights = setting([], "Either.")
    parts: list[Weights] = setting([], "Parts.")

    @model_validator(mode="after")
    def _whole(self) -> Run:
        if self.steps % 10:
            raise ValueError(f"steps ({self.steps}) must be a multiple of 10")
        return self


def test_values_from_yaml_json_and_numpy_become_plain_typed_values():
    run = build(Run, {
        "steps": np.int64(10), "temperature_K": "1e2", "window": [1, 2.5], "ladder": np.array([1, 2]),
        "distance": {"Cu-Cu": 2}, "weights": None, "parts": [{"kappa": "auto"}, {"kappa": 1}],
    })  # fmt: skip
    assert run.steps == 10
    assert type(run.steps) is int
    assert run.temperature_K == 100.0
    assert run.window == (1.0, 2.5)
    assert run.ladder == (1, 2)
    assert run.distance == {"Cu-Cu": 2.0}
    assert isinstance(run.distance["Cu-Cu"], float)
    assert run.weights == Weights()
    assert [part.kappa for part in run.parts] == ["auto", 1.0]
    assert build(Run, run) is run
    assert build(Run, run.to_dict()) == run, "what is written is read again"
    assert run.to_dict(given=True)["parts"] == [{"kappa": "auto"}, {"kappa": 1.0}]
    assert run.replace(steps=20).to_dict(given=True)["temperature_K"] == 100.0


REFUSED = [
    ({}, "settings: 'steps' is missing; it must be a positive integer"),
    ({"steps": 0}, "settings.steps: must be a positive integer, found 0"),
    ({"steps": True}, "settings.steps: must be a positive integer, found True"),
    ({"steps": 10.0}, "settings.steps: must be a positive integer, found 10.0"),
    ({"steps": "10"}, "settings.steps: must be a positive integer, found '10'"),
    ({"steps": 15}, "settings: steps (15) must be a multiple of 10"),
    ({"temperature_K": "hot"}, "settings.temperature_K: must be a positive number (K), found 'hot'"),
    ({"temperature_K": math.nan}, "settings.temperature_K: must be a positive number (K), found nan"),
    ({"temperature_K": math.inf}, "settings.temperature_K: must be a positive number (K), found inf"),
    ({"temperature_K": ".inf"}, "settings.temperature_K: must be a positive number (K), found '.inf'"),
    ({"temperature_K": "1e999"}, "settings.temperature_K: must be a positive number (K), found '1e999'"),
    ({"temperature_K": None}, "settings.temperature_K: must be a positive number (K), found None"),
    ({"temperature_K": False}, "settings.temperature_K: must be a positive number (K), found False"),
    ({"ensemble": "nvtt"}, "settings.ensemble: must be 'nvt' or 'npt', found 'nvtt'; did you mean 'nvt'?"),
    ({"name": "randm"}, "settings.name: must be 'd_optimal' or 'random', found 'randm'; did you mean 'random'?"),
    ({"window": [1]}, "settings.window: must be a list of 2 positive numbers or null, found [1]"),
    ({"window": [1, 2, 3]}, "settings.window: must be a list of 2 positive numbers or null, found [1, 2, 3]"),
    ({"window": [1, -2]}, "settings.window: must be a list of 2 positive numbers or null, found [1, -2]"),
    ({"ladder": [1, "x"]}, "settings.ladder[1]: must be a positive integer, found 'x'"),
    ({"ladder": [1, 2, 3, 4]}, "settings.ladder: must be a list of positive integers, found [1, 2, 3, 4]"),
    ({"distance": {"Cu-Cu": "x"}}, "settings.distance.Cu-Cu: must be a positive number (A), found 'x'"),
    ({"flag": "yes"}, "settings.flag: must be true or false, found 'yes'"),
    ({"flag": 1}, "settings.flag: must be true or false, found 1"),
    ({"weights": {"kapa": 1}}, "settings: unknown key 'weights.kapa'; did you mean 'kappa'?"),
    ({"weights": {"kappa": "much"}}, "settings.weights.kappa: must be a number from 0 to 1 or 'auto', found 'much'"),
    ({"weights": {"kappa": 2}}, "settings.weights.kappa: must be a number from 0 to 1 or 'auto', found 2"),
    ({"weights": 3}, "settings.weights: must be a mapping of keys, found 3"),
    ({"start": {"kapa": 2}}, "settings: unknown key 'start.kapa'; did you mean 'kappa'?"),
    ({"start": [3]}, "settings.start[0]: must be a mapping, found 3"),
    ({"start": 3}, "settings.start: must be a list of mappings or a mapping of keys, found 3"),
    ({"parts": [{}, {"kapa": 1}]}, "settings: unknown key 'parts[1].kapa'; did you mean 'kappa'?"),
    ({"zzz": 1}, "settings: unknown key 'zzz'; known: distance, ensemble, flag, ladder, name, parts, start, steps, "
     "temperature_K, weights, window"),
    ({1: 2}, "settings: unknown key 1; known: distance, ensemble, flag, ladder, name, parts, start, steps, "
     "temperature_K, weights, window"),
    ([1], "settings: must be a mapping of keys, found [1]"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "words"), REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_refusals_name_key_value_and_what_is_allowed(data, words):
    if data and isinstance(data, dict):
        data = {"steps": 10, **data}
    assert check(Run, data, "settings") == words


def test_several_faults_in_one_message_and_files_by_name():
    message = check(Run, {"stepz": 10, "weights": {"kappa": 7}}, Path("a/run.yaml"))
    assert message == (
        "a/run.yaml: unknown key 'stepz'; did you mean 'steps'?; 'steps' is missing; it must be a positive integer; "
        "weights.kappa: must be a number from 0 to 1 or 'auto', found 7"
    )


def test_the_constructor_and_changed_copies_check_too():
    with pytest.raises(AceError, match=r"^weights\.energy: must be a positive number \(eV\), found 0$"):
        Run(steps=10, weights={"energy": 0})
    with pytest.raises(AceError, match=r"^steps: must be a positive integer, found -1$"):
        Run(steps=10).replace(steps=-1)
    with pytest.raises(ValueError, match="frozen"):
        Run(steps=10).steps = 20


def test_long_values_are_shortened():
    assert (
        check(Run, {"steps": 10**9000}) == "settings.steps: must be a positive integer, found an integer of 29898 bits"
    )
    assert len(check(Run, {"steps": 10**30 + 1, "temperature_K": 10**400})) < 250
    assert len(check(Run, {"steps": 10, "temperature_K": "x" * 10_000})) < 200


def test_tables():
    rows = {row.key: row for row in describe(Run)}
    assert [*rows][:3] == ["steps", "temperature_K", "ensemble"]
    assert rows["steps"].default_text == "required"
    assert rows["steps"].bounds == ">= 1"
    assert (rows["temperature_K"].unit, rows["temperature_K"].default_text) == ("K", "300.0")
    assert rows["ensemble"].type == "nvt, npt"
    assert rows["weights.kappa"].type == "number or auto"
    assert rows["weights.kappa"].help == "Share of forces."
    assert "weights" not in rows
    assert "parts[].kappa" in rows
    assert "start" in rows
    assert models(Run) == [Run, Weights]
    assert {Run, Weights} <= set(models())


def test_flat_mappings_from_several_models():
    class More(Weights):
        walkers: int = setting(1, "Walkers.", ge=1)

    assert build(More, {"kappa": 0.5, "walkers": 2}).to_dict() == {"kappa": 0.5, "energy": 1.0, "walkers": 2}


def blend(pool, wanted, weight: float = 0.5, names: tuple[str, ...] = (), *, mode: Literal["a", "b"]):
    """Blend.

    :param weight: of the first
        against the second
    """


def test_a_signature_is_a_declaration():
    model = from_function(blend, ("pool", "wanted"))
    assert build(model, {"mode": "a", "weight": 1}).to_dict() == {"weight": 1.0, "names": [], "mode": "a"}
    assert check(model, {"mode": "c"}, "options") == "options.mode: must be 'a' or 'b', found 'c'"
    assert check(model, {"mode": "a", "wait": 1}, "") == "unknown key 'wait'; did you mean 'weight'?"
    assert describe(model)[0].help == "of the first against the second"
    assert model is from_function(blend, ("pool", "wanted"))
