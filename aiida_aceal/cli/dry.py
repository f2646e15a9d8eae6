"""What a campaign would do, for ``run --dry-run``."""

from __future__ import annotations

from pathlib import Path

from aiida_aceal.common.words import counted
from aiida_aceal.inputs.schema import Campaign, ReferenceMD


def describe(campaign: Campaign, folder: Path, profile: str | None = None) -> list[str]:
    """Lines about structures, basis and loop; everything is checked as `run` checks it.

    :param profile: AiiDA profile whose codes and families are meant, as for `run`; one in memory if it is not there yet
    :raises AceError: what `run` would refuse
    """
    from aiida_aceal.cli.profile import without_storing

    with without_storing(profile) as find_code:
        from aiida_aceal.inputs.campaign import make_builder, prepare

        prepared = prepare(campaign, folder)
        make_builder(prepared, find_code, store=False)
    lines = [f"title       {campaign.title or '-'}", f"seed        {campaign.seed}"]
    for element, count in prepared.potential.n_functions.items():
        lines.append(f"basis       {element}: {counted(count, 'function')}, cutoff {prepared.potential.cutoff:g} A")
    for name, (_, _, atoms) in prepared.structures.items():
        sizes = sorted({len(a) for a in atoms})
        sampled = isinstance(getattr(campaign, name, None), ReferenceMD)
        what = counted(len(atoms), "MD run" if sampled else "structure")
        how = " with the reference method" if sampled else ""
        split = f", {prepared.fractions[name]:g} of the data, by origin" if name in prepared.fractions else ""
        lines.append(f"{name:11s} {what} of {', '.join(map(str, sizes))} atoms{how}{split}")
    if "test" not in prepared.structures:
        lines.append("test        none: only validation errors, by which the potential is chosen, will be reported")
    for name, atoms in prepared.datasets.items():
        lines.append(f"{name:11s} {counted(len(atoms), 'labelled structure')}")
    for name, step in campaign.explore.items():
        lines.append(f"explore     {name}: {step.entry_point}")
    lines.append(f"label       {campaign.label.entry_point} {campaign.label.settings.get('calculator', '')}".rstrip())
    lines.append(f"fit         {campaign.fit.entry_point}")
    for name in ("selection", "window", "loop"):
        body = ", ".join(f"{key} {value}" for key, value in prepared.sections[name].items())
        lines.append(f"{name:11s} {body}")
    return lines + [f"note        {note}" for note in prepared.notes]
