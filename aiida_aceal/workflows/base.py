"""What our WorkChains share: children are found again after a restart instead of being started twice."""

from __future__ import annotations

from typing import Any

from aiida.common.links import LinkType
from aiida.engine import WorkChain
from aiida.orm import CalcFunctionNode, CalcJobNode, Node, ProcessNode, QueryBuilder
from plumpy.process_states import ProcessState

from aiida_aceal.workflows.caching import FollowsCaching

_CALLS = (LinkType.CALL_CALC, LinkType.CALL_WORK)
#: numbers in one query, which SQLite bounds
_AT_ONCE = 500


class StepError(RuntimeError):
    """A light step ended with an exit code; the text says why."""


class AceWorkChain(FollowsCaching, WorkChain):
    """WorkChain whose steps may be executed twice without harm.

    A worker that dies inside a step leaves children behind that the last checkpoint does not know; the step then runs
    again. Every child has a label (that of its CALL link) by which it is recognised.
    """

    def child(self, label: str) -> ProcessNode | None:
        """The child called under ``label``, ``None`` if there is none; a finished one before others."""
        found = self.node.base.links.get_outgoing(link_type=_CALLS, link_label_filter=label).all_nodes()
        found = [node for node in found if not is_stillborn(node)]
        return min(found, key=lambda node: (not node.is_finished_ok, node.pk)) if found else None

    def start_child(
        self, label: str, process_class: Any, inputs: dict[str, Any], description: str = "", wait: bool = True
    ) -> None:
        """Submit a process, or wait for the one of this label that exists already; it will stand in ``ctx[label]``.

        Without ``wait`` a later step has to put it into the context. A CalcJob becomes the job of a restart WorkChain,
        see `aiida_aceal.workflows.restart`.
        """
        from aiida_aceal.workflows.restart import under_restart  # a WorkChain of this kind itself

        process_class, inputs = under_restart(process_class, inputs)
        node = self.submit_child(label, process_class, inputs, description)
        if wait:
            self.to_context(**{label: node})

    def submit_child(
        self, label: str, process_class: Any, inputs: dict[str, Any], description: str = ""
    ) -> ProcessNode:
        """Submit a process, or take the one of this label that exists already; the step after does not wait for it."""
        node = self.child(label)
        if node is None:
            self._bury(label)
            metadata = {**inputs.get("metadata", {}), "call_link_label": label}
            if description:
                metadata["description"] = description
            node = self.submit(process_class, **{**inputs, "metadata": metadata})
        elif node.process_state is not None and node.process_state.value == "created" and self.runner.controller:
            # the worker died between making the node and announcing it; a second announcement is refused if not needed
            self.runner.controller.continue_process(node.pk, nowait=False, no_reply=True)
        return node

    def _bury(self, label: str) -> None:
        """Close the nodes of children that never came to life, so that nobody waits for them."""
        for node in self.node.base.links.get_outgoing(link_type=_CALLS, link_label_filter=label).all_nodes():
            if is_stillborn(node) and not node.is_sealed:
                node.set_process_state(ProcessState.EXCEPTED)
                node.set_exception("the worker died while it made this process; another one took its place")
                node.seal()

    def call_once(self, label: str, function: Any, **inputs: Any) -> Any:
        """Result of a calcfunction, taken from the graph if it was called before.

        :raises StepError: it returned an exit code.
        """
        node = self.child(label)
        if node is None or not node.is_finished_ok:
            with self.caching(function.process_class):
                _, node = function.run_get_node(**inputs, metadata={"call_link_label": label})
        if not node.is_finished_ok:
            raise StepError(why(node))
        outputs = {link.link_label: link.node for link in node.base.links.get_outgoing(link_type=LinkType.CREATE)}
        return outputs["result"] if list(outputs) == ["result"] else outputs

    def report_of(self, label: str) -> dict[str, Any]:
        """Content of the output ``report`` of the child in ``ctx[label]``; empty if there is none."""
        node = output(self.ctx.get(label), "report")
        return node.get_dict() if node is not None else {}


def is_stillborn(node: ProcessNode) -> bool:
    """A process that was never started: its worker died after the node was stored and before it could be resumed."""
    if isinstance(node, CalcFunctionNode) or node.is_finished:
        return False
    if node.is_excepted and node.is_sealed:
        return str(node.exception).startswith("the worker died while it made this process")
    return not node.is_terminated and node.checkpoint is None


def output(process: ProcessNode | None, name: str) -> Node | None:
    """An output of a process, ``None`` if it has none of this name."""
    if process is None:
        return None
    found = process.base.links.get_outgoing(
        link_type=(LinkType.CREATE, LinkType.RETURN), link_label_filter=name
    ).all_nodes()
    return found[0] if found else None


def descendants(process: ProcessNode) -> list[ProcessNode]:
    """All processes that a process has called, and what these have called, by pk.

    As `called_descendants`, which asks once for each process, with one query for each depth.
    """
    found: list[ProcessNode] = []
    level = [process.pk]
    while level:
        called: list[ProcessNode] = []
        for first in range(0, len(level), _AT_ONCE):
            few = {"id": {"in": level[first : first + _AT_ONCE]}}
            query = QueryBuilder().append(ProcessNode, filters=few, tag="caller")
            called += query.append(ProcessNode, with_incoming="caller", project="*").all(flat=True)
        found += called
        level = [node.pk for node in called]
    return sorted(found, key=lambda node: node.pk)


def clean_scratch(process: ProcessNode) -> tuple[int, list[str]]:
    """Empty the work folders of all jobs below ``process`` that ended well; those of failed jobs stay for a look.

    :returns: number of folders, and what went wrong
    """
    by_computer: dict[str, list[CalcJobNode]] = {}
    for node in descendants(process):
        if isinstance(node, CalcJobNode) and node.is_finished_ok and not node.base.caching.is_created_from_cache:
            by_computer.setdefault(node.computer.uuid, []).append(node)
    cleaned, problems = 0, []
    for nodes in by_computer.values():
        try:
            with nodes[0].get_transport() as transport:
                for node in nodes:
                    folder = output(node, "remote_folder")
                    if folder is not None and not folder.is_cleaned:
                        folder._clean(transport=transport)
                        cleaned += 1
        except Exception as error:  # a full disk or a lost connection must not end a campaign
            problems.append(f"{nodes[0].computer.label}: {type(error).__name__}: {error}")
    return cleaned, problems


def why(process: ProcessNode) -> str:
    """One phrase on how a process ended."""
    if process.is_excepted:
        return f"{process.process_label}<{process.pk}> stopped with {str(process.exception).strip()}"
    if process.is_killed:
        return f"{process.process_label}<{process.pk}> was killed"
    return f"{process.process_label}<{process.pk}> exit {process.exit_status}: {process.exit_message}"
