"""Many MD walkers: what they are, which of their frames are candidates, and one report on all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms

#: frames that are kept of a walker of which all are above the window
ABOVE_WINDOW = 3
#: settings beyond those of one run, with their defaults
OWN = {
    "walkers": 1,
    "schedule": None,
    "max_concurrent": 4,
    "max_failed_walkers": 1.0,
    "max_candidates": 1000,
    "minimum_distance": None,
    "distance_fraction": None,
    "drop_duplicates": True,
}


def split_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of all walkers together (completed by :data:`OWN`), and those of the single run."""
    own = {key: settings.get(key, value) for key, value in OWN.items()}
    return own, {key: value for key, value in settings.items() if key not in OWN}


def check_settings(settings: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings, or ``None``."""
    from aiida_aceal.ace.errors import AceError
    from aiida_aceal.lammps.deck import MDSettings
    from aiida_aceal.workflows.policies import nearest

    own, single = split_settings(settings)
    names = [field.name for field in dataclasses.fields(MDSettings)]
    for key in ("seed", "index"):
        if key in settings:
            return f"settings: '{key}' is set for each walker by the program; leave it out"
    for key in ("walkers", "max_concurrent", "max_candidates"):
        if isinstance(own[key], bool) or not isinstance(own[key], int) or own[key] < 1:
            return f"settings: `{key}` must be a positive integer, it is {own[key]!r}"
    distances = own["minimum_distance"]
    for value in distances.values() if isinstance(distances, Mapping) else [distances]:
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            return f"settings: `minimum_distance` must be positive (A), a number or one for each pair: {distances!r}"
    schedule = own["schedule"]
    if schedule is not None and not (
        isinstance(schedule, Sequence) and schedule and all(isinstance(item, Mapping) for item in schedule)
    ):
        return "settings: `schedule` must be a list of mappings, such as [{temperature_K: 300}, {temperature_K: 900}]"
    for item in [single, *(schedule or [])]:
        for key in item:
            if key not in names:
                return f"settings: unknown key '{key}'; {nearest(key, [*names, *OWN])}"
    try:
        _distance_filter(own)
        for item in schedule or [{}]:
            MDSettings.from_dict({**single, **item})
    except (AceError, TypeError) as error:
        return f"settings: {error}"
    return None


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
    from aiida_aceal.exploration.filters import DistanceFilter

    fraction = {} if own["distance_fraction"] is None else {"fraction": own["distance_fraction"]}
    return DistanceFilter(own["minimum_distance"], **fraction)
