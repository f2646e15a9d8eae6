"""Label: energies and forces of what is new, and of the validation set if it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiida import orm

from aiida_aceal.common.words import counted
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.generation.outcome import Child, Failure, Outcome, Started, report_of
from aiida_aceal.workflows.labellers.manual import WAITING
from aiida_aceal.workflows.ports import is_labelled
from aiida_aceal.workflows.steps import step_class, step_inputs


@dataclass(frozen=True, kw_only=True)
class Labelled(Outcome):
    """New training configurations, the validation set (each ``None`` if it was not labelled here), and failures.

    ``quarantine``: ``hash`` and ``reason`` of each structure that could not be labelled.
    """

    labelled: ConfigurationsData | None = None
    validation: ConfigurationsData | None = None
    quarantine: list[dict[str, Any]] = field(default_factory=list)


def to_label(
    *,
    initial: ConfigurationsData | None,
    selected: ConfigurationsData | None,
    validation: ConfigurationsData,
) -> dict[str, ConfigurationsData]:
    """What has no labels: ``initial``, ``label`` (what was selected: always labelled anew) and ``validation``."""
    wanted = {"initial": initial, "label": selected, "validation": validation}
    return {
        name: node for name, node in wanted.items() if node is not None and (name == "label" or not is_labelled(node))
    }


def label_of(name: str) -> str:
    """Label of the child that labels the set ``name``."""
    return f"label_{name}"


def start(*, wanted: Mapping[str, ConfigurationsData], labeller: Mapping[str, Any]) -> Started:
    """One process for each set.

    :param wanted: of :func:`to_label`
    :param labeller: ``entry_point`` and inputs of the process
    """
    cls = step_class(labeller["entry_point"].value)
    children, lines = [], []
    for name, node in wanted.items():
        inputs = step_inputs(cls, labeller, configurations=node)
        children.append(Child(label_of(name), cls, inputs, f"label {name}"))
        lines.append(f"labelling {counted(len(node), 'configuration')} ({name})")
    return Started(children=children, lines=lines)


def collect(
    *,
    wanted: Mapping[str, ConfigurationsData],
    children: Mapping[str, orm.ProcessNode],
    tolerated: float,
) -> Labelled:
    """What was labelled; failures are put in quarantine and counted.

    :param wanted: of :func:`to_label`
    :param children: name of the set -> its finished process
    :param tolerated: fraction of the labels that may fail
    :returns: fails with ``ERROR_LABELLING_FAILED`` if a set has no label at all, with
        ``ERROR_TOO_MANY_FAILED_LABELS``, and with ``ERROR_WAITING_FOR_LABELS`` if somebody has to bring them
    """
    waiting = sum(len(node) for name, node in wanted.items() if children[name].exit_status == WAITING)
    if waiting:
        return Labelled(failure=Failure("ERROR_WAITING_FOR_LABELS", {"number": counted(waiting, "structure")}))
    total = failed = left = 0
    seconds = {"wall_seconds": 0.0, "core_seconds": 0.0}
    made: dict[str, ConfigurationsData] = {}
    facts: dict[str, Any] = {}
    quarantine: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, node in wanted.items():
        child = children[name]
        labelled, report = output(child, "labelled"), report_of(child)
        if labelled is None:
            reasons = [str(item.get("reason")) for item in report.get("failures", [])[:1]]
            reason = "; ".join([why(child), *reasons])
            return Labelled(lines=lines, failure=Failure("ERROR_LABELLING_FAILED", {"reason": reason}))
        # a job that was ended leaves structures that nobody tried: they are no failures, and may come again
        skipped = int(report.get("n_not_tried") or 0)
        if skipped:
            first = report["not_tried"][0].get("reason")
            lines.append(f"{counted(skipped, 'configuration')} not tried, not quarantined ({first}): {why(child)}")
        total, left = total + len(node), left + skipped
        failed += len(node) - len(labelled) - skipped
        for item in report.get("failures", []):
            quarantine.append({"hash": item.get("hash"), "reason": str(item.get("reason"))[:500]})
            lines.append(f"label failed, quarantined: {quarantine[-1]}")
        for key in seconds:
            seconds[key] += float(report.get(key) or 0.0)
        role = "validation" if name == "validation" else "labelled"
        made[role], facts[f"n_{role}"] = labelled, len(labelled)
    facts |= {"n_failed_labels": failed, **{f"label_{key}": value for key, value in seconds.items()}}
    lines.append(
        f"{total - failed - left} of {total} configurations labelled in {seconds['core_seconds']:.1f} core seconds"
    )
    failure = None
    if failed > tolerated * total:
        values = {"failed": failed, "total": total, "tolerated": f"{100 * tolerated:g} %"}
        failure = Failure("ERROR_TOO_MANY_FAILED_LABELS", values)
    return Labelled(**made, quarantine=quarantine, facts=facts, lines=lines, failure=failure)
