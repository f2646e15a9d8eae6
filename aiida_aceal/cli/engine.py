"""The engine of a campaign in one process: told when a child has ended, and patient with long jobs.

AiiDA's runner asks the data base for the state of every child and the scheduler for every job, many times a second if
short jobs are not to wait, and writes a checkpoint whenever the state of a process changes. Here all processes live in
one interpreter, where what a child does is known without a question, and everything else is taken from the cores on
which the jobs run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from aiida.engine.persistence import AiiDAPersister
from aiida.engine.processes.calcjobs.manager import JobManager, JobsList
from aiida.engine.runners import Runner
from aiida.orm import AuthInfo

#: how often a child that lives elsewhere is asked for
CHILD_POLL_SECONDS = 0.1
#: the scheduler is asked again after this share of the time that the youngest job has run so far ...
PATIENCE = 0.1
#: ... but after so many seconds at the latest
LONGEST_PAUSE = 2.0


class PatientJobsList(JobsList):
    """Asks for short jobs often, for long ones seldom; never more often than the computer allows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun: dict[str, float] = {}

    @contextlib.contextmanager
    def request_job_info_update(self, authinfo: AuthInfo, job_id: Hashable) -> Iterator[asyncio.Future]:
        """As the base; the first question about a job is its beginning."""
        self._begun.setdefault(str(job_id), time.monotonic())
        with super().request_job_info_update(authinfo, job_id) as request:
            yield request

    def get_minimum_update_interval(self) -> float:
        """Seconds between two questions."""
        now = time.monotonic()
        youngest = min((now - self._begun[job_id] for job_id in self._job_update_requests), default=0.0)
        return max(super().get_minimum_update_interval(), min(LONGEST_PAUSE, PATIENCE * youngest))


class PatientJobManager(JobManager):
    """Has such a list for each computer."""

    def get_jobs_list(self, authinfo: AuthInfo) -> JobsList:
        """The list of a computer, made when it is first asked for."""
        if authinfo.pk not in self._job_lists:
            self._job_lists[authinfo.pk] = PatientJobsList(authinfo, self._transport_queue)
        return self._job_lists[authinfo.pk]


class FirstCheckpoints(AiiDAPersister):
    """Writes the first checkpoint of a process only.

    Steps may run twice without harm (`aiida_aceal.workflows.base`), so what goes on from the beginning finds what was
    done. `aiida-aceal resume` needs none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: set[int] = set()

    def save_checkpoint(self, process: Any, tag: str | None = None) -> None:
        """As the base, once for each process."""
        if process.pid not in self._written:
            super().save_checkpoint(process, tag)
            self._written.add(process.pid)


class EmbeddedRunner(Runner):
    """Runs processes in this interpreter, without asking for what it knows."""

    def __init__(self) -> None:
        super().__init__(poll_interval=CHILD_POLL_SECONDS, persister=FirstCheckpoints())
        self._job_manager = PatientJobManager(self._transport)
        self._alive: dict[int, Any] = {}

    def instantiate_process(self, process: Any, **inputs: Any) -> Any:
        """As the base; the process is known until it has ended."""
        made = super().instantiate_process(process, **inputs)
        if made.pid is not None:
            self._alive[made.pid] = made
            made.future().add_done_callback(lambda _: self._alive.pop(made.pid, None))
        return made

    def call_on_process_finish(self, pk: int, callback: Callable[[], Any]) -> None:
        """Schedule a callback for the moment when a process has ended; one that lives elsewhere is asked for."""
        process = self._alive.get(pk)
        if process is None:
            super().call_on_process_finish(pk, callback)
            return
        # the state is in the data base when the loop has the word again; should it not be, the base asks for it
        process.future().add_done_callback(
            lambda _: self.loop.call_soon(super(EmbeddedRunner, self).call_on_process_finish, pk, callback)
        )
