"""Waiting until any of several children has ended; AiiDA's WorkChains wait for all that a step has submitted.

The step itself looks which children have ended, in the graph: callbacks only wake it, so that none can be lost or come
twice, also not when a daemon's worker is killed and another one loads the checkpoint.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from aiida.common.extendeddicts import AttributeDict
from aiida.engine import WorkChain
from aiida.orm import ProcessNode, QueryBuilder
from plumpy.process_states import ProcessState

_ENDED = [state.value for state in (ProcessState.FINISHED, ProcessState.KILLED, ProcessState.EXCEPTED)]


def ended(pks: Iterable[int]) -> set[int]:
    """Those processes of the given ones that have terminated; one query."""
    given = list(pks)
    if not given:
        return set()
    query = QueryBuilder().append(
        ProcessNode, filters={"id": {"in": given}, "attributes.process_state": {"in": _ENDED}}, project="id"
    )
    return {pk for (pk,) in query.all()}


class WaitsForAny(WorkChain):
    """A WorkChain whose next step begins as soon as one of the awaited children has ended.

    Two methods of AiiDA's WorkChain are replaced, which it calls when it begins to wait and when a child has ended
    (``_action_awaitables``, ``_on_awaitable_finished``). Steps that do not call :meth:`wait_for_any` wait for all of
    their children, as always.
    """

    #: name in the context of what is awaited; the nodes themselves are found by the labels of their CALL links
    _AWAITED = "awaited_any"

    def wait_for_any(self, pks: Iterable[int]) -> None:
        """Begin the next step when one of these processes has ended, at once if one has."""
        self.ctx[self._AWAITED] = AttributeDict()
        for pk in pks:
            self.to_context(**{f"{self._AWAITED}.process_{pk}": _load(pk)})

    def _any(self) -> list[int]:
        return [a.pk for a in self._awaitables if str(a.key).startswith(f"{self._AWAITED}.")]

    def _action_awaitables(self) -> None:
        """As the base, but each process is listened to once, however often it is awaited."""
        listened = self.__dict__.setdefault("_listened", set())
        new = [a for a in self._awaitables if a.pk not in listened]
        for awaitable in new:
            listened.add(awaitable.pk)
            callback = functools.partial(self.call_soon, self._on_awaitable_finished, awaitable)
            self.runner.call_on_process_finish(awaitable.pk, callback)
        # what ended while the step ran has called in vain
        if ended(self._any()):
            self.call_soon(self._wake)

    def _on_awaitable_finished(self, awaitable: Any) -> None:
        """Wake the process, or take the result as the base does."""
        if str(awaitable.key).startswith(f"{self._AWAITED}."):
            self._wake()
        else:
            super()._on_awaitable_finished(awaitable)

    def _wake(self) -> None:
        """Begin the next step, if the process waits for any child that has ended."""
        if self.state == ProcessState.WAITING and ended(self._any()):
            self.resume()


def _load(pk: int) -> ProcessNode:
    from aiida.orm import load_node

    return load_node(pk)
