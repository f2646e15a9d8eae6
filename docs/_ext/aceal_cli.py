"""Page of the command lines: the help texts of all commands."""

from __future__ import annotations

import click
from aceal_text import anchor, block


def _help(command: click.Command, path: str, parent: click.Context | None) -> tuple[str, click.Context]:
    context = click.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent, max_content_width=100)
    context.terminal_width = 100
    return command.get_help(context), context


def _section(command: click.Command, path: str, level: int, parent: click.Context | None = None) -> list[str]:
    text, context = _help(command, path, parent)
    parts = [f"({anchor('command ' + path)})=\n{'#' * level} `{path}`\n", block(text)]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                parts += _section(child, f"{path} {name}", level + 1, context)
    return parts


def command_lines_page() -> str:
    """Help texts of our executables and of our parts of ``verdi data``."""
    from importlib.metadata import entry_points

    from aiida_aceal.cli.root import main as root
    from aiida_aceal.lammps.main import USAGE
    from aiida_aceal.worker.main import main as worker

    parts = ["# Command lines\n", "The help texts of the installed commands.\n"]
    parts += _section(root, "aiida-aceal", 2)
    parts += _section(worker, "aceal-worker", 2)
    parts += ["(command-aceal-lmp)=\n## `aceal-lmp`\n", block(USAGE)]
    parts.append("## `verdi data`\n")
    ours = [point for point in entry_points(group="aiida.cmdline.data") if point.name.startswith("aceal-")]
    for point in sorted(ours, key=lambda point: point.name):
        parts += _section(point.load(), f"verdi data {point.name}", 3)
    return "\n".join(parts)
