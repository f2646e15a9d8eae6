"""``aceal.explore.md``: many MD walkers with extrapolation grades in one WorkChain."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, while_

from aiida_aceal.common.plausible import check_start
from aiida_aceal.common.settings import describe
from aiida_aceal.common.words import counted
from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows import functions, ports
from aiida_aceal.workflows.base import AceWorkChain, output, why
from aiida_aceal.workflows.explorers import walkers
from aiida_aceal.workflows.steps import derived_seed, step_class, step_inputs

RUN = "aceal.lammps"


class ExploreMdWorkChain(AceWorkChain):
    """Walkers: every start configuration, times every entry of ``schedule``, times ``walkers`` seeds.

    A few at a time (``max_concurrent``); one that explodes, loses atoms or runs out of time costs only itself, and the
    frames it wrote before are candidates like others.
    """

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        """Ports, outline and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode, help="LAMMPS with ML-PACE, or aceal-lmp.")
        spec.input("potential", valid_type=AcePotentialData)
        spec.input("active_set", valid_type=ActiveSetData)
        spec.input("configurations", valid_type=ConfigurationsData, help="Configurations that the walkers start from.")
        own = ", ".join(
            f"`{row.key}` ({row.default_text})" for row in describe(walkers.WalkerSettings) if row.key in walkers.OWN
        )
        spec.input(
            "settings",
            valid_type=orm.Dict,
            serializer=orm.to_aiida_type,
            validator=lambda node, _: walkers.check_settings(node.get_dict()) if node is not None else None,
            help="Keys of aiida_aceal.lammps.deck.MDSettings (steps, ensemble, temperature_K, gamma_lo, ...) for every "
            f"walker, and: {own}. `schedule` is a list of mappings of such keys, with one walker for each.",
        )
        spec.input(
            "seed",
            valid_type=orm.Int,
            serializer=orm.to_aiida_type,
            help="Random seed of the velocities of all walkers.",
        )
        spec.input(
            "options", valid_type=orm.Dict, serializer=orm.to_aiida_type, required=False, help="metadata.options."
        )
        spec.inputs.validator = cls.validate_inputs
        spec.outline(
            cls.prepare,
            while_(cls.has_walkers)(cls.start_walkers, cls.inspect_walkers),
            cls.collect,
        )
        spec.output("candidates", valid_type=ConfigurationsData, required=False, help="Frames inside the window.")
        spec.output(
            "report",
            valid_type=orm.Dict,
            help="status (completed, halted, failed), steps_reached (by the shortest run), steps_total, max_gamma, "
            "n_candidates, dropped (reason -> number), walkers (one entry for each).",
        )
        spec.exit_code(
            401,
            "ERROR_WALKERS_FAILED",
            message="{failed} of {total} walkers failed ({tolerated} are tolerated): {reason}",
        )

    @classmethod
    def check_settings(cls, inputs: dict[str, Any]) -> str | None:
        """Unknown keys and bad values, and structures that no run can start from, found before anything runs."""
        settings, start = inputs["settings"].get_dict(), inputs.get("configurations")
        message = walkers.check_settings(settings)
        if message or not isinstance(start, ConfigurationsData):
            return message
        return check_start(settings, start.to_atoms())

    @classmethod
    def validate_inputs(cls, inputs: Any, _: Any) -> str | None:
        """Elements and active set must be those of the potential."""
        potential, active_set = inputs.get("potential"), inputs.get("active_set")
        if potential is not None and active_set is not None:
            problem = active_set.check_potential(potential)
            if problem:
                return f"active_set: {problem}"
        settings = inputs.get("settings")
        message = cls.check_settings(inputs) if settings is not None else None
        return message or ports.foreign_elements(potential, inputs.get("configurations"), "configurations")

    def prepare(self) -> None:
        """List the walkers."""
        self.ctx.next = 0
        self.ctx.walkers = walkers.walker_list(self.inputs.settings.get_dict(), len(self.inputs.configurations))
        self.ctx.results = []
        own, _ = walkers.split_settings(self.inputs.settings.get_dict())
        self.report(f"{counted(len(self.ctx.walkers), 'walker')}, {own['max_concurrent']} at a time")

    def has_walkers(self) -> bool:
        """Whether some have not run yet."""
        return self.ctx.next < len(self.ctx.walkers)

    def _batch(self) -> list[dict[str, Any]]:
        own, _ = walkers.split_settings(self.inputs.settings.get_dict())
        return self.ctx.walkers[self.ctx.next : self.ctx.next + own["max_concurrent"]]

    def start_walkers(self) -> None:
        """Start the next few."""
        cls = step_class(RUN)
        step = {"code": self.inputs.code, "options": self.inputs.get("options")}
        for offset, walker in enumerate(self._batch()):
            inputs = step_inputs(
                cls,
                step,
                structure=self.inputs.configurations,
                potential=self.inputs.potential,
                active_set=self.inputs.active_set,
                settings=orm.Dict(walker["settings"]),
                seed=orm.Int(derived_seed(self.inputs.seed.value, self.ctx.next + offset)),
            )
            self.start_child(walker["label"], cls, inputs, walker["label"])

    def inspect_walkers(self) -> None:
        """Note how they ended."""
        for walker in self._batch():
            child = self.ctx[walker["label"]]
            reason = None if child.is_finished_ok else why(child)
            status = 0 if child.is_finished_ok else (child.exit_status or -1)
            self.ctx.results = [
                *self.ctx.results,
                {
                    "label": walker["label"],
                    "index": walker["settings"]["index"],
                    "exit_status": status,
                    "reason": reason,
                    "uuid": child.uuid,
                },
            ]
            report = self.report_of(walker["label"])
            gamma = report.get("max_gamma")
            self.report(
                f"{walker['label']}: {report.get('status', 'failed')} at step {report.get('steps_reached', 0)} of "
                f"{report.get('steps_total', '?')}, max gamma {'unknown' if gamma is None else format(gamma, '.3g')}, "
                f"{report.get('n_candidates', 0)} frames" + (f"; {reason}" if reason else "")
            )
        self.ctx.next += len(self._batch())

    def collect(self) -> ExitCode | None:
        """Candidates and report of all walkers."""
        settings = self.inputs.settings.get_dict()
        own, single = walkers.split_settings(settings)
        nodes = {}
        for item in self.ctx.results:
            child = self.ctx[item["label"]]
            candidates, report = output(child, "candidates"), output(child, "report")
            if candidates is not None:
                nodes[item["label"]] = candidates
            if report is not None:
                nodes[f"report_{item['label']}"] = report
        # what identifies a run changes from campaign to campaign: it stays out of the node, so that caching works
        listed = [{key: value for key, value in item.items() if key != "uuid"} for item in self.ctx.results]
        for item in listed:
            if item["reason"]:
                item["reason"] = item["reason"].split(": ", 1)[-1]
        from aiida_aceal.lammps.deck import MDSettings

        limit = single.get("gamma_hi", MDSettings.model_fields["gamma_hi"].default)
        merged = self.call_once(
            "merge",
            functions.merge_walkers,
            facts=orm.Dict({"filters": own, "gamma_hi": limit, "walkers": listed}),
            **nodes,
        )
        self.out("report", merged["report"])
        if "candidates" in merged:
            self.out("candidates", merged["candidates"])
        report = merged["report"].get_dict()
        if report["dropped"]:
            dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(report["dropped"].items()))
            self.report(f"{counted(report['n_candidates'], 'candidate')}; dropped: {dropped}")
        failed, total = report["n_failed"], report["n_walkers"]
        if failed > own["max_failed_walkers"] * total or (failed == total and "candidates" not in merged):
            reasons = next(item["reason"] for item in listed if item["reason"])
            return self.exit_codes.ERROR_WALKERS_FAILED.format(
                failed=failed, total=total, tolerated=f"{100 * own['max_failed_walkers']:g} %", reason=reasons
            )
        return None
