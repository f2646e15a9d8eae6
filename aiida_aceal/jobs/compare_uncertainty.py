"""``compare-uncertainty``: active sets and ensembles grade a labelled set, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .declaration import Input, Job
from .parts import POTENTIAL

if TYPE_CHECKING:
    from .task import Task


def run(task: Task) -> dict[str, Any]:
    """Fit to the one set, grade the other by all indicators."""
    from aiida_aceal.selection.indicators import compare_indicators

    from .curve_files import labelled_sets

    sets = labelled_sets(task, "train", "test")
    found = compare_indicators(*sets, task.settings, task.seed, task.say_time)
    for line in found["notes"]:
        task.echo(line)
    for name, entry in found["indicators"].items():
        task.echo(f"{name}: rank correlation with the errors {entry['spearman']:.3f}")
    return found


def check_report(report: Mapping[str, Any]) -> str | None:
    """A comparison without indicators, or with one that did not grade every structure."""
    if not report.get("indicators"):
        return "indicators of the comparison"
    for name, entry in report["indicators"].items():
        if len(entry.get("values", ())) != report.get("n_structures"):
            return f"values of the indicator {name}"
    return None


JOB = Job(
    "compare-uncertainty",
    "Compare uncertainty indicators as described in the YAML file SETTINGS; its paths are relative to the working "
    "directory.\n\n"
    "\b\n"
    "potential: basis.yaml         basis that is fitted, or its description (elements, cutoff, ...)\n"
    "train: [train.extxyz]         labelled configurations that are learnt\n"
    "test: [test.extxyz]           labelled configurations that are graded\n"
    "output: comparison.json\n"
    "indicators: [global, own, minimum, switch, ensemble]\n"
    "seed: 0\n"
    "fit: {...}                    as in aceal-worker fit; ensemble: {members: 8, method: auto}",
    run,
    "aiida_aceal.jobs.curve_files:ComparisonFile",
    style="file",
    node_settings="aiida_aceal.selection.indicators:IndicatorSettings",
    inputs=(
        POTENTIAL,
        Input(
            "train", "configurations",
            "Labelled configurations from which the fit, the active sets and the ensemble are made.", many=True,
            key="train",
            labels=("energy", "forces"),
        ),
        Input(
            "test", "configurations", "Labelled configurations that are never learnt.", many=True, key="test",
            labels=("energy", "forces"),
        ),
    ),
    seeded=True,
    label_keys=True,
    report_key="output",
    distinct=("train", "test"),
    check_report=check_report,
    finite=True,
)  # fmt: skip
