"""What our command lines share."""

from __future__ import annotations

import errno

import click

from .errors import AceError

#: how the message of a command that ran out of its own time starts; parsers know it by that
TIME_LIMIT = "the time limit of"


class OneLineErrors(click.Group):
    """A group whose commands end with one line on stderr when the input is bad (exit code 2) or a file fails (1)."""

    def invoke(self, ctx: click.Context):
        try:
            return super().invoke(ctx)
        except AceError as error:
            refusal = click.ClickException(str(error))
            refusal.exit_code = 2
            raise refusal from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click ends quietly when nobody reads on
                raise
            place = f"{error.filename}: " if error.filename is not None else ""
            raise click.ClickException(f"{place}{error.strerror or error}") from error
