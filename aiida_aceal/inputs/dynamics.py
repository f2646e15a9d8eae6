"""MD explorers of an input: how cores are shared among walkers that run at once, and settings that are seldom meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiida_aceal.common.plausible import unusual
from aiida_aceal.common.threads import available_cores
from aiida_aceal.common.words import counted
from aiida_aceal.inputs.schema import Campaign
from aiida_aceal.workflows.explorers.walkers import WalkerSettings, check_settings, walker_list
from aiida_aceal.workflows.protocol import merged

#: entry points of explorers that run LAMMPS
LAMMPS = ("aceal.explore.md",)


@dataclass(frozen=True)
class Share:
    """Of one explorer: walkers that run at the same time, and cores for each."""

    walkers: int
    threads: int


def share(wanted: Mapping[str, int], cores: int, threads: int | None = None) -> dict[str, Share]:
    """Walkers at a time and cores for each explorer, so that walkers times cores is never more than there are.

    All explorers of a generation run at once. Walkers come before threads: one on each core is the most work done.

    :param wanted: explorer -> number of walkers that may run at the same time
    :param cores: of the machine
    :param threads: cores for each walker, if the user has said so
    """
    total = sum(wanted.values())
    each = threads or max(1, cores // max(total, 1))
    places = max(len(wanted), cores // each)
    left, found = places, {}
    for number, name in enumerate(sorted(wanted, key=lambda name: (wanted[name], name))):
        fair = max(1, left // (len(wanted) - number))
        found[name] = Share(min(wanted[name], fair), each)
        left -= found[name].walkers
    return found


@dataclass
class Runs:
    """Of one explorer: its share of the cores (``None``: it runs elsewhere), and lines for the user."""

    share: Share | None = None
    notes: list[str] = field(default_factory=list)


def runs_here(campaign: Campaign, sections: Mapping[str, Any], structures: Mapping[str, Any]) -> dict[str, Runs]:
    """MD explorers of a campaign. Those with wrong settings are left out: their port refuses them in words of its own.

    :param sections: of the protocol, with those of the campaign laid over them
    :param structures: `Prepared.structures`
    """
    found: dict[str, Runs] = {}
    wanted: dict[str, int] = {}
    for name, step in campaign.explore.items():
        settings = merged(sections["explore"], step.settings)
        if step.entry_point not in LAMMPS or check_settings(settings):
            continue
        _, _, start = structures.get(f"start_{name}") or structures.get("initial") or (None, None, [])
        found[name] = Runs(notes=[f"explore.{name}: {line}" for line in unusual(settings, start)])
        if step.code or campaign.codes.lammps or {**campaign.options, **step.options}.get("resources"):
            continue  # the user knows what it may take there
        starts = len(start) if f"start_{name}" in structures else 1
        most = settings.get("max_concurrent", WalkerSettings.model_fields["max_concurrent"].default)
        wanted[name] = min(len(walker_list(settings, starts)), most)
    for name, part in share(wanted, available_cores(), campaign.threads).items():
        found[name].share = part
        if part.walkers < wanted[name]:
            found[name].notes.append(
                f"explore.{name}: {counted(part.walkers, 'walker')} at a time instead of {wanted[name]}, with "
                f"{counted(part.threads, 'core')} each: this machine has {available_cores()}"
            )
    return found
