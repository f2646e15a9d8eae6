"""Reading a LAMMPS input script: lines, words, quotes, and the places a script can jump to.

Follows the parsing rules of LAMMPS' manual ("Parsing rules for input scripts"): ``&`` continues a line, ``\"\"\"`` may
span lines, ``#`` outside quotes begins a comment, words in quotes are one argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from aiida_aceal.common.errors import AceError


@dataclass(frozen=True)
class Word:
    """One argument: its text without the outer quotes, and the quotes it stood in ("" if none)."""

    text: str
    quote: str = ""

    def __str__(self) -> str:
        return f"{self.quote}{self.text}{self.quote}"


def split_words(line: str) -> list[Word]:
    """Words of one command, without its comment.

    :raises AceError: for unbalanced quotes
    """
    words: list[Word] = []
    position, end = 0, len(line)
    while True:
        while position < end and line[position].isspace():
            position += 1
        if position >= end or line[position] == "#":
            return words
        quote = ""
        if line.startswith('"""', position):
            quote = '"""'
        elif line[position] in "\"'":
            quote = line[position]
        if quote:
            close = line.find(quote, position + len(quote))
            if close < 0:
                raise AceError(f"Unbalanced quotes in input line: {line.strip()}")
            words.append(Word(line[position + len(quote) : close], quote))
            position = close + len(quote)
            continue
        start = position
        while position < end and not line[position].isspace() and line[position] != "#":
            if line.startswith("$(", position):
                position = _closing_parenthesis(line, position + 1)
            elif line.startswith("${", position) and "}" in line[position:]:
                position = line.index("}", position)
            position += 1
        words.append(Word(line[start:position]))


def _closing_parenthesis(line: str, position: int) -> int:
    """Index of the parenthesis that closes the one at ``position`` (``$( )`` may hold blanks)."""
    depth = 0
    for index in range(position, len(line)):
        depth += {"(": 1, ")": -1}.get(line[index], 0)
        if depth == 0:
            return index
    return len(line) - 1


def join_words(words: Iterable[Word | str]) -> str:
    """One command line again."""
    return " ".join(str(word) for word in words)


@dataclass(frozen=True)
class Command:
    """One logical line of a script: its text, and the number of its first line (1-based)."""

    text: str
    number: int


def read_commands(text: str) -> list[Command]:
    """Logical lines of a script: continuation and triple quotes resolved, empty lines left out."""
    commands: list[Command] = []
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        if not pending:
            start = number
        line = pending + raw.rstrip()
        if line.endswith("&"):
            pending = line[:-1] or " "
        elif line.count('"""') % 2:
            pending = line + "\n"
        else:
            pending = ""
            if line.strip():
                commands.append(Command(line, start))
    if pending.strip():
        commands.append(Command(pending.rstrip("\n"), start))
    return commands


@dataclass
class Frame:
    """A script being read: its commands, and the next one."""

    name: str
    commands: list[Command]
    position: int = 0
    current: Command | None = field(default=None)

    @classmethod
    def from_file(cls, path: str) -> Frame:
        """:raises AceError: when the file cannot be read"""
        try:
            text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise AceError(f"Cannot open input script {path}: {error.strerror}") from error
        return cls(path, read_commands(text))

    def next_command(self) -> Command | None:
        """The next command, or None at the end."""
        if self.position >= len(self.commands):
            return None
        self.current = self.commands[self.position]
        self.position += 1
        return self.current

    def seek_label(self, label: str) -> None:
        """Go on after ``label NAME``, searched from the present position.

        :raises AceError: when there is no such label
        """
        for index in range(self.position, len(self.commands)):
            text = self.commands[index].text
            if text.lstrip().startswith("label"):
                words = split_words(text)
                if len(words) == 2 and words[0].text == "label" and words[1].text == label:
                    self.position = index + 1
                    return
        raise AceError(f"Label wasn't found in input script {self.name}: {label}")
