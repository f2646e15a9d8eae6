"""Shows what a campaign does: the present step while it works, a row per generation."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiida_aceal.report.table import rich_table, text_lines

if TYPE_CHECKING:
    from aiida.orm import ProcessNode


class Display:
    """What the user sees: a live table on a terminal, plain lines otherwise."""

    def __init__(self, title: str, verbose: bool = False) -> None:
        from rich.console import Console

        self.console = Console()
        self.title, self.verbose = title, verbose
        self.rows: list[dict[str, Any]] = []
        self.step = "starting"
        self.began = time.monotonic()
        self._live: Any = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=4)
            self._live.__enter__()
        else:
            self.console.print(self.title, highlight=False)
            self._lines([], heading=True)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self.step = ""
            self._live.refresh()
            self._live.__exit__(*error)

    def add_row(self, row: dict[str, Any]) -> None:
        """A generation has ended."""
        self.rows.append(row)
        if self._live is None:
            self._lines([row], heading=False)

    def say(self, message: str) -> None:
        """A decision of the campaign; always the present step, printed if the user wants to see all."""
        self.step = message
        if self.verbose:
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] {message}", highlight=False, soft_wrap=True)

    def notice(self, message: str) -> None:
        """Something the user should see in any case."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    def _lines(self, rows: list[dict[str, Any]], heading: bool) -> None:
        for line in text_lines(rows, heading):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        parts: list[Any] = [rich_table(self.rows, self.title, self.console.width)] if self.rows else [Text(self.title)]
        if self.step:
            seconds = time.monotonic() - self.began
            parts.append(Spinner("dots", Text(f" {int(seconds // 60)}:{int(seconds % 60):02d}  {self.step}")))
        return Group(*parts)


class _Reports(logging.Handler):
    """Hands the report lines of processes to the display instead of the console."""

    def __init__(self, display: Display) -> None:
        super().__init__(level=logging.INFO)
        self.display = display

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("[") and "]: " in message:
            message = message.split("]: ", 1)[1]
        if record.levelno >= logging.ERROR and self.display.verbose:
            message = f"[red]{record.levelname}[/red] {message}"
        if record.levelname == "REPORT" or self.display.verbose:
            self.display.say(message)


@contextlib.contextmanager
def quiet_logging(display: Display) -> Iterator[None]:
    """AiiDA's console output goes to the display while a campaign runs."""
    logger = logging.getLogger("aiida")
    handlers = [h for h in logger.handlers if isinstance(h, logging.StreamHandler)]
    ours = _Reports(display)
    for handler in handlers:
        logger.removeHandler(handler)
    logger.addHandler(ours)
    try:
        yield
    finally:
        logger.removeHandler(ours)
        for handler in handlers:
            logger.addHandler(handler)


class Watcher:
    """Looks at a campaign: shows finished generations, notices jobs that AiiDA has paused."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.seen: set[int] = set()

    def __call__(self, node: ProcessNode) -> str | None:
        from aiida_aceal.report.rows import generations
        from aiida_aceal.workflows.base import output

        for child in generations(node):
            if child.is_terminated and child.pk not in self.seen:
                self.seen.add(child.pk)
                report = output(child, "generation_report")
                if report is not None:
                    self.display.add_row(report.get_dict())
        return paused_job(node)


def paused_job(node: ProcessNode) -> str | None:
    """What AiiDA says about a job below ``node`` that it has paused, ``None`` if there is none.

    AiiDA pauses a job that cannot be submitted or retrieved and waits for a person; nobody is there in a single run.
    """
    from aiida.orm import CalcJobNode, QueryBuilder

    query = QueryBuilder().append(
        CalcJobNode, filters={"attributes": {"has_key": "paused"}, "ctime": {">=": node.ctime}}, project="*"
    )
    for job in query.all(flat=True):
        if job.paused and not job.is_terminated:
            parent = job
            while parent is not None and parent.pk != node.pk:
                parent = parent.caller
            if parent is not None:
                reason = job.process_status or "paused"
                return f"{job.process_label}<{job.pk}> cannot go on ({reason}): see verdi process report {job.pk}"
    return None
