"""Jobs of ``aceal-worker``: one module each, which declares settings, files in, files out, and holds the work.

See `aiida_aceal.jobs.declaration`. Imports no AiiDA.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules

from .declaration import Input, Job, NoSettings, Output

__all__ = ("GROUP", "Input", "Job", "NoSettings", "Output", "find_job", "job_names", "own_names")

#: entry point group in which other packages name their jobs
GROUP = "aiida_aceal.jobs"
#: modules of this package that are no jobs; every other one declares the job of its name (active_set: ``active-set``)
HELPERS = ("curve_files", "declaration", "ensemble_scores", "explore_files", "parts", "task")


def own_names() -> list[str]:
    """The jobs of this package, by name."""
    modules = (module.name for module in iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if name not in HELPERS)


def job_names() -> list[str]:
    """All jobs: ours, then those of other packages."""
    own = own_names()
    return [*own, *sorted(point.name for point in entry_points(group=GROUP) if point.name not in own)]


def find_job(name: str) -> Job:
    """The job of a name.

    :raises KeyError: no such job
    """
    if name in own_names():
        return import_module(f"{__name__}.{name.replace('-', '_')}").JOB
    for point in entry_points(group=GROUP):
        if point.name == name:
            job = point.load()
            if not isinstance(job, Job):
                raise TypeError(f"entry point {name} of group {GROUP} is not a Job but {type(job).__name__}")
            return job
    raise KeyError(name)
