"""What the labelling WorkChains share: one calculation for each configuration, only so many at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida import orm
from aiida.common.exceptions import InputValidationError
from aiida.common.links import LinkType
from aiida.engine import ExitCode, while_

from aiida_aceal.calculations.label_functions import structures_of
from aiida_aceal.calculations.worker_base import n_threads
from aiida_aceal.common.settings import check, setting
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.labels.settings import LabelSettings
from aiida_aceal.parsers.worker_base import end_of
from aiida_aceal.workflows.base import AceWorkChain, descendants, why
from aiida_aceal.workflows.labellers.followers import follower_of
from aiida_aceal.workflows.waiting import WaitsForAny, ended


class DftLabelSettings(LabelSettings):
    """What all labelling WorkChains have in common."""

    max_concurrent: int = setting(10, "Number of calculations that run at the same time.", ge=1)
    max_failed_fraction: float = setting(
        1.0, "Fraction of the labels that may fail; 1: no error as long as one label succeeds.", ge=0, le=1
    )
    max_iterations: int = setting(3, "Largest number of calculations for each configuration.", ge=1)
    max_resubmissions: int = setting(
        2, "How often a configuration is tried again whose job was cancelled, killed or lost with its node.", ge=0
    )
    clean_workdir: bool = setting(True, "Empty the work folders of finished calculations.")


#: structures that one calcfunction makes nodes of
_BLOCK = 50


class AceLabelWorkChain(WaitsForAny, AceWorkChain):
    """One WorkChain of a DFT plugin for each configuration.

    At most ``max_concurrent`` of them are under way, the largest structures first; as soon as any of them is done, the
    next one starts. A configuration that fails is reported with its reason, the others go on. One whose job was
    cancelled, killed or lost is tried again; if that happens too often, it is reported as not tried, which is no
    failure.
    """

    #: entry point of the WorkChain that is called, and the plugin its code belongs to
    _WORKFLOW = ""
    _CODE_PLUGIN = ""
    #: declaration of ``settings``
    _MODEL: type[DftLabelSettings] = DftLabelSettings

    @classmethod
    def define(cls, spec: Any) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help=f"Code of the plugin {cls._CODE_PLUGIN}.")
        spec.input(
            "configurations",
            valid_type=ConfigurationsData,
            help="Configurations to label; existing labels are replaced.",
        )
        spec.input("settings", valid_type=orm.Dict, serializer=orm.to_aiida_type, help=cls.__doc__)
        spec.input(
            "options",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            required=False,
            help="`metadata.options` of each calculation: resources, wall time, queue, ...",
        )
        spec.inputs.validator = lambda inputs, _: cls.validate_inputs(inputs)
        spec.outline(cls.setup, while_(cls.is_unfinished)(cls.advance), cls.collect)
        spec.output(
            "labelled",
            valid_type=ConfigurationsData,
            required=False,
            help="The configurations that could be labelled, in the original order; info `label_process` names "
            "the process.",
        )
        spec.output("report", valid_type=orm.Dict, required=False, help="Failures with reasons, costs, parameters.")
        spec.exit_code(310, "ERROR_NOTHING_LABELLED", message="No configuration could be labelled: {message}")
        spec.exit_code(311, "ERROR_TOO_MANY_FAILED_LABELS", message="{failed} of {total} labels failed: {message}")

    # --- checks at submission ----------------------------------------------------------------------------------

    @classmethod
    def validate_inputs(cls, inputs: Mapping[str, Any]) -> str | None:
        """First thing that is wrong with the inputs, or ``None``."""
        plugin = getattr(inputs.get("code"), "default_calc_job_plugin", None)
        if plugin not in (None, cls._CODE_PLUGIN):
            return (
                f"code: '{inputs['code'].full_label}' is a code for '{plugin}'; one for '{cls._CODE_PLUGIN}' is needed"
            )
        return cls.check_settings(inputs)

    @classmethod
    def check_settings(cls, inputs: Mapping[str, Any]) -> str | None:
        """What is wrong with ``settings``; ``configurations`` are looked at if they are given."""
        if inputs.get("settings") is None:
            return None
        given = inputs["settings"].get_dict()
        message = check(cls._MODEL, given, "settings")
        if message:
            return message
        settings = cls.filled(given)
        return cls.check_method(settings, inputs.get("configurations"))

    @classmethod
    def check_method(cls, settings: Mapping[str, Any], configurations: ConfigurationsData | None) -> str | None:
        """What is wrong with the settings of this method."""
        return None

    @classmethod
    def filled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with the defaults for what was not given."""
        return cls._MODEL.read(given).to_dict()

    # --- what a method adds ------------------------------------------------------------------------------------

    def shared_inputs(self) -> dict[str, Any]:
        """Inputs of the called WorkChain that are the same for many configurations."""
        raise NotImplementedError

    def own_inputs(self, atoms: Any, structure: orm.StructureData, shared: Mapping[str, Any]) -> dict[str, Any]:
        """All inputs of the called WorkChain for one configuration.

        :raises ValueError: this configuration cannot be computed.
        """
        raise NotImplementedError

    def results_of(self, child: orm.ProcessNode) -> dict[str, orm.Data]:
        """Output nodes of a finished child that the labels are read from, by the prefix of the collector's input."""
        raise NotImplementedError

    def collector(self) -> Any:
        """Calcfunction that makes ``labelled`` and ``report``."""
        raise NotImplementedError

    def job_cost(self, job: orm.CalcJobNode) -> float | None:
        """Wall time of one calculation in seconds, ``None`` if it is not known."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Entries of the report on method and parameters."""
        raise NotImplementedError

    def words_of(self, job: orm.CalcJobNode | None) -> list[str]:
        """What the program itself said of its failure."""
        return []

    def changes_of(self, child: orm.ProcessNode) -> dict[str, Any]:
        """Parameters that error handlers changed on the way to the final calculation."""
        return {}

    # --- outline -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """Settings with defaults."""
        return self.filled(self.inputs.settings.get_dict())

    def options(self) -> dict[str, Any]:
        """``metadata.options`` of each calculation."""
        options = self.inputs.options.get_dict() if "options" in self.inputs else {}
        options.setdefault("resources", {"num_machines": 1})
        if self.inputs.code.with_mpi is None:
            options.setdefault("withmpi", True)
        return options

    def setup(self) -> None:
        """Put all configurations into the queue."""
        ranks = [atoms.cell.rank for atoms in self.inputs.configurations.iter_atoms()]
        # the largest first: what takes longest must not begin when everything else is done
        queue = [index for index, rank in enumerate(ranks) if rank == 3]
        self.ctx.queue = sorted(queue, key=lambda index: -int(self.inputs.configurations.sizes[index]))
        #: index -> pk of its calculation
        self.ctx.flight = {}
        self.ctx.tries = {}
        self.ctx.said = 0
        reason = "no cell: this method needs three cell vectors; put the structure into a box"
        self.ctx.refused = {str(index): reason for index, rank in enumerate(ranks) if rank < 3}

    def is_unfinished(self) -> bool:
        """Whether anything is waiting or under way."""
        return bool(self.ctx.queue or self.ctx.flight)

    @staticmethod
    def label_of(index: int, number: int = 1) -> str:
        """Label of the CALL link to the calculation of one configuration: the first, or a repetition."""
        return f"label_{index:05d}" if number == 1 else f"label_{index:05d}_{number:02d}"

    def label_in_force(self, index: int) -> str:
        """Label of the last calculation of a configuration."""
        return self.label_of(index, self.ctx.tries.get(str(index), 1))

    def is_to_repeat(self, index: int) -> bool:
        """Whether the calculation of a configuration has ended from outside and may be tried again."""
        number = self.ctx.tries.get(str(index), 1)
        child = self.child(self.label_of(index, number))
        reason = lost(child) if child is not None else None
        if not reason or number > self.settings["max_resubmissions"]:
            return False
        self.report(f"configuration {index}: {why(child)} ({reason}): tried again")
        self.ctx.tries = {**self.ctx.tries, str(index): number + 1}
        return True

    def advance(self) -> None:
        """Start as many as there is room for, then wait until any of those under way has ended."""
        limit, total = self.settings["max_concurrent"], len(self.inputs.configurations)
        over = ended(self.ctx.flight.values())
        again = [int(index) for index, pk in self.ctx.flight.items() if pk in over and self.is_to_repeat(int(index))]
        flight = {index: pk for index, pk in self.ctx.flight.items() if pk not in over}
        refused = dict(self.ctx.refused)
        start, queue = next_starts([*again, *self.ctx.queue], len(flight), limit)
        shared = self.shared_inputs() if start else {}
        for index in start:
            try:
                flight[str(index)] = self._start(index, shared).pk
            except (ValueError, InputValidationError) as error:
                refused[str(index)] = f"not started: {' '.join(str(error).split())}"
        done = total - len(queue) - len(flight)
        # twenty lines, not one for each label
        if done >= self.ctx.said + max(1, total // 20) or done in (0, total):
            self.report(f"{done} of {total} configurations done, {len(flight)} under way")
            self.ctx.said = done
        self.ctx.queue, self.ctx.flight, self.ctx.refused = queue, flight, refused
        if flight:
            self.wait_for_any(flight.values())

    def _start(self, index: int, shared: Mapping[str, Any]) -> orm.ProcessNode:
        """Start the calculation of a configuration.

        :raises ValueError, InputValidationError: it cannot be computed
        """
        first = index - index % _BLOCK
        last = min(first + _BLOCK, len(self.inputs.configurations)) - 1
        structures = self.call_once(
            f"structures_{first:05d}_{last:05d}",
            structures_of,
            configurations=self.inputs.configurations,
            indices=orm.List([i for i in range(first, last + 1) if str(i) not in self.ctx.refused]),
        )
        (atoms,) = self.inputs.configurations.iter_atoms([index])
        inputs = self.own_inputs(atoms, structures[f"structure_{index:05d}"], shared)
        return self.submit_child(self.label_in_force(index), follower_of(self._WORKFLOW), inputs)

    def collect(self) -> ExitCode | None:
        """Labels of all that succeeded, reasons of all that did not."""
        configurations, settings = self.inputs.configurations, self.settings
        reasons, processes, costs, changes = dict(self.ctx.refused), {}, [], {}
        not_tried: list[int] = []
        results: dict[str, orm.Data] = {}
        for index in range(len(configurations)):
            child = self.child(self.label_in_force(index))
            if child is None:
                continue
            processes[str(index)] = child.uuid
            costs.append({"index": index, **self._costs(index)})
            if not child.is_finished_ok and lost(child):
                not_tried.append(index)
            if not child.is_finished_ok:
                reasons[str(index)] = "; ".join([*why_child(child), *self.words_of(last_job(child))])
                continue
            found = self.results_of(child)
            if not found:
                reasons[str(index)] = f"{child.process_label}<{child.pk}> has no output that labels can be read from"
            results.update({f"{prefix}_{index:05d}": node for prefix, node in found.items()})
            changed = self.changes_of(child)
            if changed:
                changes[str(index)] = changed
        wall = max((c.pop("_end") for c in costs), default=0.0) - self.node.ctime.timestamp()
        report = {
            **self.describe(),
            "changes": changes,
            "wall_seconds": max(0.0, wall),
            "core_seconds": sum(c["core_seconds"] for c in costs),
            "costs": costs,
        }
        used = {key: settings[key] for key in ("energy", "stress", "max_force")}
        outputs = self.call_once(
            "collect",
            self.collector(),
            configurations=configurations,
            settings=orm.Dict({**used, "source": f"{self._WORKFLOW} label"}),
            outcomes=orm.Dict({"reasons": reasons, "processes": processes, "not_tried": not_tried, "report": report}),
            **results,
        )
        for name in ("labelled", "report"):
            if name in outputs:
                self.out(name, outputs[name])
        facts = outputs["report"].get_dict()
        total, failed, hours = len(configurations), facts["n_failed"], facts["core_seconds"] / 3600
        self.report(f"{facts['n_labelled']} of {total} configurations labelled, {hours:.3g} core-hours")
        rows = [*facts["failures"], *facts["not_tried"]]
        first = rows[0]["reason"] if rows else ""
        if not facts["n_labelled"]:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=f"{total} failed, the first with: {first}")
        if failed > settings["max_failed_fraction"] * total:
            message = f"{settings['max_failed_fraction']:g} are tolerated; the first with: {first}"
            return self.exit_codes.ERROR_TOO_MANY_FAILED_LABELS.format(failed=failed, total=total, message=message)
        return None

    def _costs(self, index: int) -> dict[str, Any]:
        """Costs of all tries of a configuration."""
        numbers = range(1, self.ctx.tries.get(str(index), 1) + 1)
        costs = [self._cost(child) for n in numbers if (child := self.child(self.label_of(index, n))) is not None]
        total = {key: sum(cost[key] for cost in costs) for key in ("wall_seconds", "core_seconds", "n_calculations")}
        return {**total, "_end": max(cost["_end"] for cost in costs)}

    def _cost(self, child: orm.ProcessNode) -> dict[str, Any]:
        """Wall and core seconds of all calculations of a child, restarts included."""
        jobs = [node for node in descendants(child) if isinstance(node, orm.CalcJobNode)]
        wall = core = 0.0
        for job in jobs:
            seconds = self.job_cost(job) or 0.0
            wall += seconds
            core += seconds * n_cores(job)
        end = child.mtime.timestamp()
        return {"wall_seconds": wall, "core_seconds": core, "n_calculations": len(jobs), "_end": end}


