"""Light steps that make nodes: each takes seconds at most and may run twice without harm."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.windows import policies


@calcfunction
def generate_configurations(spec: orm.List, seed: orm.Int) -> ConfigurationsData:
    """First structures from the declarative list of :func:`aiida_aceal.exploration.initial.generate`."""
    from aiida_aceal.exploration.initial import generate

    return ConfigurationsData.from_atoms(generate(spec.get_list(), seed=seed.value), source="generated")


@calcfunction
def build_basis(description: orm.Dict, seed: orm.Int) -> AcePotentialData:
    """Unfitted potential from the short description of :func:`aiida_aceal.ace.build_potential`."""
    from aiida_aceal.ace import build_potential

    return AcePotentialData(potential=build_potential(description.get_dict(), seed=seed.value))


@calcfunction
def choose_window(settings: orm.Dict, **history: orm.Dict) -> orm.Dict:
    """Gamma window of the next generation; ``history`` are the reports of those before, sorted by key."""
    reports = [history[key].get_dict() for key in sorted(history)]
    return orm.Dict(policies.choose_window(settings.get_dict(), reports).as_dict())


@calcfunction
def with_window(settings: orm.Dict, window: orm.Dict) -> orm.Dict:
    """Settings of an explorer with the window in force; limits that the user wrote himself stay."""
    limits, given = window.get_dict(), settings.get_dict()
    merged = {**{key: limits[key] for key in ("gamma_lo", "gamma_hi")}, **given}
    if "steps" in given and limits.get("gamma_interval"):  # a regime of the policy: MD only
        merged["gamma_interval"] = limits["gamma_interval"]
    return orm.Dict(merged)


@calcfunction
def merge_candidates(excluded: orm.List, **sets: ConfigurationsData) -> dict[str, Any]:
    """Union of the candidates of several runs, without those of the given content hashes."""
    return _merged(set(excluded.get_list()), sets)


@calcfunction
def merge_walkers(facts: orm.Dict, **nodes: orm.Data) -> dict[str, Any]:
    """Candidates of all walkers that the filters let through, and one report on all of them.

    ``nodes``: ``walker_NNN`` (candidates) and ``report_walker_NNN`` (Dict); ``facts``: ``filters``, the gamma window
    and the list ``walkers`` (label, exit status, reason).
    """
    from aiida_aceal.workflows.explorers.walkers import choose_frames, walkers_report

    given = facts.get_dict()
    reports = {key.removeprefix("report_"): node.get_dict() for key, node in nodes.items() if key.startswith("report_")}
    frames = {key: node.to_atoms() for key, node in nodes.items() if key.startswith("walker_")}
    kept, dropped = choose_frames(frames, given["gamma_hi"], given["filters"])
    report = walkers_report(given["walkers"], reports)
    result: dict[str, Any] = {"report": orm.Dict({**report, "n_candidates": len(kept), "dropped": dropped})}
    if kept:
        result["candidates"] = ConfigurationsData.from_atoms(kept, source="md")
    return result


@calcfunction
def calibrate_gamma(**reports: orm.Dict) -> orm.Dict:
    """Map from gamma to the expected force error, from the graded evaluations of labelled configurations."""
    from aiida_aceal.workflows.windows.calibration import calibration_of

    return orm.Dict(calibration_of([reports[key].get_dict() for key in sorted(reports)]))


@calcfunction
def summarise_generation(facts: orm.Dict, **reports: orm.Dict) -> orm.Dict:
    """The numbers of one generation, from the reports of its steps."""
    from aiida_aceal.workflows.summary import generation_row

    return orm.Dict(generation_row(facts.get_dict(), {key: node.get_dict() for key, node in reports.items()}))


@calcfunction
def summarise_campaign(facts: orm.Dict, **generations: orm.Dict) -> orm.Dict:
    """The rows of all generations, and totals."""
    from aiida_aceal.workflows.summary import campaign_summary

    rows = [generations[key].get_dict() for key in sorted(generations)]
    return orm.Dict(campaign_summary(facts.get_dict(), rows))


def _merged(excluded: set[str], sets: dict[str, ConfigurationsData]) -> dict[str, Any]:
    chosen, seen, total = [], set(excluded), 0
    for key in sorted(sets):
        for atoms in sets[key].iter_atoms():
            total += 1
            digest = atoms.info["aceal_hash"]
            if digest in seen:
                continue
            seen.add(digest)
            atoms.info["explorer"] = key
            chosen.append(atoms)
    result: dict[str, Any] = {"report": orm.Dict({"n_candidates": len(chosen), "n_dropped": total - len(chosen)})}
    if chosen:
        result["candidates"] = ConfigurationsData.from_atoms(chosen, source="explore")
    return result
