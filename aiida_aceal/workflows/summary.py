"""From the reports of the steps to the row of numbers of one generation, and to the table of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: units of the errors in a row
UNITS = {"energy": "eV/atom", "forces": "eV/A", "seconds": "s"}


def exploration_numbers(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All explorers of a generation together: the run that reached the smallest part and the largest grade decide.

    ``complete`` is true if every one of them reached its end.
    """
    runs = [report for report in reports if report]
    if not runs:
        return {}
    # steps of runs of different length cannot be compared: the numbers shown are those of one explorer
    counted = [report for report in runs if report.get("steps_reached") is not None and report.get("steps_total")]
    # "steps" of active exploration and of pools (their reports have a mode) are attempts and structures, no dynamics
    dynamics = [report for report in counted if "mode" not in report] or counted
    shortest = min(dynamics, key=lambda report: report["steps_reached"] / report["steps_total"], default={})
    gammas = [report["max_gamma"] for report in runs if report.get("max_gamma") is not None]
    return {
        "md_steps_reached": shortest.get("steps_reached"),
        "md_steps_total": shortest.get("steps_total"),
        "max_gamma": max(gammas, default=None),
        "complete": all(report.get("status") == "completed" for report in runs),
        "n_walkers": sum(int(report.get("n_walkers", 1)) for report in runs),
        "n_failed_walkers": sum(int(report.get("n_failed", report.get("status") == "failed")) for report in runs),
    }


def is_converged(numbers: Mapping[str, Any], gamma_stop: float) -> bool:
    """Stop criterion: every run reached its full length and no grade was above ``gamma_stop``."""
    gamma = numbers.get("max_gamma")
    return bool(numbers.get("complete")) and gamma is not None and gamma <= gamma_stop


def error_numbers(report: Mapping[str, Any] | None, name: str, when: str) -> dict[str, float | None]:
    """``energy_rmse_<when>``, ``energy_max_<when>``, ... of an evaluation report, with ``name`` in front."""
    found = {}
    for quantity in ("energy", "forces"):
        values = (report or {}).get(quantity) or {}
        for measure in ("rmse", "mae", "max"):
            key = "_".join(part for part in (name, quantity, measure, when) if part)
            found[key] = values.get(measure)
    return found


def is_worse(new: Mapping[str, Any], old: Mapping[str, Any], tolerated: float) -> str | None:
    """Why an evaluation is worse than the best so far by more than the fraction ``tolerated``; ``None`` if it is not.

    The force error decides; energies do if there are no forces.
    """
    quantity, after, before = _deciding(new, old)
    if quantity is None:
        return None
    if after is None:
        return f"validation {quantity} RMSE is not finite"
    if after > before * (1.0 + tolerated):
        return (
            f"validation {quantity} RMSE {after:.4g} {UNITS[quantity]} against {before:.4g} of the best so far "
            f"(tolerated: {100 * tolerated:g} % more)"
        )
    return None


def is_best(new: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Whether an evaluation is no worse than the best so far; of equals the newer, which has learnt from more data."""
    return is_worse(new, best, 0.0) is None


def _deciding(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[str | None, float | None, float]:
    """The quantity that decides, and its errors."""
    for quantity in ("forces", "energy"):
        after, before = ((report.get(quantity) or {}).get("rmse") for report in (new, old))
        if before is not None:
            return quantity, after, before
    return None, None, 0.0


def generation_row(facts: Mapping[str, Any], reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of a generation (errors: eV/atom and eV/Angstrom; times: seconds).

    :param facts: what the generation itself knows: counts, window, decisions, cost
    :param reports: of its steps: ``explore_<name>``, ``before``, ``after``, ``holdout``
    """
    row = dict(facts)
    row.update(exploration_numbers([reports[key] for key in sorted(reports) if key.startswith("explore_")]))
    row.update(error_numbers(reports.get("before"), "new", "before"))
    row.update(error_numbers(reports.get("after"), "new", "after"))
    row.update(error_numbers(reports.get("holdout"), "holdout", ""))
    if reports.get("calibration"):
        row["calibration"] = dict(reports["calibration"])
    row["units"] = UNITS
    return row


def best_row(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Row of the generation whose potential is the best so far; empty if none is, or if the rows do not say."""
    return next((row for row in reversed(rows) if row.get("is_best")), {})


def campaign_summary(facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of all generations and totals over them."""
    holdout = [row["holdout_forces_rmse"] for row in rows if row.get("holdout_forces_rmse") is not None]
    best = best_row(rows)
    returned = best.get("holdout_forces_rmse") or (holdout[-1] if holdout else None)
    return {
        **facts,
        "generations": [dict(row) for row in rows],
        "n_generations": len(rows),
        "n_labelled": sum(int(row.get("n_labelled") or 0) for row in rows),
        "n_failed_labels": sum(int(row.get("n_failed_labels") or 0) for row in rows),
        "label_core_seconds": sum(float(row.get("label_core_seconds") or 0.0) for row in rows),
        "label_wall_seconds": sum(float(row.get("label_wall_seconds") or 0.0) for row in rows),
        "wall_seconds": sum(float(row.get("wall_seconds") or 0.0) for row in rows),
        "n_training": rows[-1].get("n_training") if rows else 0,
        "holdout_forces_rmse_first": holdout[0] if holdout else None,
        "holdout_forces_rmse_last": holdout[-1] if holdout else None,
        "holdout_energy_rmse_best": best.get("holdout_energy_rmse"),
        "holdout_forces_rmse_best": best.get("holdout_forces_rmse"),
        "holdout_improvement": holdout[0] / returned if holdout and returned else None,
        "units": UNITS,
    }


def story(row: dict[str, Any]) -> str:
    """One line on a finished generation."""

    def number(key: str, scale: float = 1.0) -> str:
        value = row.get(key)
        return "-" if value is None else f"{scale * value:.3g}"

    return (
        f"generation {row['generation']} {row['status']}: steps {row.get('md_steps_reached', '-')}/"
        f"{row.get('md_steps_total', '-')}, max gamma {number('max_gamma')}, {row['n_candidates']} candidates, "
        f"{row['n_selected']} selected, {row.get('n_training', 0)} training structures, validation "
        f"{number('holdout_energy_rmse', 1000)} meV/atom {number('holdout_forces_rmse', 1000)} meV/A, "
        f"{row['wall_seconds']:.0f} s"
    )
