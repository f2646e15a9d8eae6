"""``property-numbers``: properties of a reference and of a potential from labels of the same structures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job, Output

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """Match labels by content, analyse both sides with the same code, compare."""
    from aiida_aceal.properties import comparison_lines, is_principal, worst_row
    from aiida_aceal.properties.validation import validation_numbers

    sets = {name: list(task.configurations(name)) for name in ("structures", "reference", "evaluated")}
    runs = {side: list(task.configurations(f"{side}_runs")) for side in ("reference", "potential")}
    found = validation_numbers(
        task.settings, sets["structures"], sets["reference"], sets["evaluated"], runs, _members(task), task.say
    )
    task.write_json("numbers", found)
    for line in comparison_lines([row for row in found["rows"] if is_principal(row)]):
        task.echo(line)
    failed = {side: _failed(found[side]) for side in ("reference", "potential")}
    return {"failed": failed, "worst": worst_row(found["rows"]), "seconds": task.seconds}


def _failed(numbers: Mapping[str, Any]) -> dict[str, str]:
    return {name: data["error"] for name, data in numbers.items() if "error" in data}


def _members(task: Task) -> list[Any]:
    from functools import partial

    from aiida_aceal.ace import AceCalculator, AceModel
    from aiida_aceal.fitting.ensemble import Ensemble
    from aiida_aceal.properties import Engine

    if not task.given("ensemble"):
        return []
    potentials = Ensemble.load(task.path("ensemble")).potentials
    return [Engine(partial(AceCalculator, AceModel(p)), f"member {k}", True) for k, p in enumerate(potentials)]


def _runs(side: str, text: str) -> Input:
    return Input(f"{side}_runs", "configurations", text, required=False, option=f"--{side}-runs", any_element=True)


JOB = Job(
    "property-numbers",
    "Properties of a REFERENCE and of a potential (EVALUATED) from labels of the same STRUCTURES.\n\n"
    "STRUCTURES are those of `properties --structures-only`; labels are matched by content.",
    run,
    "aiida_aceal.properties.settings:NumbersSettings",
    inputs=(
        Input("structures", "configurations", "Structures with the entries property and case.", any_element=True),
        Input("reference", "configurations", "Structures with the labels of the reference.", any_element=True),
        Input("evaluated", "configurations", "Structures with the labels of the potential, graded or not.",
              any_element=True),
        _runs("reference", "Frames of `reference-md`."),
        _runs("potential", "Frames of the property md by the potential."),
        Input("ensemble", "ensemble", "If given, numbers come with the spread of its members.", required=False,
              option="--ensemble"),
    ),
    outputs=(
        Output("numbers", "json", "Numbers and curves of both (`reference`, `potential`), and `rows` of differences."),
    ),
)  # fmt: skip
