"""``properties``: equation of state, elastic constants, phonons, defects, surfaces, short distances, MD, melting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_aceal.common.errors import AceError

from .declaration import Input, Job, Output
from .parts import POTENTIAL

if TYPE_CHECKING:
    from aiida_aceal.properties import Engine
    from aiida_aceal.properties.settings import PropertiesSettings

    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """Structures, labels, numbers; or one of the outer steps alone."""
    from aiida_aceal.properties import Relaxer, compute_properties, property_numbers, property_structures
    from aiida_aceal.properties.validation import mark_relaxed

    settings = task.settings
    reference = read_numbers(task.path("reference")) if task.given("reference") else None
    own = _ace(task)
    engine = _calculator(settings) if settings.calculator is not None else own
    relaxer = Relaxer(own if settings.relax_with == "potential" else engine, settings.relaxation)
    report: dict[str, Any] = {"engine": engine.name, "relaxed_by": relaxer.engine.name}
    if task.given("labelled"):
        frames = list(task.configurations("labelled"))
        numbers = property_numbers(settings, frames, say=task.say)
        report["engine"] = "labels given"
    else:
        given = list(task.configurations("structure"))
        if settings.structures_only:
            frames, errors = property_structures(settings, given, relaxer, task.say)
            numbers = {name: {"error": reason} for name, reason in errors.items()}
            if not settings.relax_start:
                mark_relaxed(settings, given, frames)
        else:
            grade = _grader(task) if task.active_set is not None else None
            numbers, frames = compute_properties(settings, given, engine, relaxer, grade, task.say)
    task.write("structures", frames)
    failed = {name: data["error"] for name, data in numbers.items() if "error" in data}
    report.update(
        n_structures=len(frames), n_atoms=sum(len(f) for f in frames), failed=failed,
        properties=_without_curves(numbers), seconds=task.seconds,
    )  # fmt: skip
    if reference is not None:
        _compare(task, reference, numbers, report)
    if not settings.structures_only:
        task.write_json("numbers", numbers)
    task.echo(f"{len(frames)} structures, {len(numbers) - len(failed)} properties, {len(failed)} failed")
    for name, reason in failed.items():
        task.echo(f"{name}: {reason}")
    return report


def _ace(task: Task) -> Engine:
    from aiida_aceal.ace import AceCalculator
    from aiida_aceal.properties import Engine

    return Engine(lambda: AceCalculator(task.model), str(task.path("potential").name), shared=True)


def _calculator(settings: PropertiesSettings) -> Engine:
    from aiida_aceal.labels.calculators import calculator_spec
    from aiida_aceal.properties import Engine

    return Engine(calculator_spec(settings.calculator, settings.calculator_kwargs).create, settings.calculator)


def _grader(task: Task) -> Any:
    return lambda atoms: float(task.model.evaluate(atoms, forces=False, stress=False, gamma=True).gamma.max())


def read_numbers(path: Path) -> dict[str, Any]:
    """The JSON of an earlier run. Raises `AceError`."""
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AceError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(numbers, dict) or not all(isinstance(value, dict) for value in numbers.values()):
        raise AceError(f"{path}: expected the numbers of `aceal-worker properties`, a mapping of properties")
    return numbers


def _compare(task: Task, reference: dict[str, Any], numbers: dict[str, Any], report: dict[str, Any]) -> None:
    from aiida_aceal.properties import compare_properties, comparison_lines

    wanted = {name: data for name, data in reference.items() if name in numbers}
    rows = compare_properties(wanted, numbers)
    report["comparison"] = rows
    for line in comparison_lines(rows):
        task.echo(line)


def _without_curves(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _without_curves(v) if isinstance(v, Mapping) else v for k, v in data.items() if k != "curves"}


JOB = Job(
    "properties",
    "Properties of the crystal STRUCTURE by POTENTIAL, or by a calculator; further structures are phases for eos.",
    run,
    "aiida_aceal.properties.settings:PropertiesSettings",
    inputs=(
        POTENTIAL,
        Input("structure", "configurations", "The crystal, then further phases.", many=True, metavar="structure"),
        Input("active_set", "active_set", "If given, numbers come with the largest grade of their structures.",
              required=False, option="--asi"),
        Input("labelled", "configurations", "Structures of an earlier run (--structures) with labels of any engine: "
              "only the numbers are computed.", required=False, option="--labelled"),
        Input("reference", "json", "Numbers of a reference (the output of an earlier run): a table of differences is "
              "printed and written to the report.", required=False, option="--reference"),
    ),
    outputs=(
        Output("numbers", "json", "The numbers and curves, one key for each property.", required=False,
               wanted=lambda settings: not settings.get("structures_only", False)),
        Output("structures", "configurations", "All structures that were computed, with their labels.",
               option="--structures", short="", required=False),
    ),
)  # fmt: skip
