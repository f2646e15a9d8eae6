"""``aiida-aceal``: campaigns from the command line. Modules are loaded only when their command is used."""

from __future__ import annotations

import importlib

import click

from aiida_aceal.common.commands import OneLineErrors

#: command name -> module of this package that holds it as ``command``
COMMANDS = {
    "demo": "demo",
    "init": "init",
    "run": "run",
    "list": "list_campaigns",
    "status": "status",
    "stop": "stop",
    "labels": "labels",
    "resume": "resume",
    "extend": "extend",
    "report": "report",
    "collect": "collect",
    "validate": "validate",
    "check": "check",
    "setup-computer": "setup_computer",
    "compare": "compare",
    "reproduce": "reproduce",
}


class LazyGroup(OneLineErrors):
    """Imports a subcommand only when it is used, and turns bad input into one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            return importlib.import_module(f"aiida_aceal.cli.{COMMANDS[name]}").command
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(COMMANDS)}."
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiida-aceal")
def main() -> None:
    """Train atomic cluster expansion (ACE) potentials by active learning, with full provenance in AiiDA.

    Start with `aiida-aceal check`, then `aiida-aceal demo`, then write your own input for `aiida-aceal run`.
    """


if __name__ == "__main__":
    main()
