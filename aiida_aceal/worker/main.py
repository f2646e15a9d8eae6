"""``aceal-worker``: numerics on plain files. Imports no AiiDA; each command loads only what it needs.

Subcommands are made from the declarations in `aiida_aceal.jobs` by `aiida_aceal.worker.command`.
"""

from __future__ import annotations

import os
import sys
import threading

import click

from aiida_aceal.common.commands import TIME_LIMIT, OneLineErrors
from aiida_aceal.common.errors import AceError
from aiida_aceal.jobs import find_job, job_names


class LazyGroup(OneLineErrors):
    """Imports a subcommand only when it is used, so that ``--help`` and start-up are instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return job_names()

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in job_names():
            return None
        from aiida_aceal.worker.command import JobCommand

        try:
            return JobCommand(find_job(name))
        except AceError as error:
            return _refusing(name, error)


def _refusing(name: str, error: AceError) -> click.Command:
    """Stands for a job of another package that cannot be loaded: listed as such, and refused when it is called."""

    def refuse() -> None:
        raise error

    free = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=refuse, short_help=f"Cannot be loaded: {error}", add_help_option=False, context_settings=free
    )


def _out_of_time(seconds: float) -> None:
    print(f"Error: {TIME_LIMIT} {seconds:g} s is reached", file=sys.stderr, flush=True)
    # the main thread may sit in a kernel for long: no unwinding, output files appear only when complete
    os._exit(3)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aiida-aceal")
@click.option("--time-limit", type=click.FloatRange(min=0, min_open=True), help="End with exit code 3 after SECONDS.")
def main(time_limit: float | None) -> None:
    """Evaluate, fit, grade, select, explore and label with ACE potentials, on files."""
    if time_limit is not None:
        timer = threading.Timer(time_limit, _out_of_time, (time_limit,))
        timer.daemon = True
        timer.start()
