"""The one place where a generation launches, reports and keeps: what stands between the steps and AiiDA's context."""

from __future__ import annotations

import inspect
from typing import Any

from aiida.common.log import LOG_LEVEL_REPORT
from aiida.engine import ExitCode
from aiida.orm import Node, ProcessNode

from aiida_aceal.workflows.base import AceWorkChain, output
from aiida_aceal.workflows.generation.given import Given
from aiida_aceal.workflows.generation.outcome import Outcome, Started
from aiida_aceal.workflows.generation.state import State


class StepRunner(AceWorkChain):
    """Launches what steps ask for and keeps what they found.

    The context holds ``state``, the content of one :class:`~aiida_aceal.workflows.generation.state.State`, and the
    children, under the labels of their CALL links.
    """

    @property
    def given(self) -> Given:
        """The inputs."""
        return Given(self.inputs)

    @property
    def so_far(self) -> State:
        """What the steps so far have found."""
        return State(**self.ctx.state)

    def keep_state(self, state: State) -> None:
        """Put the state into the context."""
        self.ctx.state = state.plain()

    def launched(self, label: str) -> ProcessNode | None:
        """The child of this label, ``None`` if it was not launched."""
        return self.ctx.get(label)

    def output_of(self, label: str, name: str) -> Node | None:
        """An output of a child, ``None`` if there is none."""
        return output(self.launched(label), name)

    def report(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """As AiiDA's, which puts the caller before the line: the step of the outline, not a method of this class."""
        here = inspect.currentframe()
        caller = here
        while caller.f_code.co_filename == here.f_code.co_filename:
            caller = caller.f_back
        line = f"[{self.node.pk}|{type(self).__name__}|{caller.f_code.co_name}]: {msg}"
        self.logger.log(LOG_LEVEL_REPORT, line, *args, **kwargs)

    def launch_step(self, started: Started, **found: Any) -> ExitCode | None:
        """Start what a step asks for and wait for it before the next step; for the rest see :meth:`record_outcome`."""
        for child in started.children:
            text = f"generation {self.given.number}: {child.description}"
            self.start_child(child.label, child.process, child.inputs, text)
        return self.record_outcome(started, **found)

    def record_outcome(self, outcome: Outcome, **found: Any) -> ExitCode | None:
        """Report the lines; keep the facts, and ``found`` in fields of the state; the exit code of a failure."""
        for line in outcome.lines:
            self.report(f"generation {self.given.number}: {line}")
        self.keep_state(self.so_far.changed(outcome.facts, **found))
        if outcome.failure is None:
            return None
        return self.exit_codes[outcome.failure.name].format(**outcome.failure.values)
