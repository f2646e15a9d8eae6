"""Execution of a LAMMPS script command by command: flow control here, everything else in LAMMPS or a handler."""

from __future__ import annotations

import sys
from collections.abc import Callable

from aiida_aceal.common.errors import AceError

from .script import Command, Frame, Word, join_words, read_commands, split_words

Handler = Callable[[str], None]
#: LAMMPS variable that says which branch of an ``if`` was taken
_BRANCH = "aceal_branch"


class Quit(Exception):
    """The script said ``quit``; holds the exit status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Interpreter:
    """Runs scripts in a LAMMPS instance.

    ``handlers`` maps command names to functions that carry the command out; every other command goes to LAMMPS as
    it stands. ``include``, ``jump``, ``label``, ``next``, ``if`` and ``quit`` are followed here, since LAMMPS does
    not see the file.
    """

    def __init__(self, library) -> None:
        self.library = library
        self.handlers: dict[str, Handler] = {
            "include": self._include,
            "jump": self._jump,
            "next": self._next,
            "if": self._if,
            "quit": self._quit,
        }
        self.rewrite: Callable[[str], str] = lambda text: text
        #: commands with a handler that LAMMPS can carry out alone if the test is true
        self.plain_if: dict[str, Callable[[str], bool]] = {}
        self._frames: list[Frame] = []
        self._skip_jump = False

    # --- scripts ----------------------------------------------------------------------------------------------------
    def run_file(self, path: str) -> None:
        """Run a script file to its end.

        :raises AceError: when the file cannot be read, or for what aceal-lmp refuses
        :raises Exception: errors of LAMMPS
        :raises Quit: for ``quit``
        """
        self._run_frame(Frame.from_file(path))

    def run_text(self, text: str, name: str = "stdin") -> None:
        """Run a script given as text."""
        self._run_frame(Frame(name, read_commands(text)))

    def _run_frame(self, frame: Frame) -> None:
        self._frames.append(frame)
        depth = len(self._frames)
        while (command := self._frames[-1].next_command()) is not None:
            self.execute(command.text)
        if len(self._frames) != depth:
            raise RuntimeError("unbalanced frames of input scripts")
        self._frames.pop()

    def where(self) -> str:
        """Place of the present command, for messages."""
        for frame in reversed(self._frames):
            if frame.current is not None:
                return f"{frame.name}, line {frame.current.number}"
        return "command line"

    @property
    def current(self) -> Command | None:
        """The logical line being carried out."""
        return self._frames[-1].current if self._frames else None

    # --- single commands ----------------------------------------------------------------------------------------------
    def execute(self, text: str) -> None:
        """Carry out one command."""
        text = self.rewrite(text)
        handler = self.handlers.get(self.name_of(text))
        if handler is None:
            self.library.command(text)
        else:
            handler(text)

    def name_of(self, text: str) -> str:
        """Name of a command; "" for a comment."""
        parts = text.split(None, 1)
        if not parts or parts[0].startswith("#"):
            return ""
        if "$" in parts[0]:
            words = self.expand(text)
            return words[0].text if words else ""
        return parts[0].split("#", 1)[0].strip("\"'")

    def expand(self, text: str) -> list[Word]:
        """Words of a command after LAMMPS' own substitution of variables."""
        return split_words(self.library.expand(text) or "")

    def pass_on(self, text: str, words: list[Word]) -> None:
        """Give an unchanged command to LAMMPS; immediate variables that were expanded stay evaluated once."""
        if "$(" in text:
            self.echo(text)
            self.library.command(join_words(words))
        else:
            self.library.command(text)

    def echo(self, text: str) -> None:
        """Show a command where LAMMPS echoes commands, without giving it to LAMMPS."""
        self.library.command(f"# aceal-lmp:\n{text}")

    def note(self, text: str) -> None:
        """A remark where LAMMPS echoes commands."""
        self.library.command(f"#   {text}")

    # --- flow control -------------------------------------------------------------------------------------------------
    def _include(self, text: str) -> None:
        words = self.expand(text)
        if len(words) != 2:
            raise AceError("Illegal include command: expected 'include FILE'")
        self.echo(text)
        self._run_frame(Frame.from_file(words[1].text))

    def _jump(self, text: str) -> None:
        words = self.expand(text)
        if len(words) not in (2, 3):
            raise AceError("Illegal jump command: expected 'jump FILE|SELF [LABEL]'")
        self.echo(text)
        if self._skip_jump:
            self._skip_jump = False
            return
        if words[1].text == "SELF":
            self._frames[-1].position = 0
        else:
            self._frames[-1] = Frame.from_file(words[1].text)
        if len(words) == 3:
            self._frames[-1].seek_label(words[2].text)

    def _next(self, text: str) -> None:
        words = self.expand(text)
        self.pass_on(text, words)
        # LAMMPS deletes an exhausted variable and skips the next jump
        self._skip_jump = any(not self.library.has_id("variable", word.text) for word in words[1:])

    def _quit(self, text: str) -> None:
        words = self.expand(text)
        self.echo(text)
        status = words[1].text if len(words) > 1 else "0"
        if len(words) > 2 or not status.lstrip("-").isdigit():
            raise AceError("Illegal quit command: expected 'quit [STATUS]'")
        raise Quit(int(status))

    def is_plain(self, text: str) -> bool:
        """Whether LAMMPS can carry out the command alone."""
        parts = text.split(None, 1)
        if not parts:
            return True
        test = self.plain_if.get(parts[0])
        return test(text) if test else "$" not in parts[0] and parts[0] not in self.handlers

    def _if(self, text: str) -> None:
        words = self.expand(text)
        branches = _branches(words)
        if all(self.is_plain(command) for _, commands in branches for command in commands):
            self.pass_on(text, words)
            return
        self.echo(text)
        question: list[Word | str] = ["if"]
        for index, (condition, _) in enumerate(branches):
            if index > 0:
                question.append("else" if condition is None else "elif")
            if condition is not None:
                question.append(condition)
                if index == 0:
                    question.append("then")
            question.append(f'"variable {_BRANCH} string {index}"')
        if branches[-1][0] is not None:
            question += ["else", f'"variable {_BRANCH} string -1"']
        self.library.command(join_words(question))
        taken = int(self.library.extract_variable(_BRANCH))
        self.library.command(f"variable {_BRANCH} delete")
        if taken >= 0:
            for command in branches[taken][1]:
                self.execute(command)


def _branches(words: list[Word]) -> list[tuple[Word | None, list[str]]]:
    """(condition, commands) of each branch of an ``if``; the condition of ``else`` is None."""
    problem = AceError(
        "Illegal if command: expected 'if CONDITION then COMMAND ... [elif CONDITION COMMAND ...] [else COMMAND ...]'"
    )
    if len(words) < 4 or words[2].text != "then":
        raise problem
    branches: list[tuple[Word | None, list[str]]] = [(words[1], [])]
    rest = iter(words[3:])
    for word in rest:
        if not word.quote and word.text == "elif":
            condition = next(rest, None)
            if condition is None:
                raise problem
            branches.append((condition, []))
        elif not word.quote and word.text == "else":
            branches.append((None, []))
        else:
            branches[-1][1].append(word.text)
    if any(not commands for _, commands in branches):
        raise problem
    return branches


def read_stdin() -> str:
    """The script on standard input."""
    return sys.stdin.read()
