"""Generations of a stored campaign and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiida_aceal.workflows.base import output

if TYPE_CHECKING:
    from aiida.orm import Dict, ProcessNode


def generations(node: ProcessNode) -> list[ProcessNode]:
    """Generations of a campaign in their order; the process itself if it is a generation."""
    if node.process_label == "GenerationWorkChain":
        return [node]
    called = [child for child in node.called if child.process_label == "GenerationWorkChain"]
    return sorted(called, key=lambda child: child.pk)


def rows_of(node: ProcessNode) -> list[dict[str, Any]]:
    """Rows of all finished generations of a campaign."""
    return [report.get_dict() for report in report_nodes(node)]


def report_nodes(node: ProcessNode) -> list[Dict]:
    """The nodes of these rows."""
    reports = [output(child, "generation_report") for child in generations(node)]
    return [report for report in reports if report is not None]
