"""``aiida-aceal labels``: structures that wait for labels go out, their labels come back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_aceal.cli.params import OUTPUT, PK, PROFILE, VERBOSE
from aiida_aceal.common.words import counted

if TYPE_CHECKING:
    from aiida.orm import ProcessNode
    from ase import Atoms


@click.command()
@PK
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@PROFILE
@click.option(
    "-w", "--write", "folder", type=click.Path(file_okay=False, path_type=Path),
    help="Write the structures that still wait into this folder, and do nothing else.",
)  # fmt: skip
@click.option("--partial", is_flag=True, help="Go on with the labels there are; structures without one are left out.")
@click.option("--hold", is_flag=True, help="Keep the labels, but do not go on yet.")
@click.option("--skip-unknown", is_flag=True, help="Leave out structures of the files that do not wait for labels.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0, min_open=True), default=2e-4, show_default=True,
    help="Largest distance in Angstrom between an atom that was handed out and the one that comes back.",
)  # fmt: skip
@OUTPUT
@click.option("--submit", is_flag=True, help="Hand a campaign that has ended over to AiiDA's daemon.")
@VERBOSE
def command(pk, files, profile, folder, partial, hold, skip_unknown, tolerance, output, submit, verbose) -> None:
    """Bring labels to campaign PK, which waits for them, and let it go on when all are there.

    FILEs hold structures with energies (eV) and forces (eV/A): extended XYZ, vasprun.xml, OUTCAR, pw.x output and
    whatever else ASE reads. Each must be one of those that wait; the order of the files, of the structures and of their
    atoms is free. Without FILE: say what waits.
    """
    from aiida_aceal.cli.profile import load
    from aiida_aceal.cli.status import load_campaign

    load(profile, create=False)
    node = load_campaign(pk)
    waits = waiting_structures(node)
    if not waits:
        raise click.ClickException(f"campaign {node.pk} does not wait for labels")
    if folder is not None or not files:
        still = [atoms for _, found in waits for atoms in found if not atoms.info["labelled"]]
        count = sum(len(found) for _, found in waits)
        click.echo(f"Campaign {node.pk} waits for labels of {len(still)} of {counted(count, 'structure')}.")
        if folder is not None and still:
            click.echo(f"Written: {written_for(waits[0][0], still, folder)}")
        return
    missing = _bring(waits, list(_read(files)), tolerance, skip_unknown)
    if hold or (missing and not partial):
        if missing:
            click.echo(
                f"{counted(missing, 'structure')} still without a label. The next file, or --partial to go on without: "
                f"aiida-aceal labels {node.pk} FILE..."
            )
        return
    sys.exit(_go_on(node, waits, profile, output, submit, verbose))


def waiting_structures(node: ProcessNode) -> list[tuple[ProcessNode, list[Atoms]]]:
    """Labellers of a campaign that wait, with their structures; ``info["labelled"]``: whether the label is there."""
    from aiida_aceal.workflows.labellers.manual import brought, waiting

    found = []
    for labeller in waiting(node):
        known = {digest for labels in brought(node, labeller) for digest in labels.hashes}
        structures = labeller.inputs.configurations.to_atoms()
        for atoms in structures:
            atoms.info["labelled"] = atoms.info["aceal_hash"] in known
        found.append((labeller, structures))
    return found


def written_for(labeller: ProcessNode, structures: Sequence[Atoms], folder: Path) -> str:
    """Write structures as the settings of the labeller ask; what was written, in words."""
    from aiida_aceal.labels.handout import ManualLabelSettings, write_handout

    files = write_handout(folder, structures, ManualLabelSettings.read(labeller.inputs.settings.get_dict()))
    folders = {path.parent for path in files[1:]}
    return f"{files[0]}" + (f" and {counted(len(folders), 'folder')} with a POSCAR" if folders else "")


def _read(files: Sequence[Path]) -> Iterator[tuple[str, Atoms]]:
    from aiida_aceal.exploration.formats import read_files

    for path in files:
        for number, atoms in enumerate(read_files(path)):
            yield f"{path}, structure {number}", atoms


def _bring(
    waits: Sequence[tuple[ProcessNode, list[Atoms]]],
    returned: list[tuple[str, Atoms]],
    tolerance: float,
    skip_unknown: bool,
) -> int:
    """Keep the labels; returns how many structures still have none."""
    from aiida_aceal.data.dataset import ConfigurationsData
    from aiida_aceal.labels.matching import match_labels
    from aiida_aceal.workflows.labellers.manual import bring

    every = [atoms for _, structures in waits for atoms in structures]
    matched = match_labels(every, returned, tolerance, skip_unknown)
    for place in matched.skipped:
        click.echo(f"Left out: {place} does not wait for a label.")
    if not matched.labelled:
        raise click.ClickException("no structure of these files waits for a label")
    first = missing = 0
    for labeller, structures in waits:
        own = {k - first: atoms for k, atoms in matched.labelled.items() if first <= k < first + len(structures)}
        first += len(structures)
        missing += sum(not atoms.info["labelled"] for k, atoms in enumerate(structures) if k not in own)
        for atoms in own.values():
            atoms.info.pop("labelled")
        if own:
            bring(labeller, ConfigurationsData.from_atoms([own[k] for k in sorted(own)], source="brought"))
    click.echo(f"{counted(len(matched.labelled), 'structure')} labelled.")
    return missing


def _go_on(
    node: ProcessNode, waits: Sequence[tuple[ProcessNode, Any]], profile: str | None, output: Path | None,
    submit: bool, verbose: bool,
) -> int:  # fmt: skip
    """Wake the processes that pause, or run a campaign that takes up where this one ended."""
    from aiida.engine.processes.control import ProcessTimeoutException, play_processes

    from aiida_aceal.cli.resume import go_on
    from aiida_aceal.workflows.labellers.manual import brought

    paused = [labeller for labeller, _ in waits if not labeller.is_terminated and brought(node, labeller)]
    if not paused:
        return go_on(str(node.pk), profile, output, (), submit, verbose)
    try:
        play_processes(paused, timeout=30)
    except ProcessTimeoutException as error:
        raise click.ClickException(
            f"the labels are kept, but nothing answers: {error}; start the daemon (verdi daemon start), then "
            + "verdi process play "
            + " ".join(str(labeller.pk) for labeller in paused)
        ) from error
    click.echo(f"Campaign {node.pk} goes on: aiida-aceal status {node.pk}")
    return 0
