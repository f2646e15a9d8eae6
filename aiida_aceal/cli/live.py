"""Shows what a campaign does: every running job and the present step while it works, a row per generation."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aiida_aceal.report.progress import Running, generation_time_left, running_jobs, text_of
from aiida_aceal.report.table import rich_table, text_lines

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

#: seconds between two looks at the jobs, on a terminal
LOOK_SECONDS = 1.0
#: seconds between two lines on jobs that work for long, where there is no terminal
LINE_SECONDS = 30.0


class Display:
    """What the user sees: a live table on a terminal; elsewhere a line for every event, written at once."""

    def __init__(self, title: str, verbose: bool = False, console: Any = None) -> None:
        from rich.console import Console
        from rich.spinner import Spinner

        self.console = console or Console()
        self.title, self.verbose = title, verbose
        self.rows: list[dict[str, Any]] = []
        self.jobs: list[Running] = []
        self.left: float | None = None
        self.step = "starting"
        self.began = time.monotonic()
        self._spinner = Spinner("dots")  # one for all the time: a new one would begin its turn anew
        self._live: Any = None

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=True)
            self._live.__enter__()
        else:
            self.console.print(self.title, highlight=False)
            self._lines([], heading=True)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)
            self._live = None
            # what scrolls stays whole: the table was cut to the height of the terminal while it was live
            self.console.print(rich_table(self.rows, self.title, self.console.width) if self.rows else self.title)

    def add_row(self, row: dict[str, Any]) -> None:
        """A generation has ended."""
        self.rows.append(row)
        if self._live is None:
            self._lines([row], heading=False)

    def say(self, message: str) -> None:
        """A decision of the campaign: the present step, and a line where there is no terminal or all is wanted."""
        self.step = message
        if self.verbose or self._live is None:
            self._event(message)

    def show_jobs(self, jobs: Sequence[Running], left: float | None) -> None:
        """What is running now, and the seconds that the generation may still take."""
        self.jobs, self.left = list(jobs), left
        if self._live is None:
            for job in self.jobs:
                self._event(f"... {text_of(job)}")

    def notice(self, message: str) -> None:
        """Something the user should see in any case."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @property
    def is_live(self) -> bool:
        """Whether the display is drawn anew all the time."""
        return self._live is not None

    def _event(self, message: str) -> None:
        self.console.print(f"{time.strftime('%H:%M:%S')} {message}", highlight=False, markup=False, soft_wrap=True)

    def _lines(self, rows: list[dict[str, Any]], heading: bool) -> None:
        for line in text_lines(rows, heading):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def render(self) -> Any:
        """The newest rows that fit on the terminal, the present step and every running job."""
        from rich.console import Group
        from rich.text import Text

        below: list[Any] = []
        if self.step:
            self._spinner.update(text=Text(f" {_clock(time.monotonic() - self.began)}  {self._step_line()}"))
            below.append(self._spinner)
        below += [Text(f"     {text_of(job)}", no_wrap=True, overflow="ellipsis") for job in self.jobs]
        below = below[: max(1, self.console.height - 2)]
        room = self.console.height - 1 - len(below)
        return Group(newest_rows(self.rows, self.title, self.console, room), *below)

    def _step_line(self) -> str:
        width = self.console.width - 40
        words = self.step if len(self.step) <= width else self.step[: max(10, width)] + "…"
        return words if self.left is None else f"{words} (about {_clock(self.left)} left of this generation)"


def newest_rows(rows: Sequence[dict[str, Any]], title: str, console: Any, room: int) -> Any:
    """The table with as many of the newest rows as fit into so many lines of a terminal, at least one."""
    from rich.text import Text

    rows, n_all = list(rows), len(rows)
    while rows:
        shown = title if len(rows) == n_all else f"{title} (the last {len(rows)} generations)"
        table = rich_table(rows, shown, console.width)
        if len(rows) == 1 or len(console.render_lines(table, pad=False)) <= room:
            return table
        rows.pop(0)
    return Text(title)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


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
            message = f"{record.levelname} {message}"
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
    """Looks at a campaign: shows finished generations and running jobs, notices jobs that AiiDA has paused."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.seen: set[int] = set()
        self.next_look = 0.0
        self.next_jobs = time.monotonic()

    def __call__(self, node: ProcessNode) -> str | None:
        from aiida_aceal.report.rows import generations
        from aiida_aceal.workflows.base import output

        moment = time.monotonic()
        if moment < self.next_look and not node.is_terminated:
            return None
        self.next_look = moment + LOOK_SECONDS
        for child in generations(node):
            if child.pk not in self.seen and child.is_terminated:
                self.seen.add(child.pk)
                report = output(child, "generation_report")
                if report is not None:
                    self.display.add_row(report.get_dict())
        if moment >= self.next_jobs:
            self.next_jobs = moment + (LOOK_SECONDS if self.display.is_live else LINE_SECONDS)
            self.display.show_jobs(running_jobs(node), generation_time_left(node))
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