def next_starts(queue: Sequence[int], n_running: int, limit: int) -> tuple[list[int], list[int]]:
    """Which of the queue to start now, and what is left of it, when ``limit`` may run at the same time."""
    room = max(0, limit - n_running)
    return list(queue[:room]), list(queue[room:])


def n_cores(job: orm.CalcJobNode) -> int:
    """Cores that a calculation occupied."""
    resources = job.get_option("resources") or {}
    machines = resources.get("num_machines") or 1
    if resources.get("tot_num_mpiprocs"):
        return int(resources["tot_num_mpiprocs"]) * int(resources.get("num_cores_per_mpiproc") or 1)
    if not resources.get("num_mpiprocs_per_machine") and job.computer is not None:
        resources = {**resources, "num_mpiprocs_per_machine": job.computer.get_default_mpiprocs_per_machine()}
    return int(machines) * n_threads({"resources": resources})


def lost(child: orm.ProcessNode) -> str | None:
    """What says that a calculation was cancelled, killed or lost from outside, ``None`` if it was not."""
    if child.is_finished_ok:
        return None
    job = last_job(child)
    for node in (child, job):
        if node is not None and (node.is_killed or node.is_excepted):
            return "killed" if node.is_killed else "stopped with an exception"
    if job is None:
        return None
    if job.exit_status == 100:
        return "nothing could be retrieved"
    return end_of(job, job.get_scheduler_stderr() or "")


def why_child(child: orm.ProcessNode) -> list[str]:
    """Phrases on how a child ended, and how its last calculation did."""
    job = last_job(child)
    return [why(child)] if job is None or job.is_finished_ok else [why(child), why(job)]


def last_job(child: orm.ProcessNode) -> orm.CalcJobNode | None:
    """The last calculation that a child called."""
    jobs = child.base.links.get_outgoing(link_type=LinkType.CALL_CALC).all_nodes()
    return max((n for n in jobs if isinstance(n, orm.CalcJobNode)), key=lambda n: n.pk, default=None)
