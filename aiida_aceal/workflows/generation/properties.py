"""Properties at the gate: bounds of their errors, judged after the errors on the validation set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_aceal.data.active_set import ActiveSetData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.properties.names import property_bounds
from aiida_aceal.workflows.base import output, why
from aiida_aceal.workflows.generation import gate
from aiida_aceal.workflows.generation.outcome import Child, Outcome, Started
from aiida_aceal.workflows.validate.workchain import ValidateWorkChain

#: label of the child
LABEL = "properties"


def bounds_of(settings: Mapping[str, Any]) -> dict[str, float]:
    """Bounds by property, as fractions, of the section ``gate``; empty without any."""
    return property_bounds(settings.get("properties") or {})


def start(
    *,
    potential: AcePotentialData,
    active_set: ActiveSetData | None,
    given: Mapping[str, Any],
    bounds: Mapping[str, float],
    labeller: Mapping[str, Any],
    worker: Mapping[str, Any],
) -> Started:
    """The validation of the new potential, of the properties that have bounds.

    :param given: ``structure``, ``settings``, ``labelled`` (sets with labels of earlier validations)
    """
    settings = given["settings"].get_dict() if "settings" in given else {}
    inputs = {
        "potential": potential,
        "structure": given["structure"],
        "settings": orm.Dict({**settings, "properties": list(bounds)}),
        "labeller": labeller,
        "worker": worker,
        **{name: node for name, node in (("active_set", active_set),) if node is not None},
        **({"labelled": dict(given["labelled"])} if given.get("labelled") else {}),
    }
    return Started(children=[Child(LABEL, ValidateWorkChain, inputs, f"properties: {', '.join(bounds)}")])


def collect(
    *,
    child: orm.ProcessNode,
    bounds: Mapping[str, float],
    best: Mapping[str, float | None] | None,
    standing: AcePotentialData,
) -> Outcome:
    """Refuse the potential if an error exceeds its bound and is larger than that of the best so far.

    :param best: errors of the best so far (None: the property could not be had); ``None`` if nothing is known of it
    :param standing: potential in force; if it is only a basis, there is nothing to keep
    """
    summary = output(child, "summary")
    if summary is None:
        return Outcome(lines=[f"the properties could not be judged: {why(child)}"])
    found = summary.get_dict()
    errors: dict[str, float | None] = {}
    lines, reasons = [], []
    for name, bound in bounds.items():
        entry = found["properties"][name]
        if "reference_error" in entry or (entry["worst"] is None and "potential_error" not in entry):
            lines.append(f"{name} is not judged: {entry.get('reference_error', 'no number of it has a ratio')}")
            continue
        worst = entry["worst"]
        errors[name] = None if "potential_error" in entry else abs(worst["relative_percent"]) / 100
        what = (
            entry["potential_error"]
            if errors[name] is None
            else f"{worst['quantity']} is off by {_percent(errors[name])}"
        )
        line = f"{name}: {what} (bound {_percent(bound)})"
        held = errors[name] is not None and errors[name] <= bound
        lines.append(line)
        if not held and best is not None and name in best and _is_larger(errors[name], best[name]):
            known = "the best so far has none" if best[name] is None else f"best so far {_percent(best[name])}"
            reasons.append(f"{line}, {known}")
    facts = {
        "property_errors": errors,
        "n_property_labels": found["n_labelled"],
        "property_label_core_seconds": found["label_core_seconds"],
    }
    if reasons and standing.is_fitted:
        refused = gate.refusal("; ".join(reasons), standing)
        return Outcome(facts={**facts, **refused["facts"], "is_best": False}, lines=[*lines, *refused["lines"]])
    return Outcome(facts=facts, lines=lines)


def _is_larger(error: float | None, best: float | None) -> bool:
    if best is None:
        return False
    return error is None or error > best


def _percent(value: float | None) -> str:
    return f"{100 * (value or 0.0):.3g} %"
