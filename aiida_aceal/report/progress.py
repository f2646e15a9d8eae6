"""What a campaign is doing now: how far each job is, and how long the rest of the generation may take.

Jobs say how far they are in the files they write anyway. Those of this machine are read where they are; over a remote
transport nothing is read, since a look at a file would cost a connection: the state of the scheduler stands there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida.orm import CalcJobNode, ProcessNode

#: what is read of the end of a file
_TAIL = 4096
#: of the whole log of a run, whose largest grade may lie anywhere
_WHOLE = 8_000_000
#: steps of a generation in their order; those of one line run side by side
STEPS = (
    ("explore",), ("score",), ("extract",), ("select",), ("label",), ("fit", "before", "holdout_before"),
    ("maxvol", "active_set_job", "holdout", "after"),
)  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A job that has not ended: what it is, seconds since it was made, how far it is by its own words, if any."""

    pk: int
    name: str
    seconds: float
    words: str


def run_words(log: str, steps: int | None) -> str:
    """How far an MD run is, from the log of LAMMPS: step, steps in all, largest grade so far."""
    from aiida_aceal.lammps.deck import MAX_GAMMA_COLUMN

    columns: list[str] = []
    step, gamma = None, None
    for line in log.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            columns = words
        elif columns and len(words) == len(columns):
            try:
                row = dict(zip(columns, map(float, words)))
            except ValueError:
                continue
            step = int(row["Step"])
            found = row.get(MAX_GAMMA_COLUMN)
            if found is not None and found == found:
                gamma = found if gamma is None else max(gamma, found)
    if step is None:
        return ""
    text = f"MD step {step}" + (f" of {steps}" if steps else "")
    return text if gamma is None else f"{text}, max γ so far {gamma:.3g}"


def last_words(errors: str) -> str:
    """The last line of progress that a job of ``aceal-worker`` wrote, warnings aside."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Warning:", "note:"))]
    return lines[-1][:120] if lines else ""


def job_words(node: CalcJobNode) -> str:
    """How far a job is by its own words; empty if it has said nothing, or works on another machine."""
    from aiida_aceal.calculations.worker_base import ERROR_FILE

    folder = node.get_remote_workdir()
    if folder is None or node.computer is None or node.computer.transport_type != "core.local":
        return ""
    log = Path(folder) / "log.lammps"
    if log.is_file():
        settings = node.inputs.settings.get_dict() if "settings" in node.inputs else {}
        return run_words(_end_of(log, _WHOLE), settings.get("steps"))
    return last_words(_end_of(Path(folder) / ERROR_FILE, _TAIL))


def _end_of(path: Path, length: int) -> str:
    try:
        with open(path, "rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - length))
            return handle.read().decode("utf-8", "replace")
    except OSError:
        return ""


def running_jobs(node: ProcessNode) -> list[Running]:
    """All jobs below ``node`` that have not ended, the oldest first."""
    from aiida.common import timezone
    from aiida.orm import CalcJobNode, QueryBuilder

    query = QueryBuilder().append(
        CalcJobNode,
        filters={
            "attributes.process_state": {"in": ["created", "waiting", "running"]}, "ctime": {">=": node.ctime},
        },
        project="*",
    )  # fmt: skip
    found = []
    for job in sorted(query.all(flat=True), key=lambda job: job.pk):
        if any(one.pk == node.pk for one in _callers(job)):
            name = job.description or job.process_label
            seconds = (timezone.now() - job.ctime).total_seconds()
            found.append(Running(job.pk, name, seconds, job_words(job)))
    return found


def _callers(node: Any) -> Iterator[ProcessNode]:
    while node.caller is not None:
        node = node.caller
        yield node


def text_of(job: Running) -> str:
    """One line on a running job."""
    minutes, seconds = divmod(int(job.seconds), 60)
    line = f"{minutes}:{seconds:02d}  {job.name} <{job.pk}>"
    return f"{line}: {job.words}" if job.words else line


# --- the rest of the generation ------------------------------------------------------------------------------------


def time_left(before: Mapping[str, float], now: Mapping[str, tuple[float, bool]]) -> float | None:
    """Seconds that a generation may still take, by what the steps of the last one took.

    :param before: label of a step -> seconds, of the last generation that ended
    :param now: label -> seconds so far and whether it has ended, of the present one
    :returns: ``None`` if no generation before tells
    """
    if not before:
        return None
    left = 0.0
    reached = -1
    for place, names in enumerate(STEPS):
        if any(_belongs(label, names) for label in now):
            reached = place
    for place, names in enumerate(STEPS):
        took = {label: seconds for label, seconds in before.items() if _belongs(label, names)}
        if not took or place < reached:
            continue
        longest = max(took.values())
        if place > reached:
            left += longest
        else:
            open_steps = [so_far for label, (so_far, ended) in now.items() if _belongs(label, names) and not ended]
            left += max((max(0.0, longest - so_far) for so_far in open_steps), default=0.0)
    return left


def _belongs(label: str, names: tuple[str, ...]) -> bool:
    return any(label == name or label.startswith(f"{name}_") for name in names)


def steps_of(generation: ProcessNode) -> dict[str, tuple[float, bool]]:
    """Label of a step of a generation -> seconds (so far), whether it has ended."""
    from aiida.common import timezone
    from aiida.common.links import LinkType

    found = {}
    links = generation.base.links.get_outgoing(link_type=(LinkType.CALL_CALC, LinkType.CALL_WORK)).all()
    for link in links:
        ended = link.node.is_terminated
        end = link.node.mtime if ended else timezone.now()
        found[link.link_label] = ((end - link.node.ctime).total_seconds(), ended)
    return found


def generation_time_left(campaign: ProcessNode) -> float | None:
    """Seconds that the generation under way may still take, ``None`` if there is none or nothing to go by."""
    from aiida_aceal.report.rows import generations

    found = generations(campaign)
    if len(found) < 2 or found[-1].is_terminated:
        return None
    before = {label: seconds for label, (seconds, _) in steps_of(found[-2]).items()}
    return time_left(before, steps_of(found[-1]))
