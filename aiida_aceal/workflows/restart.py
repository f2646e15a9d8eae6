"""``aceal.restart``: runs a job until it ends well, through lost nodes, kills, wall time and lack of memory."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isclass
from typing import Any, Literal

from aiida import orm
from aiida.common.links import LinkType
from aiida.engine import (
    BaseRestartWorkChain,
    CalcJob,
    ExitCode,
    ProcessHandlerReport,
    ProcessSpec,
    ToContext,
    process_handler,
    while_,
)
from aiida.engine.processes.workchains.context import append_
from aiida.plugins import WorkflowFactory

from aiida_aceal.calculations.worker_base import n_threads
from aiida_aceal.common.settings import Settings, check, setting
from aiida_aceal.workflows.base import AceWorkChain, why
from aiida_aceal.workflows.steps import step_class

#: exit status -> cause, of the CalcJobs of AiiDA (below 300) and of ours
LOST = {100: "nothing could be retrieved", 140: "node lost", 303: "output missing", 304: "output cut off", 309: "ended"}
OUT_OF_TIME = (120, 306)
OUT_OF_MEMORY = (110, 307)
#: output missing or cut off may be the fault of the input: tried again once only
_ONCE = (303, 304)


class RestartSettings(Settings):
    """How a job is tried again."""

    heading = "Restarts: `restart` of a step"

    max_iterations: int = setting(5, "Largest number of jobs, those that went on from labels made before aside.", ge=1)
    max_resubmissions: int = setting(
        3, "How often a job is submitted again that was cancelled, killed or lost with its node.", ge=0
    )
    wallclock_factor: float = setting(2.0, "After wall time, the next job gets that many times as much.", ge=1)
    wallclock_bound: float = setting(4.0, "Largest wall time, as a multiple of that of the options.", ge=1)
    memory_bound: float = setting(4.0, "Largest memory request, as a multiple of that of the options.", ge=1)
    on_unhandled_failure: Literal["abort", "pause", "restart_once", "restart_and_pause"] = setting(
        "abort", "What is done about a failure that no handler knows."
    )
    pause_on_max_iterations: bool = setting(False, "Whether to pause for a look instead of giving up.")
    handler_overrides: dict[str, Any] | None = setting(
        None, "Handler -> `enabled`, `priority`, as in every BaseRestartWorkChain."
    )


#: settings that are ports of BaseRestartWorkChain
_PORTS = ("max_iterations", "on_unhandled_failure", "pause_on_max_iterations", "handler_overrides")


def restart_class(process_class: type[CalcJob] | None) -> type[BaseRestartWorkChain]:
    """The WorkChain that a CalcJob runs under: the entry point that it names as ``RESTART``, or ``aceal.restart``."""
    return WorkflowFactory(getattr(process_class, "RESTART", "aceal.restart"))


def check_restart(settings: Mapping[str, Any], process_class: type[CalcJob] | None = None) -> str | None:
    """What is wrong with the settings of the restarts of a job, or ``None``."""
    message = check(RestartSettings, settings, "restart")
    if message:
        return message
    workchain = restart_class(process_class)
    for name in settings.get("handler_overrides") or {}:
        if not workchain.is_process_handler(name):
            known = sorted(handler.__name__ for handler in workchain.get_process_handlers())
            return f"restart: handler_overrides: no handler '{name}'; there are {', '.join(known)}"
    return None


class RestartWorkChain(AceWorkChain, BaseRestartWorkChain):
    """Run a CalcJob, and again with other options if something outside of it went wrong.

    Outputs and exit code are those of the last job; they are attached if it failed, too. Jobs are children with the
    labels ``iteration_01``, ``iteration_02``, ...: a step that runs twice after a kill of the daemon finds the job that
    it has submitted.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports and outline."""
        super().define(spec)
        spec.input("calculation", valid_type=orm.Str, help="Entry point of the CalcJob.")
        spec.input_namespace("job", dynamic=True, help="Its inputs, without `metadata`.")
        spec.input("options", valid_type=orm.Dict, serializer=orm.to_aiida_type, help="Its `metadata.options`.")
        own = ", ".join(f"`{key}`" for key in RestartSettings.model_fields if key not in _PORTS)
        spec.input(
            "settings", valid_type=orm.Dict, serializer=orm.to_aiida_type, required=False,
            validator=lambda node, _: check_restart(node.get_dict()) if node is not None else None,
            help=f"Bounds: {own}.",
        )  # fmt: skip
        spec.outputs.dynamic = True
        spec.outputs.valid_type = orm.Data
        spec.outline(cls.setup, while_(cls.should_run_process)(cls.run_process, cls.inspect_process), cls.results)

    @property
    def process_class(self) -> type[CalcJob]:
        """The class of the job; asked for before there are inputs, any will do."""
        return step_class(self.inputs.calculation.value) if self._parsed_inputs else CalcJob

    @property
    def settings(self) -> RestartSettings:
        """Bounds with defaults."""
        return RestartSettings.read(self.inputs.settings.get_dict() if "settings" in self.inputs else {})

    # --- outline -------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Start values; the context holds numbers and identifiers only."""
        super().setup()
        self.ctx.changes = {}
        self.ctx.earlier = {}
        self.ctx.resubmissions = self.ctx.productive = 0

    def options(self) -> dict[str, Any]:
        """``metadata.options`` of the next job."""
        return {**self.inputs.options.get_dict(), **self.ctx.changes}

    def run_process(self) -> Any:
        """Submit the next job, or take the one of this number that exists already."""
        self.ctx.iteration += 1
        inputs = _plain(self.inputs.job)
        inputs.update({name: orm.load_node(uuid) for name, uuid in self.ctx.earlier.items()})
        inputs["metadata"] = {"options": self.options()}
        label = f"iteration_{self.ctx.iteration:02d}"
        node = self.submit_child(label, self.process_class, inputs, self.node.description)
        considered = self.node.base.extras.get(self._considered_handlers_extra, [])
        considered += [[] for _ in range(self.ctx.iteration - len(considered))]
        self.node.base.extras.set(self._considered_handlers_extra, considered)
        return ToContext(children=append_(node))

    def inspect_process(self) -> ExitCode | None:
        """As the base, but a job that was killed, or stopped with an exception, is one to try again as well."""
        node = self.ctx.children[self.ctx.iteration - 1]
        report = None
        for _, handler in sorted(self.get_process_handlers_by_priority(), key=lambda pair: -pair[0]):
            report = handler(self, node) or report
            if report and report.do_break:
                break
        if report is None:
            if node.is_finished_ok:
                self.ctx.is_finished = True
                return None
            return self.unhandled(node)
        self.ctx.unhandled_failure = False
        if report.exit_code.status or self.ctx.is_finished:
            return self.give_up(node) if report.exit_code.status else None
        most = self.inputs.max_iterations.value + self.ctx.productive
        if self.ctx.iteration < most:
            return None
        self.report(f"{self.ctx.iteration} jobs are as many as `max_iterations` allows")
        if "pause_on_max_iterations" in self.inputs and self.inputs.pause_on_max_iterations.value:
            self.ctx.productive = self.ctx.iteration
            self.pause(f"paused for a look; `verdi process play {self.node.pk}` tries again")
            return None
        return self.give_up(node)

    def unhandled(self, node: orm.ProcessNode) -> ExitCode | None:
        """What the user asked for with a failure that no handler knows."""
        action = self.inputs.on_unhandled_failure.value if "on_unhandled_failure" in self.inputs else "abort"
        if action.startswith("restart") and not self.ctx.unhandled_failure:
            self.ctx.unhandled_failure = True
            self.report(f"{why(node)}: tried once more")
            return None
        if action.endswith("pause"):
            self.ctx.unhandled_failure = False
            self.report(f"{why(node)}: paused for a look; `verdi process play {self.node.pk}` tries again")
            self.pause("paused after a failure")
            return None
        return self.give_up(node)

    def give_up(self, node: orm.ProcessNode) -> ExitCode:
        """Attach what there is, and end with the exit code of the last job."""
        self.attach(node)
        if node.is_finished:
            return ExitCode(node.exit_status, f"{node.exit_message}{self.last_of()}")
        code = (
            self.exit_codes.ERROR_SUB_PROCESS_KILLED if node.is_killed else self.exit_codes.ERROR_SUB_PROCESS_EXCEPTED
        )
        return ExitCode(code.status, f"{why(node)}{self.last_of()}")

    def last_of(self) -> str:
        """How many jobs were tried, if there were several."""
        return f" (the last of {self.ctx.iteration} jobs)" if self.ctx.iteration > 1 else ""

    def results(self) -> None:
        """Attach the outputs of the last job."""
        self.attach(self.ctx.children[self.ctx.iteration - 1])

    def on_terminated(self) -> None:
        """As the base, but silent when folders are not to be emptied, which campaigns do themselves."""
        if self.inputs.clean_workdir.value:
            super().on_terminated()
        else:
            super(BaseRestartWorkChain, self).on_terminated()

    def attach(self, node: orm.ProcessNode) -> None:
        """Attach all outputs of a job."""
        for link in node.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all():
            self.out(link.link_label.replace("__", "."), link.node)

    def again(self, node: orm.ProcessNode, how: str) -> ProcessHandlerReport:
        """Say why there is another job, and let it take what this one has made."""
        self.report(f"{why(node)}: {how}")
        self.continue_from(node)
        return ProcessHandlerReport(True)

    def continue_from(self, node: orm.ProcessNode) -> None:
        """Note what the next job can take from this one; nothing, unless the job is of a kind that can."""

    # --- handlers ------------------------------------------------------------------------------------------------

    @process_handler(priority=600)
    def handle_lost_job(self, node: orm.ProcessNode) -> ProcessHandlerReport | None:
        """Cancelled, killed, lost with its node (exit codes 100, 140, 309), or killed or excepted in AiiDA: submitted
        again as it was, at most `max_resubmissions` times. Output missing or cut off (303, 304): once.
        """
        lost = node.is_killed or node.is_excepted or node.exit_status in LOST
        most = self.settings.max_resubmissions
        if not lost or self.ctx.resubmissions >= (min(1, most) if node.exit_status in _ONCE else most):
            return None
        self.ctx.resubmissions += 1
        return self.again(node, "submitted again")

    @process_handler(priority=590)
    def handle_out_of_walltime(self, node: orm.ProcessNode) -> ProcessHandlerReport | None:
        """Wall time (exit codes 120, 306): `max_wallclock_seconds` times `wallclock_factor`, at most `wallclock_bound`
        times that of the options.
        """
        if node.exit_status not in OUT_OF_TIME:
            return None
        seconds = self.more_time()
        return None if seconds is None else self.again(node, f"tried again with {seconds} s")

    @process_handler(priority=580)
    def handle_out_of_memory(self, node: orm.ProcessNode) -> ProcessHandlerReport | None:
        """Memory (exit codes 110, 307): if the options ask for `max_memory_kb`, twice as much, at most `memory_bound`
        times that of the options; else half as many threads.
        """
        if node.exit_status not in OUT_OF_MEMORY:
            return None
        change = self.more_memory()
        return None if change is None else self.again(node, f"tried again with {change}")

    def more_time(self) -> int | None:
        """Enlarge the wall time of the next job; ``None`` if it has no limit, or the bound is reached."""
        first = self.inputs.options.get_dict().get("max_wallclock_seconds")
        if not first:
            return None
        now, most = self.options()["max_wallclock_seconds"], int(self.settings.wallclock_bound * first)
        seconds = min(most, int(self.settings.wallclock_factor * now))
        if seconds <= now:
            return None
        self.ctx.changes = {**self.ctx.changes, "max_wallclock_seconds": seconds}
        return seconds

    def more_memory(self) -> str | None:
        """Ask for more memory, or less of it with fewer threads; ``None`` if a bound is reached."""
        options, first = self.options(), self.inputs.options.get_dict().get("max_memory_kb")
        if first:
            now = options["max_memory_kb"]
            more = min(int(self.settings.memory_bound * first), 2 * now)
            if more <= now:
                return None
            self.ctx.changes = {**self.ctx.changes, "max_memory_kb": more}
            return f"{more} kB"
        environment = dict(options.get("environment_variables") or {})
        threads = int(environment.get("OMP_NUM_THREADS") or n_threads(options))
        if threads <= 1:
            return None
        environment["OMP_NUM_THREADS"] = str(threads // 2)
        self.ctx.changes = {**self.ctx.changes, "environment_variables": environment}
        return f"{threads // 2} threads"


def under_restart(process_class: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A CalcJob with an entry point, as a job of its restart WorkChain; other processes as they are.

    The class names its WorkChain as ``RESTART``, by entry point; default ``aceal.restart``. An input ``restart`` (Dict)
    has keys of `RestartSettings`.
    """
    if not (isclass(process_class) and issubclass(process_class, CalcJob)):
        return process_class, dict(inputs)
    group, _, name = process_class.build_process_type().partition(":")
    if group != "aiida.calculations":
        return process_class, dict(inputs)
    metadata = dict(inputs.get("metadata") or {})
    job = {key: value for key, value in inputs.items() if key not in ("metadata", "restart")}
    wrapped: dict[str, Any] = {
        "calculation": orm.Str(name), "job": job, "options": orm.Dict(dict(metadata.pop("options", None) or {})),
    }  # fmt: skip
    if metadata:
        wrapped["metadata"] = metadata
    if inputs.get("restart") is not None:
        given = inputs["restart"].get_dict()
        wrapped.update({key: orm.to_aiida_type(given[key]) for key in _PORTS if given.get(key) is not None})
        bounds = {key: value for key, value in given.items() if key not in _PORTS}
        if bounds:
            wrapped["settings"] = orm.Dict(bounds)
    return restart_class(process_class), wrapped


def _plain(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in inputs.items()}
