"""What a job of the worker is: settings, files in, files out, and the function that does the work.

A job is declared once, in a module of its own that imports neither AiiDA nor, at its top, anything heavy::

    class SmallestSettings(Settings):
        \"\"\"Keep the smallest structures.\"\"\"

        count: int = setting(10, "Number of structures that are kept.", ge=1)

    def run(task: Task) -> dict[str, Any]:
        frames = sorted(task.configurations("configurations"), key=len)[: task.settings.count]
        task.write("kept", frames)
        return {"n_kept": len(frames)}

    JOB = Job(
        "smallest", "Keep the smallest of DATA...", run, SmallestSettings,
        inputs=(Input("configurations", "configurations", "Configurations.", many=True, metavar="data"),),
        outputs=(Output("kept", "configurations", "The smallest ones."),),
    )

From it come the command ``aceal-worker smallest DATA... -o OUT.extxyz --count 10`` (`aiida_aceal.worker.command`),
the CalcJob with its ports, validators and exit codes (`aiida_aceal.calculations.job`), its parser
(`aiida_aceal.parsers.job`) and its tables in the docs. Jobs of other packages are found by the entry point group
``aiida_aceal.jobs``.

Jobs with many settings take one file instead of options (``style="file"``): ``aceal-worker fit SETTINGS.yaml``. The
settings model is then that of the file, whose keys name the input and output files too (``key`` of each).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from aiida_aceal.common.settings import Settings

if TYPE_CHECKING:
    from .task import Task

#: what a file holds: an ACE potential (.yaml), an active set (.asi), configurations (extended XYZ), an ensemble (.zip),
#: numbers and curves (.json), arrays (.npz), text
Kind = Literal["potential", "active_set", "configurations", "ensemble", "json", "arrays", "text"]
SUFFIX: Mapping[str, str] = {
    "potential": ".yaml", "active_set": ".asi", "configurations": ".extxyz", "ensemble": ".zip", "json": ".json",
    "arrays": ".npz", "text": ".txt",
}  # fmt: skip


class NoSettings(Settings):
    """A job without settings."""


@dataclass(frozen=True)
class Input:
    """A file, or with ``many`` one or more files, that a job reads; in AiiDA a port of the CalcJob.

    ``name`` is that of the port. On the command line it is a positional argument, in order, called ``metavar``; or with
    ``option`` (such as ``--asi``) an option. ``many`` makes an argument of several files; with ``namespace`` its port
    is a namespace of sets whose union without duplicates is used, else one node. ``key`` is the key of the settings
    file that names it, in jobs of that style. ``labels`` are those that every configuration must have (``energy``,
    ``forces``, ``stress``); ``any_element``: configurations may hold elements that the potential does not know.
    """

    name: str
    kind: Kind
    help: str
    required: bool = True
    many: bool = False
    namespace: bool = False
    metavar: str = ""
    option: str = ""
    key: str = ""
    labels: tuple[str, ...] = ()
    any_element: bool = False

    @property
    def argument(self) -> str:
        """Name on the command line."""
        return self.metavar or self.name

    @property
    def filename(self) -> str:
        """Name in the working directory of the CalcJob."""
        return self.name + SUFFIX[self.kind]


@dataclass(frozen=True)
class Output:
    """A file that a job writes; in AiiDA an output node.

    ``required``: whether the command must be told where to write it. ``may_be_empty``: an empty file means that there
    was nothing to write (no node), else it is a failure. ``wanted`` tells from the settings (of the node too) whether
    it is made. ``key`` is the key of the settings file that names it, in jobs of that style; ``port`` the name of the
    output node and ``file`` that in the working directory of the CalcJob, if they differ from ``name``; without
    ``node`` it stays a file in ``retrieved``.
    """

    name: str
    kind: Kind
    help: str
    option: str = "--output"
    short: str = "-o"
    required: bool = True
    may_be_empty: bool = False
    wanted: Callable[[Mapping[str, Any]], bool] = lambda settings: True
    key: str = ""
    port: str = ""
    file: str = ""
    node: bool = True

    @property
    def link(self) -> str:
        """Name of the output node."""
        return self.port or self.name

    @property
    def filename(self) -> str:
        """Name in the working directory of the CalcJob."""
        return self.file or self.name + SUFFIX[self.kind]


@dataclass
class Job:
    """A subcommand of ``aceal-worker`` and the CalcJob ``aceal.NAME``.

    ``run`` gets a `Task` and returns the report (JSON types). ``settings`` may be given as ``"package.module:Class"``,
    so that a list of all commands need not import it; ``node_settings`` is the model of the port ``settings`` where
    that has other keys. ``seeded``: whether there is randomness (option ``--seed``, port ``seed``). ``label_keys``:
    whether the command can be told where labels stand in the files. ``settings_option`` takes a file with all
    settings; ``options``: spelling of the options of settings that are not called after their key.

    ``check_inputs`` says what is wrong with settings and the names of the inputs that are given together,
    ``exit_status`` how the command ends after its report, ``check_report`` what is missing in a report. ``slim`` is the
    part of the report that goes into the data base, ``source`` (from the settings) where configurations that are
    written come from (default: the job's name).
    """

    name: str
    help: str
    run: Callable[[Task], dict[str, Any]]
    settings: type[Settings] | str = NoSettings
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    seeded: bool = False
    node_settings: type[Settings] | str | None = None
    label_keys: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    check_inputs: Callable[[Mapping[str, Any], Collection[str]], str | None] = lambda settings, given: None
    exit_status: Callable[[Mapping[str, Any]], int] = lambda report: 0
    check_report: Callable[[Mapping[str, Any]], str | None] = lambda report: None
    slim: Callable[[dict[str, Any]], dict[str, Any]] = lambda report: report
    source: Callable[[Mapping[str, Any]], str] | None = None
    settings_option: str = "--settings-file"
    seed_required: bool = True
    style: Literal["options", "file"] = "options"
    modes: Mapping[str, Job] = field(default_factory=dict)
    mode: str = ""
    report_key: str = "report"
    cores: str = ""
    distinct: tuple[str, ...] = ()
    finite: bool = False

    @cached_property
    def model(self) -> type[Settings]:
        """The settings model."""
        return _loaded(self.settings)

    @cached_property
    def node_model(self) -> type[Settings]:
        """Model of the port ``settings``: the job's own, and keys that only the CalcJob takes."""
        return self.model if self.node_settings is None else _loaded(self.node_settings)

    def variants(self) -> list[Job]:
        """The jobs that CalcJobs are made of: that of each mode, else the job itself."""
        return list(self.modes.values()) or [self]

    def source_of(self, settings: Mapping[str, Any]) -> str:
        """Where configurations that the job writes come from, as their node says."""
        return self.name if self.source is None else self.source(settings)

    def input(self, name: str) -> Input:
        """The input of this name."""
        return next(part for part in self.inputs if part.name == name)

    def output(self, name: str) -> Output:
        """The output of this name."""
        return next(part for part in self.outputs if part.name == name)


def _loaded(model: type[Settings] | str) -> type[Settings]:
    if not isinstance(model, str):
        return model
    module, _, name = model.partition(":")
    return getattr(import_module(module), name)
