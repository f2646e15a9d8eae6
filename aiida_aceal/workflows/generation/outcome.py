"""What the steps of a generation give back. They touch neither the context nor the inputs of the WorkChain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiida.engine import Process
from aiida.orm import Data, ProcessNode
from aiida.plugins import CalculationFactory

from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.steps import step_inputs

#: calls a calcfunction: label, function, its inputs -> its result; in a WorkChain
#: :meth:`~aiida_aceal.workflows.base.AceWorkChain.call_once`
Call = Callable[..., Any]


@dataclass(frozen=True)
class Child:
    """A process to launch: label of its CALL link, class, inputs, and what it is for."""

    label: str
    process: type[Process]
    inputs: dict[str, Any]
    description: str


@dataclass(frozen=True)
class Failure:
    """The name of an exit code of ``aceal.generation``, and the values of its message."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What every step can give: numbers for the generation's report, lines for its log, a failure that ends it."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Started(Outcome):
    """Processes that the WorkChain has to launch."""

    children: Sequence[Child] = ()


def worker_child(
    label: str, entry_point: str, worker: Mapping[str, Any], description: str, **inputs: Data | dict | None
) -> Child:
    """A job of aceal-worker; ``worker`` holds its code and options. Inputs that are ``None`` are left out."""
    cls = CalculationFactory(entry_point)
    return Child(label, cls, step_inputs(cls, worker, **inputs), description)


def report_of(process: ProcessNode | None) -> dict[str, Any]:
    """Content of the output ``report`` of a process; empty if there is none."""
    node = output(process, "report")
    return node.get_dict() if node is not None else {}


def known_hashes(datasets: Mapping[str, Any], sets: Mapping[str, Any]) -> list[str]:
    """Content hashes of those configurations of ``sets`` that are in the training set already, sorted."""
    known = {digest for node in datasets.values() for digest in node.hashes}
    return sorted(known.intersection(digest for node in sets.values() for digest in node.hashes))


def training_size(datasets: Mapping[str, Any]) -> dict[str, int]:
    """``n_training`` structures and ``n_training_atoms`` of labelled sets."""
    return {
        "n_training": sum(len(node) for node in datasets.values()),
        "n_training_atoms": sum(int(node.base.attributes.get("n_atoms")) for node in datasets.values()),
    }
