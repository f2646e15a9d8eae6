"""Many MD walkers: what they are, which of their frames are candidates, and one report on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms
from pydantic import model_validator

from aiida_aceal.common.settings import build, check, setting
from aiida_aceal.exploration.distances import DEFAULT_FRACTION
from aiida_aceal.exploration.filters import DistanceFilter
from aiida_aceal.lammps.deck import MDSettings

#: frames that are kept of a walker of which all are above the window
ABOVE_WINDOW = 3


class WalkerSettings(MDSettings):
    """All keys of one MD run, for every walker; how many walkers, and which of their frames are candidates."""

    heading = "Walkers: `settings` of `aceal.explore.md`"

    steps: int | None = setting(  # type: ignore[assignment]
        None, "Number of MD steps, a multiple of gamma_interval; here or in each item of schedule.", ge=1
    )
    walkers: int = setting(1, "Number of runs for each start configuration and each item of schedule.", ge=1)
    schedule: list[dict[str, Any]] | None = setting(
        None, "Settings that differ between walkers, such as [{temperature_K: 300}, {temperature_K: 900}].",
        items=(1, None), allowed="a list of mappings, such as [{temperature_K: 300}, {temperature_K: 900}]",
    )  # fmt: skip
    max_concurrent: int = setting(4, "Number of walkers that run at the same time.", ge=1)
    max_failed_walkers: float = setting(1.0, "Fraction of the walkers that may fail.", ge=0, le=1)
    max_candidates: int = setting(1000, "Largest number of frames kept; more are thinned out evenly.", ge=1)
    minimum_distance: float | dict[str, float] | None = setting(
        None,
        "Frames with atoms closer than this are dropped; one number, or one for each pair: {Cu-I: 2.1}.",
        unit="A",
        gt=0,
    )
    distance_fraction: float = setting(
        DEFAULT_FRACTION, "Default of minimum_distance, as a fraction of the sum of the covalent radii.", ge=0
    )
    drop_duplicates: bool = setting(True, "Whether frames that equal another are dropped.")

    @model_validator(mode="after")
    def _each(self) -> WalkerSettings:
        DistanceFilter(self.minimum_distance, self.distance_fraction)
        single = split_settings(self.to_dict(given=True))[1]
        if self.steps is None:
            single.pop("steps", None)
        for number, item in enumerate(self.schedule or [{}]):
            build(MDSettings, {**single, **item}, f"schedule[{number}]" if self.schedule else "")
        return self


#: settings beyond those of one run
OWN = tuple(name for name in WalkerSettings.model_fields if name not in MDSettings.model_fields)


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of all walkers together (completed by their defaults), and those of the single run as they are."""
    own = {key: settings.get(key, WalkerSettings.model_fields[key].default) for key in OWN}
    return own, {key: value for key, value in settings.items() if key not in OWN}


def check_settings(settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings, or ``None``."""
    for key in ("seed", "index"):
        if key in settings:
            return f"settings: '{key}' is set for each walker by the program; leave it out"
    return check(WalkerSettings, settings, "settings")


def walker_list(settings: Mapping[str, Any], n_configurations: int) -> list[dict[str, Any]]:
    """One entry per walker: label, index of the start configuration and the settings of its run."""
    own, single = split_settings(settings)
    found = []
    for index in range(n_configurations):
        for item in own["schedule"] or [{}]:
            for _ in range(own["walkers"]):
                label = f"walker_{len(found):03d}"
                found.append({"label": label, "settings": {**single, **item, "index": index}})
    return found


def choose_frames(
    frames: Mapping[str, Sequence[Atoms]], gamma_hi: float, filters: Mapping[str, Any]
) -> tuple[list[Atoms], dict[str, int]]:
    """Candidates among the frames of all walkers, and how many were dropped for which reason.

    Frames above ``gamma_hi`` are dropped, unless a walker has none below: gamma may jump over the window between two
    checks, and then the :data:`ABOVE_WINDOW` least extrapolating frames are the best there is. Short distances and
    duplicates are dropped; if more than ``max_candidates`` remain, they are thinned evenly, as neighbouring frames are
    alike.
    """
    from aiida_aceal.exploration.filters import DuplicateFilter, gamma_max

    own, _ = split_settings(filters)
    distance = _distance_filter(own)
    duplicate = DuplicateFilter() if own["drop_duplicates"] else None
    kept: list[Atoms] = []
    dropped: dict[str, int] = {}

    def drop(reason: str, count: int = 1) -> None:
        if count:
            dropped[reason] = dropped.get(reason, 0) + count

    for label in sorted(frames):
        sound = []
        for atoms in frames[label]:
            reason = distance(atoms)
            if reason:
                drop(reason)
            else:
                sound.append(atoms)
        inside = [atoms for atoms in sound if gamma_max(atoms) <= gamma_hi]
        if sound and not inside:
            # several, as the first of them may be the start, which is known already
            inside = sorted(sound, key=gamma_max)[:ABOVE_WINDOW]
            for atoms in inside:
                atoms.info["above_window"] = True
        drop("above_window", len(sound) - len(inside))
        for atoms in inside:
            if duplicate is not None and duplicate(atoms):
                drop("duplicate")
                continue
            atoms.info["walker"] = label
            kept.append(atoms)
    limit = own["max_candidates"]
    if len(kept) > limit:
        drop("above_max_candidates", len(kept) - limit)
        kept = [kept[int(i * len(kept) / limit)] for i in range(limit)]
    return kept, dropped


def walkers_report(walkers: Sequence[Mapping[str, Any]], reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One report in the form of all explorers; a walker that failed counts with the steps it did."""
    rows = []
    for walker in walkers:
        report = reports.get(walker["label"], {})
        failed = walker["exit_status"] != 0
        rows.append(
            {
                **walker,
                "status": "failed" if failed else report.get("status", "completed"),
                "steps_reached": report.get("steps_reached", 0),
                "steps_total": report.get("steps_total"),
                "max_gamma": report.get("max_gamma"),
                "n_candidates": report.get("n_candidates", 0),
            }
        )
    states = [row["status"] for row in rows]
    gammas = [row["max_gamma"] for row in rows if row["max_gamma"] is not None]
    return {
        "status": "failed" if "failed" in states else "halted" if "halted" in states else "completed",
        "steps_reached": min((row["steps_reached"] for row in rows), default=0),
        "steps_total": max((row["steps_total"] or 0 for row in rows), default=0),
        "max_gamma": max(gammas, default=None),
        "n_walkers": len(rows),
        "n_completed": states.count("completed"),
        "n_halted": states.count("halted"),
        "n_failed": states.count("failed"),
        "walkers": rows,
    }


def _distance_filter(own: Mapping[str, Any]) -> Any:
    return DistanceFilter(own["minimum_distance"], own["distance_fraction"] or DEFAULT_FRACTION)
