"""Parser of ``aceal.lammps``: log, thermo and dumps, also of runs that failed or were cut short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import ExitCode

from aiida_aceal.calculations.lammps import LOG_FILE, LammpsJobSettings
from aiida_aceal.calculations.worker_base import ERROR_FILE, n_threads
from aiida_aceal.common.errors import AceError
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.lammps.deck import EXTRAPOLATIVE_DUMP, LAST_DUMP, MAX_GAMMA_COLUMN
from aiida_aceal.lammps.dumps import Frame, read_dump
from aiida_aceal.lammps.emptiness import FrameEmptiness
from aiida_aceal.lammps.logfile import LogFile, native_cause, read_log
from aiida_aceal.parsers.worker_base import AceWorkerParser, clean, last_error_line
from aiida_aceal.uncertainty.emptiness import Emptiest

#: column of the thermo table -> array of ``time_series``
SERIES = {
    "Step": "step",
    "Time": "time_ps",
    "Temp": "temperature_K",
    "Press": "pressure_bar",
    "PotEng": "potential_energy_eV",
    "TotEng": "total_energy_eV",
    "Volume": "volume_A3",
    MAX_GAMMA_COLUMN: "max_gamma",
}
_NOT_FINITE = ("Non-numeric", "non-finite", "not finite", "NaN", "Out of range atoms", "Neighbor list overflow")


class AceLammpsParser(AceWorkerParser):
    """Attaches everything that can be read; the first thing that went wrong decides the exit code."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Parse the log in ``retrieved`` and the dumps in the temporary folder."""
        self.temporary = Path(kwargs["retrieved_temporary_folder"]) if "retrieved_temporary_folder" in kwargs else None
        text = self.text(LOG_FILE)
        log = read_log(text + "\n") if text else LogFile()
        series = log.series()
        frames, truncated = self.frames(EXTRAPOLATIVE_DUMP)
        last, last_truncated = self.frames(LAST_DUMP)
        emptiness = FrameEmptiness(self.node.inputs.potential.get_potential(), self.emptiest())
        finite = [frame for frame in frames if frame.is_sound]
        emptiness.grade(finite)
        problem = self.find_problem(text, log, series, len(finite) < len(frames), truncated or last_truncated)
        settings = LammpsJobSettings.read(self.node.inputs.settings.get_dict())
        limit = settings.max_candidates
        sound = [frame for frame in last[-1:] if frame.is_sound]
        if emptiness.grade(sound) and not any(frame.step == sound[0].step for frame in finite):
            # a native LAMMPS sees nothing in atoms that left, and so it dumped nothing
            finite += [frame for frame in sound if np.max(frame.atoms.arrays["gamma"]) >= settings.gamma_lo]
        if finite:
            self.out("candidates", self.candidates(thin(finite, limit), series))
        if series:
            self.out("time_series", time_series(series))
        if sound:
            self.out("final_structure", ConfigurationsData.from_atoms([sound[0].atoms], source="aceal.lammps"))
        report = self.report(log, series, frames, finite, problem)
        largest = [report["max_gamma"], emptiness.largest]
        report["max_gamma"] = max((value for value in largest if value is not None), default=None)
        self.out("report", orm.Dict(clean({**report, "emptiness": emptiness.report()})))
        return problem

    def emptiest(self) -> dict[str, Emptiest | None]:
        """Element -> the emptiest environments that the active set has learnt, by its own record."""
        facts = self.node.inputs.active_set.report.get("elements") or {}
        return {
            element: Emptiest.from_dict(facts.get(element, {}).get("emptiest"))
            for element in self.node.inputs.potential.elements
        }

    def frames(self, name: str) -> tuple[list[Frame], str | None]:
        """Frames of a dump, and why it could not be read to its end."""
        path = self.path(name)
        if path is None:
            return [], None
        try:
            dump = read_dump(path, type_map=self.node.inputs.potential.elements)
        except AceError as error:
            return [], str(error).replace(str(path), name)
        return dump.frames, None if dump.complete else f"{name} ends inside a frame"

    def candidates(self, frames: list[Frame], series: dict[str, np.ndarray]) -> ConfigurationsData:
        """The frames as one node; each knows its step, grade and the state of the run."""
        settings = self.node.inputs.settings.get_dict()
        rows = {int(step): i for i, step in enumerate(series.get("Step", []))}
        infos = []
        for frame in frames:
            gamma = float(np.max(frame.atoms.arrays["gamma"])) if "gamma" in frame.atoms.arrays else None
            info: dict[str, Any] = {"step": frame.step, "gamma_max": gamma, "temperature_set_K": None}
            start = settings.get("temperature_K")
            if start is not None and settings.get("steps"):
                end = settings.get("temperature_end_K") or start
                info["temperature_set_K"] = start + (end - start) * frame.step / settings["steps"]
            row = rows.get(frame.step)
            for column in ("Time", "Temp", "Press", "PotEng"):
                if row is not None and column in series:
                    info[SERIES[column]] = float(series[column][row])
            info.update({key: frame.atoms.info.get(key) for key in ("gamma_reason", "n_emptier")})
            infos.append({key: value for key, value in info.items() if value is not None})
        return ConfigurationsData.from_atoms([frame.atoms for frame in frames], source="aceal.lammps", infos=infos)

    def report(
        self, log: LogFile, series: dict, frames: list[Frame], finite: list[Frame], problem: ExitCode | None
    ) -> dict[str, Any]:
        """Status of the run and its numbers."""
        settings = self.node.inputs.settings.get_dict()
        gammas = [series[MAX_GAMMA_COLUMN]] if MAX_GAMMA_COLUMN in series else []
        gammas += [frame.atoms.arrays["gamma"] for frame in finite if "gamma" in frame.atoms.arrays]
        known = np.concatenate(gammas) if gammas else np.zeros(0)
        known = known[np.isfinite(known)]
        temperatures = series.get("Temp", np.zeros(0))
        wall = log.wall_seconds if log.wall_seconds is not None else log.loop_seconds
        return {
            "status": "failed" if problem else ("halted" if log.halted else "completed"),
            "reason": problem.message if problem else None,
            "steps_reached": log.last_step if log.last_step is not None else 0,
            "steps_total": settings.get("steps"),
            "max_gamma": float(known.max()) if len(known) else None,
            "halt_step": log.halt_step,
            "halt_gamma": log.halt.value if log.halt else None,
            "n_candidates": min(len(finite), LammpsJobSettings.read(settings).max_candidates),
            "n_frames": len(frames),
            "n_frames_not_finite": len(frames) - len(finite),
            "final_temperature_K": float(temperatures[-1]) if len(temperatures) else None,
            "wall_seconds": max(wall, log.loop_seconds),
            "core_seconds": max(wall, log.loop_seconds) * self.n_cores(),
            "lammps_version": log.version,
            "warnings": sorted(set(log.warnings))[:20],
        }

    def n_cores(self) -> int:
        """Cores of the job."""
        options = self.node.get_options()
        resources = options.get("resources") or {}
        machines = int(resources.get("num_machines") or 1)
        processes = int(resources.get("num_mpiprocs_per_machine") or 1) if options.get("withmpi") else 1
        return machines * processes * n_threads(options)

    def find_problem(
        self, text: str, log: LogFile, series: dict, bad_frames: bool, truncated: str | None
    ) -> ExitCode | None:
        """Exit code of what went wrong first, ``None`` if nothing did."""
        errors = self.text(ERROR_FILE)
        said = " ".join(log.errors) or last_error_line(errors)
        everything = "\n".join([*log.errors, errors])
        if "pace/extrapolation" in everything and ("Unrecognized pair style" in everything or "ML-PACE" in everything):
            return self.exit("ERROR_MISSING_PAIR_STYLE", said)
        if "Lost atoms" in everything:
            return self.exit("ERROR_LOST_ATOMS", said)
        for column, values in series.items():
            bad = ~np.isfinite(values)
            if bad.any():
                step = series["Step"][np.argmax(bad)] if "Step" in series else "?"
                return self.exit("ERROR_NOT_FINITE", f"{column} at step {step}")
        if bad_frames or any(word in everything for word in _NOT_FINITE):
            return self.exit("ERROR_NOT_FINITE", said or f"a frame of {EXTRAPOLATIVE_DUMP}")
        if log.timed_out:
            return self.exit(
                "ERROR_OUT_OF_WALLTIME", f"the run ended in good order at step {log.last_step}; ask for more time"
            )
        if log.errors:
            return self.exit("ERROR_RUN_FAILED", said)
        failure = self.find_failure()
        cause = native_cause(errors)
        if cause and (failure is None or failure.status == self.exit_codes.ERROR_RUN_FAILED.status):
            return self.exit("ERROR_RUN_FAILED", cause)
        if failure:
            return failure
        if not text:
            return self.exit("ERROR_OUTPUT_MISSING", f"{LOG_FILE} ({said or 'the run left no message'})")
        if not log.completed:
            end = f"{LOG_FILE} ends at step {log.last_step}; the run was killed"
            return self.exit("ERROR_OUTPUT_TRUNCATED", f"{end}: {said}" if said else end)
        if truncated:
            return self.exit("ERROR_OUTPUT_TRUNCATED", truncated)
        gamma = series.get(MAX_GAMMA_COLUMN, np.ones(1))
        if not gamma.any():
            # without neighbours gamma is zero; anything else means that nothing would ever be found
            return self.exit("ERROR_NO_GAMMA", f"{len(gamma)} lines of {LOG_FILE}")
        if self.path(EXTRAPOLATIVE_DUMP) is None:
            return self.exit("ERROR_OUTPUT_MISSING", EXTRAPOLATIVE_DUMP)
        return None


def thin(frames: list[Frame], limit: int) -> list[Frame]:
    """At most ``limit`` frames, evenly spread; the last one, which may have ended the run, is kept."""
    if len(frames) <= limit:
        return frames
    return [frames[i] for i in np.unique(np.linspace(len(frames) - 1, 0, limit).round().astype(int))]


def time_series(series: dict[str, np.ndarray]) -> orm.ArrayData:
    """The thermo table with units in the names."""
    node = orm.ArrayData()
    for column, name in SERIES.items():
        if column in series:
            node.set_array(name, np.asarray(series[column]))
    return node
