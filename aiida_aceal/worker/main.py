"""``aceal-worker``: numerics on plain files. Imports no AiiDA; each command loads only what it needs.

Every subcommand lives in a module ``aiida_aceal.worker.<module>`` with a click command called ``command``.
"""

from __future__ import annotations

import importlib

import click

#: command name -> module of this package that holds it
COMMANDS = {
    "evaluate": "evaluate",
    "fit": "fit",
    "active-set": "active_set",
    "grade": "grade",
    "select": "select",
    "explore": "explore",
    "extract": "extract",
    "label": "label",
}


class LazyGroup(click.Group):
    """Imports a subcommand only when it is used, so that ``--help`` and start-up are instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"aiida_aceal.worker.{COMMANDS[name]}").command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiida-aceal")
def main() -> None:
    """Evaluate, fit, grade, select, explore and label with ACE potentials, on files."""
