"""Every setting of every declaration refuses what it must, in words that name key, value, and what is allowed."""

from __future__ import annotations

import importlib
import math
import pkgutil
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import aiida_aceal
from aiida_aceal.common.settings import Row, Settings, build, check, describe, from_function, models, nearest
from aiida_aceal.exploration.generators import GENERATORS
from aiida_aceal.selection.select import strategy_names
from aiida_aceal.selection.settings import strategy_settings

#: values that are tried where they are none of the types of a setting
WRONG = (["no", "such"], "no such value", {"no such": "value"}, 3.75, True)


def declared() -> list[type[Settings]]:
    """All models of the package, found by importing all of it."""
    for module in pkgutil.walk_packages(aiida_aceal.__path__, "aiida_aceal."):
        importlib.import_module(module.name)
    for function in GENERATORS.values():
        from_function(function, ("rng", "structure"))
    for name in strategy_names():
        strategy_settings(name)
    return [model for model in models() if model.__module__.startswith("aiida_aceal.") and model.model_fields]


def members(hint: Any) -> list[Any]:
    """Alternatives of a type."""
    if typing.get_origin(hint) is typing.Annotated:
        return members(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for argument in typing.get_args(hint) for one in members(argument)]
    return [hint]


def plain_type(hint: Any) -> Any:
    """The Python type that fills one alternative."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return Literal
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return dict
    if origin in (tuple, Sequence) or hint in (tuple, Sequence):
        return list
    return dict if origin is not None and origin is not list else origin or hint


def wrong_value(row: Row) -> Any:
    """A value of a type that the setting does not take; ``None`` if it takes anything."""
    kinds = {plain_type(one) for one in members(row.hint)}
    if Any in kinds:
        return None
    for value in WRONG:
        if type(value) not in kinds and not (type(value) is str and Literal in kinds and str in kinds):
            return value
    return None


def wrapped(hint: Any, number: float) -> Any:
    """The number as a value of the type: itself, or in a list or mapping."""
    for one in members(hint):
        if one is float or one is int:
            return number
    for one in members(hint):
        origin, arguments = typing.get_origin(one), typing.get_args(one)
        if origin in (tuple, list) and arguments and {float, int} & set(members(arguments[0])):
            return [number] * (2 if Ellipsis in arguments or origin is list else len(arguments))
        if origin is dict and {float, int} & set(members(arguments[1])):
            return {"Cu": number}
    return None


def numbers(hint: Any) -> set[Any]:
    """float and int, as far as they are in a type."""
    found = {one for one in members(hint) if one in (float, int)}
    for one in members(hint):
        for argument in typing.get_args(one):
            found |= numbers(argument) if argument is not Ellipsis and not isinstance(argument, str) else set()
    return found


def out_of_bounds(row: Row) -> list[float]:
    """Numbers just outside of the bounds of a setting."""
    found = []
    for part in row.bounds.split(", "):
        sign, _, bound = part.partition(" ")
        if sign in (">", ">=", "<", "<="):
            step = {">": 0, ">=": -1, "<": 0, "<=": 1}[sign]
            found.append(type(float(bound))(bound) + step if float in numbers(row.hint) else int(bound) + step)
    return found


def placed(key: str, value: Any) -> dict[str, Any]:
    """``{"a": {"b": value}}`` for the dotted key a.b."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


MODELS = declared()
ROWS = [
    pytest.param(model, row, id=f"{model.__name__}-{row.key}")
    for model in MODELS
    for row in describe(model)
    if "[]" not in row.key and "<name>" not in row.key
]


def refused(model: type[Settings], key: str, value: Any) -> str:
    message = check(model, placed(key, value), "settings")
    assert message is not None, f"{value!r} was taken"
    return message


def test_there_are_many():
    assert len(MODELS) > 25
    assert len(ROWS) > 250


@pytest.mark.parametrize(("model", "row"), ROWS)
def test_wrong_types(model, row):
    value = wrong_value(row)
    if value is None:
        assert Any in {plain_type(one) for one in members(row.hint)}, "takes anything by its declaration only"
        return
    message = refused(model, row.key, value)
    assert row.key.split(".")[-1] in message
    assert "must be" in message or "leave " in message


@pytest.mark.parametrize(("model", "row"), [p for p in ROWS if numbers(p.values[1].hint)])
def test_numbers_out_of_bounds_and_not_finite(model, row):
    bad = [math.nan, math.inf, -math.inf] if float in numbers(row.hint) else []
    for number in [*bad, *out_of_bounds(row), "one", True]:
        value = wrapped(row.hint, number)
        if value is None or (isinstance(number, str) and str in {plain_type(m) for m in members(row.hint)}):
            continue
        if number is True and "bool" in str(row.hint):
            continue
        message = refused(model, row.key, value)
        assert row.key.split(".")[-1] in message
        assert "must be" in message or "leave " in message


@pytest.mark.parametrize(("model", "row"), ROWS)
def test_misspelt_keys_name_the_nearest(model, row):
    *place, name = row.key.split(".")
    message = refused(model, ".".join([*place, f"{name}x"]), 1)
    if model.model_config.get("extra") == "forbid":
        assert f"unknown key '{row.key}x'" in message
        assert "did you mean '" in message


@pytest.mark.parametrize("model", MODELS, ids=[model.__name__ for model in MODELS])
def test_defaults_are_of_the_types_and_bounds_that_are_declared(model):
    for row in describe(model, nested=False):
        if not row.required:
            message = check(model, {row.key: row.default}, "") or ""
            assert f"{row.key}: must be" not in message
            assert "unknown key" not in message


@pytest.mark.parametrize("model", MODELS, ids=[model.__name__ for model in MODELS])
def test_every_setting_has_one_line_of_help(model):
    for row in describe(model):
        assert "\n" not in row.help
        assert row.help, f"{model.__name__}.{row.key}"


def test_nearest_of_nothing():
    assert nearest("x", []) == "known: "
    assert build(Settings, {}) == Settings()


def test_the_keys_of_a_campaign_are_all_shown():
    """`run --keys` names declarations by module: none may have moved away, and no key is without type and help."""
    import re

    from click.testing import CliRunner

    from aiida_aceal.cli.root import main

    shown = CliRunner().invoke(main, ["run", "--keys"])
    assert shown.exit_code == 0, shown.exception
    for key in ("max_failed_labels", "max_force", "gamma_interval", "regularization.alpha", "narrow_interval",
                "nradmax_by_orders", "supercell", "covera", "amplitude"):  # fmt: skip
        assert f"  {key}: " in shown.output
    lines = [line for line in shown.output.splitlines() if line and not re.match(r"(\S+:  )?# ", line)]
    assert len(lines) > 300
    for line in lines:
        assert re.fullmatch(r" {0,2}[\w.<>\[\]]+: .*  # \S.{8,} \[[^\]]+.*\]", line), line
