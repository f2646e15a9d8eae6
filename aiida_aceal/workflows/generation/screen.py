"""Screen: new labels that cannot be right are named and put in quarantine before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiida import orm
from aiida.engine import calcfunction

from aiida_aceal.common.words import counted
from aiida_aceal.data.dataset import ConfigurationsData
from aiida_aceal.data.potential import AcePotentialData
from aiida_aceal.workflows.generation.outcome import Call, Failure, Outcome


@dataclass(frozen=True, kw_only=True)
class Screened(Outcome):
    """The sets that lost structures, by role (``labelled``, ``validation``), and what they lost."""

    sets: dict[str, ConfigurationsData] = field(default_factory=dict)
    quarantine: list[dict[str, Any]] = field(default_factory=list)


@calcfunction
def screen_labels(
    labelled: ConfigurationsData, potential: AcePotentialData, settings: orm.Dict, **trusted: ConfigurationsData
) -> dict[str, Any]:
    """Labels that cannot be right (``found``: ``index``, ``hash``, ``reason``) and the set without them (``labelled``).

    ``settings``: `max_label_deviation` and `trusted_labels` of `limits`; ``trusted``: labelled sets to judge by.
    """
    from aiida_aceal.fitting.label_check import wrong_labels

    limits, hashes = settings.get_dict(), labelled.hashes
    others = [atoms for key in sorted(trusted) for atoms in trusted[key].iter_atoms()]
    found = [
        {"index": item.index, "hash": hashes[item.index], "reason": item.reason}
        for item in wrong_labels(labelled.to_atoms(), potential.get_potential(), others, limits["max_label_deviation"])
        if not hashes[item.index].startswith(tuple(limits["trusted_labels"]))
    ]
    result: dict[str, Any] = {"found": orm.List(found)}
    kept = sorted(set(range(len(labelled))).difference(item["index"] for item in found))
    if found and kept:
        result["labelled"] = labelled.select(kept)
    return result


def screen(
    *,
    sets: Mapping[str, ConfigurationsData],
    potential: AcePotentialData,
    datasets: Mapping[str, ConfigurationsData],
    limits: Mapping[str, Any],
    call: Call,
) -> Screened:
    """Judge what was labelled now by the potential in force, or by each other and the given labels if that is a basis.

    :param sets: role -> newly labelled set
    :param datasets: labelled sets of the generations before
    :param limits: section `limits`
    :returns: fails with ``ERROR_LABELLING_FAILED`` if a set has nothing left
    """
    if limits["max_label_deviation"] is None:
        return Screened()
    settings = orm.Dict({key: limits[key] for key in ("max_label_deviation", "trusted_labels")})
    trusted = {} if potential.is_fitted else dict(datasets)
    quarantine: list[dict[str, Any]] = []
    lines: list[str] = []
    smaller: dict[str, ConfigurationsData] = {}
    for role, node in sets.items():
        beside = {} if potential.is_fitted else {f"new_{key}": value for key, value in sets.items() if key != role}
        made = call(
            f"screen_{role}", screen_labels, labelled=node, potential=potential, settings=settings, **trusted, **beside
        )
        found = made["found"].get_list()
        for item in found:
            quarantine.append({"hash": item["hash"], "reason": f"label not plausible: {item['reason']}"})
            lines.append(
                f"label quarantined, structure {item['index']} of the {role} set, {item['hash']}: {item['reason']}; "
                "if it is right, resume with --set 'limits.trusted_labels=[HASH]'"
            )
        if found and "labelled" not in made:
            reason = f"no label of the {role} set is plausible; the first: {found[0]['reason']}"
            return Screened(lines=lines, failure=Failure("ERROR_LABELLING_FAILED", {"reason": reason}))
        if found:
            smaller[role] = made["labelled"]
    facts: dict[str, Any] = {"n_implausible_labels": len(quarantine)} if quarantine else {}
    if quarantine:
        lines.append(f"{counted(len(quarantine), 'label')} not trained on: {', '.join(q['hash'] for q in quarantine)}")
        facts |= {f"n_{role}": len(node) for role, node in smaller.items()}
    return Screened(sets=smaller, quarantine=quarantine, facts=facts, lines=lines)
