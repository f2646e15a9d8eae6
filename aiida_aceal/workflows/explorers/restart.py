"""``aceal.restart.md``: an MD run until it reaches its full length; each job goes on from the last frame of the one
before that ran out of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ProcessHandlerReport, calcfunction, process_handler

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.lammps.deck import MDSettings
from aiida_aceal.workflows.base import output
from aiida_aceal.workflows.restart import OUT_OF_TIME, RestartWorkChain
from aiida_aceal.workflows.steps import derived_seed

#: entries of reports that add up over the parts of a run
_SUMS = ("n_candidates", "n_frames", "n_frames_not_finite", "wall_seconds", "core_seconds")


@calcfunction
def rest_of_run(settings: orm.Dict, report: orm.Dict) -> orm.Dict:
    """Settings of what is left of a run: fewer steps, ramps from where they are, velocities as they are."""
    return orm.Dict(rest_of(settings.get_dict(), report.get_dict()["steps_reached"]))


def rest_of(settings: Mapping[str, Any], done: int) -> dict[str, Any]:
    """Settings of a run after its first ``done`` steps."""
    share = done / settings["steps"]
    rest = {**settings, "steps": settings["steps"] - done, "velocities": "keep"}
    rest.pop("index", None)
    for name in ("temperature_K", "pressure_bar"):
        last = settings.get(name.replace("_", "_end_", 1))
        if last is not None:
            first = settings.get(name, MDSettings.model_fields[name].default)
            rest[name] = first + share * (last - first)
    if rest.get("thermo_interval") and rest["steps"] % rest["thermo_interval"]:
        del rest["thermo_interval"]  # lines of the log at every evaluation of gamma instead
    return rest


@calcfunction
def join_parts(settings: orm.Dict, **parts: orm.Data) -> dict[str, orm.Data]:
    """Candidates, series and report of a run of several jobs, as one job would have made them.

    ``settings``: of the whole run; ``parts``: ``report_N``, ``candidates_N``, ``time_series_N`` of job number N. Steps
    and times go on from part to part; the frame with which a part begins is the last one of the part before.
    """
    reports = {key: node.get_dict() for key, node in parts.items() if key.startswith("report_")}
    numbers = sorted(key.removeprefix("report_") for key in reports)
    step, frames = 0, []
    series: dict[str, list[np.ndarray]] = {}
    picosecond = settings.get_dict().get("timestep_ps", 0.001)
    for number in numbers:
        report = reports[f"report_{number}"]
        if f"candidates_{number}" in parts:
            for atoms in parts[f"candidates_{number}"].iter_atoms():
                own = int(atoms.info.get("step", 0))
                if step and own == 0:
                    continue
                atoms.info["step"] = step + own
                if "time_ps" in atoms.info:
                    atoms.info["time_ps"] += step * picosecond
                frames.append(atoms)
        if f"time_series_{number}" in parts:
            arrays = dict(parts[f"time_series_{number}"].get_iterarrays())
            for name, values in arrays.items():
                offset = {"step": step, "time_ps": step * picosecond}.get(name, 0)
                series.setdefault(name, []).append((values + offset)[1 if step else 0 :])
        step += int(report["steps_reached"])
    last = reports[f"report_{numbers[-1]}"]
    gammas = [report["max_gamma"] for report in reports.values() if report.get("max_gamma") is not None]
    joined = {
        **last,
        **{key: sum(report.get(key) or 0 for report in reports.values()) for key in _SUMS},
        "n_candidates": len(frames),
        "steps_reached": step,
        "steps_total": settings.get_dict()["steps"],
        "max_gamma": max(gammas, default=None),
        "halt_step": None if last.get("halt_step") is None else last["halt_step"] + step - last["steps_reached"],
        "n_parts": len(numbers),
    }
    made: dict[str, orm.Data] = {"report": orm.Dict(joined)}
    if frames:
        made["candidates"] = ConfigurationsData.from_atoms(frames, source="aceal.lammps")
    if series:
        made["time_series"] = orm.ArrayData({name: np.concatenate(values) for name, values in series.items()})
    return made


class MdRestartWorkChain(RestartWorkChain):
    """Run MD, and go on from the last frame if time was too short.

    The thermostat's own variables begin anew with each job, so the trajectory is another one than that of a single job.
    Outputs are those of the whole run; `report` says how many jobs it took (`n_parts`).
    """

    def setup(self) -> None:
        """As the base; nothing is done yet."""
        super().setup()
        #: pks of the jobs that the next ones went on from
        self.ctx.parts = []

    @process_handler(priority=605)
    def handle_unfinished_md(self, node: orm.ProcessNode) -> ProcessHandlerReport | None:
        """Wall time (exit codes 120, 306) after some steps, with a last frame: the next job runs what is left from
        there, with more time up to `wallclock_bound`. As long as steps are made, such jobs do not count as iterations.
        Without a last frame, or with a `script` of one's own, see `handle_out_of_walltime`.
        """
        report, frame = output(node, "report"), output(node, "final_structure")
        if node.exit_status not in OUT_OF_TIME or report is None or frame is None or "script" in node.inputs:
            return None
        done, total = report["steps_reached"], node.inputs.settings["steps"]
        if not 0 < done < total:
            return None
        seconds = self.more_time()
        label = f"rest_{self.ctx.iteration:02d}"
        rest = self.call_once(label, rest_of_run, settings=node.inputs.settings, report=report)
        seed = orm.Int(derived_seed(node.inputs.seed.value, self.ctx.iteration)).store()
        self.ctx.earlier = {"structure": frame.uuid, "settings": rest.uuid, "seed": seed.uuid}
        self.ctx.parts = [*self.ctx.parts, node.pk]
        self.ctx.productive += 1
        more = f" with {seconds} s" if seconds else ""
        self.report(f"{node.process_label}<{node.pk}> made {done} of {total} steps: the next job goes on{more}")
        return ProcessHandlerReport(True)

    def attach(self, node: orm.ProcessNode) -> None:
        """Outputs of the last job, with what the parts before it have found."""
        parts = [orm.load_node(pk) for pk in self.ctx.parts if pk != node.pk]
        if not parts or output(node, "report") is None:
            super().attach(node)
            return
        inputs = {
            f"{name}_{number:02d}": found
            for number, part in enumerate([*parts, node])
            for name in ("report", "candidates", "time_series")
            if (found := output(part, name)) is not None
        }
        joined = self.call_once("joined", join_parts, settings=self.inputs.job.settings, **inputs)
        for name in ("remote_folder", "retrieved", "final_structure"):
            if output(node, name) is not None:
                self.out(name, output(node, name))
        for name, data in (joined if isinstance(joined, dict) else {"report": joined}).items():
            self.out(name, data)
