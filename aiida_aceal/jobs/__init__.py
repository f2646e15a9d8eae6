"""Jobs of ``aceal-worker``: one module each, which declares settings, files in, files out, and holds the work.

See `aiida_aceal.jobs.declaration`. Imports no AiiDA.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules

from aiida_aceal.common.errors import AceError

from .declaration import Input, Job, NoSettings, Output
from .task import Task

__all__ = ("GROUP", "Input", "Job", "NoSettings", "Output", "Task", "find_job", "job_names", "own_names")

#: entry point group in which other packages name their jobs
GROUP = "aiida_aceal.jobs"
#: modules of this package that are no jobs; every other one declares the job of its name (active_set: ``active-set``)
HELPERS = ("curve_files", "declaration", "ensemble_scores", "explore_files", "parts", "task")


def own_names() -> list[str]:
    """The jobs of this package, by name."""
    modules = (module.name for module in iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in modules if name not in HELPERS)


def job_names() -> list[str]:
    """All jobs: ours, then those of other packages, which cannot take the name of one of ours."""
    own = own_names()
    return [*own, *sorted({point.name for point in entry_points(group=GROUP)} - set(own))]


def find_job(name: str) -> Job:
    """The job of a name.

    :raises KeyError: no such job
    :raises AceError: another package names a job that cannot be loaded, is none, or is called otherwise
    """
    if name in own_names():
        return import_module(f"{__name__}.{name.replace('-', '_')}").JOB
    for point in entry_points(group=GROUP, name=name):
        return _job_of(point)
    raise KeyError(name)


def _job_of(point: EntryPoint) -> Job:
    place = f"entry point '{point.name}' ({point.value}) of group {GROUP}"
    package = point.dist.name if point.dist else "its package"
    try:
        job = point.load()
    except Exception as error:  # whatever the other package does wrong, ours must go on
        raise AceError(f"{place}: {type(error).__name__}: {error}; repair or uninstall {package}") from error
    if not isinstance(job, Job):
        raise AceError(f"{place}: must be an instance of aiida_aceal.jobs.Job, found {type(job).__name__}")
    if job.name != point.name:
        raise AceError(f"{place}: the job is called '{job.name}'; give job and entry point the same name")
    return job
