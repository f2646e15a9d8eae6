"""``aiida-aceal init``: an input file for one's own structure."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ase import Atoms

#: name -> (structure of the input, method, temperatures, budget)
TEMPLATES: dict[str, tuple[str, str, tuple[float, float], int]] = {
    "vasp-slurm": ("{bulk: Cu, cubic: true}", "vasp", (300.0, 1500.0), 300),
    "qe": ("{bulk: Si, cubic: true}", "qe", (300.0, 1500.0), 300),
    "xtb": ("{bulk: CuI, crystal: zincblende, a: 6.05, cubic: true}", "xtb", (300.0, 900.0), 200),
    "alloy": (
        "{symbols: Cu2Ni2, scaled_positions: [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], "
        "cell: [3.57, 3.57, 3.57]}", "emt", (300.0, 1500.0), 200,
    ),
    "molecule": ("{molecule: CH3CH2OH}", "xtb", (300.0, 600.0), 200),
    "surface": (
        "{symbols: Cu4, scaled_positions: [[0, 0, 0.37], [0.5, 0.5, 0.4543], [0, 0, 0.5386], [0.5, 0.5, 0.6229]], "
        "cell: [2.553, 2.553, 21.4]}", "emt", (300.0, 900.0), 200,
    ),
}  # fmt: skip


@click.command()
@click.option("-s", "--structure", type=click.Path(path_type=Path), help="File of your structure, in a format of ASE.")
@click.option(
    "-d", "--from-data", "data", multiple=True, type=click.Path(path_type=Path),
    help="File of structures with energies and forces, to start from. May be repeated.",
)  # fmt: skip
@click.option(
    "-m", "--method", metavar="NAME",
    help="What labels: vasp, qe, xtb, manual, none, or a calculator of ASE such as emt.",
)  # fmt: skip
@click.option(
    "-t", "--temperature", type=float, nargs=2, metavar="LOW HIGH", help="Range of temperature in K."
)  # fmt: skip
@click.option("-b", "--budget", type=click.IntRange(min=1), help="Number of labels that may be computed.")
@click.option("--template", type=click.Choice(list(TEMPLATES)), help="Take what is not given from an example.")
@click.option("--computer", default="cluster", show_default=True, help="Label of the computer of vasp and qe.")
@click.option("--code", help="Label of the code of vasp or qe [default: vasp@COMPUTER, pw@COMPUTER].")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("input.yaml"), show_default=True,
    help="The file to write.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the file.")
def command(structure, data, method, temperature, budget, template, computer, code, output, force) -> None:
    """Write a commented input file for `aiida-aceal run`.

    Reads your structure (or labelled data) and proposes cutoff, core repulsion, supercells, first structures, MD
    settings and numbers of labels. What is not given as an option is asked for, if there is a terminal.
    """
    from aiida_aceal.common.atomic import write_text
    from aiida_aceal.inputs.methods import method_of
    from aiida_aceal.inputs.propose import propose
    from aiida_aceal.inputs.written import input_text

    if output.exists() and not force:
        raise click.ClickException(f"{output} exists: give another name with -o, or --force")
    given = {"structure": structure, "method": method, "temperature": temperature or None, "budget": budget}
    asked = _ask(given, template, bool(data))
    how = method_of(asked["method"], code, computer)
    labelled = [atoms for path in data for atoms in _labelled(path)]
    spec, frames = _structure(asked["structure"], template if not data else None, output)
    how.check([*frames, *labelled])
    proposal = propose(
        [*frames, *labelled], tuple(asked["temperature"]), asked["budget"], len(labelled), how.dynamics is not None
    )
    names = [_relative(path, output) for path in data]
    write_text(output, input_text(proposal, how, spec, names, len(labelled)))
    click.echo(f"Written: {output} ({proposal.formula}: {proposal.kind})")
    for note in proposal.notes:
        click.echo(f"Note: {note}.")
    for task in how.todo:
        click.echo(f"Needed first: {task}")
    click.echo(f"Next: aiida-aceal run {output} --dry-run, then aiida-aceal run {output} -o results")


def is_terminal() -> bool:
    """Whether somebody can answer."""
    return sys.stdin.isatty()


def _ask(given: dict[str, Any], template: str | None, with_data: bool) -> dict[str, Any]:
    """What is missing: from the template, or asked for; defaults where nobody answers."""
    if template is not None:
        _, method, temperature, budget = TEMPLATES[template]
        defaults = {"method": method, "temperature": temperature, "budget": budget}
        return {key: defaults.get(key) if value is None else value for key, value in given.items()}
    terminal = is_terminal()
    if given["structure"] is None and not with_data and not terminal:
        raise click.UsageError("give --structure FILE, --from-data FILE or --template NAME")
    defaults = {"method": "none" if with_data else None, "temperature": (300.0, 1000.0), "budget": 200}
    if not terminal:
        found = {key: defaults.get(key) if value is None else value for key, value in given.items()}
        if found["method"] is None:
            raise click.UsageError("give --method: vasp, qe, xtb, manual, none, or a calculator of ASE such as emt")
        return found
    found = dict(given)
    if found["structure"] is None and not with_data:
        found["structure"] = Path(click.prompt("File of your structure"))
    if found["method"] is None:
        words = "What labels (vasp, qe, xtb, manual, none, or a calculator of ASE such as emt)"
        found["method"] = click.prompt(words, default=defaults["method"])
    if found["temperature"] is None:
        low = click.prompt("Lowest temperature in K", type=float, default=300.0)
        found["temperature"] = (low, click.prompt("Highest temperature in K", type=float, default=1000.0))
    if found["budget"] is None:
        found["budget"] = click.prompt("How many labels may be computed", type=click.IntRange(min=1), default=200)
    return found


def _labelled(path: Path) -> list[Atoms]:
    from aiida_aceal.common.configurations import read_configurations

    return read_configurations(path, require=("energy", "forces"))


def _structure(path: Path | None, template: str | None, output: Path) -> tuple[str | None, list[Atoms]]:
    """The structure as a mapping of the input, and its atoms."""
    from aiida_aceal.common.yaml import load_yaml
    from aiida_aceal.exploration.bases import base_structures
    from aiida_aceal.exploration.formats import read_files

    if path is not None:
        frames = read_files(path)
        return f"{{file: {_relative(path, output)!r}, index: 0}}", frames[:1]
    if template is None:
        return None, []
    spec = TEMPLATES[template][0]
    return spec, list(base_structures(load_yaml(spec, "structure")))


def _relative(path: Path, output: Path) -> str:
    """The file as seen from the folder of the input."""
    return os.path.relpath(path.resolve(), output.resolve().parent)
