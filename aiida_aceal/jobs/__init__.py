"""Jobs of ``aceal-worker``: one module each, which declares settings, files in, files out, and holds the work.

See `aiida_aceal.jobs.declaration`. Imports no AiiDA.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from .declaration import Input, Job, NoSettings, Output

__all__ = ("GROUP", "OWN", "Input", "Job", "NoSettings", "Output", "find_job", "job_names")

#: entry point group in which other packages name their jobs
GROUP = "aiida_aceal.jobs"
#: command -> module of this package
OWN = {
    "evaluate": "evaluate",
    "grade": "grade",
    "select": "select",
    "extract": "extract",
    "label": "label",
    "sample": "sample",
    "properties": "properties",
}


def job_names() -> list[str]:
    """All jobs: ours in their order, then those of other packages."""
    return [*OWN, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in OWN)]


def find_job(name: str) -> Job:
    """The job of a name.

    :raises KeyError: no such job
    """
    if name in OWN:
        return import_module(f"{__name__}.{OWN[name]}").JOB
    for point in entry_points(group=GROUP):
        if point.name == name:
            job = point.load()
            if not isinstance(job, Job):
                raise TypeError(f"entry point {name} of group {GROUP} is not a Job but {type(job).__name__}")
            return job
    raise KeyError(name)
