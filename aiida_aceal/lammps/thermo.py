"""Thermo output: pair energies of ACE come from `fix external`, so their columns are redirected.

The pair energy of ``pair_style zero`` is 0; ``epair`` and ``evdwl`` must show the energy of the ACE instead, under the
column names that native LAMMPS prints.
"""

from __future__ import annotations

import re

from .callback import FIX_EXTERNAL
from .control import Interpreter
from .script import Word, join_words, split_words

ENERGY = f"f_{FIX_EXTERNAL}"
_COLUMN = {"epair": "E_pair", "evdwl": "E_vdwl"}
_KEYWORD = re.compile(r"(?<![\w.$])(epair|evdwl)(?!\w)")
_ONE = ["step", "temp", "epair", "emol", "etotal", "press"]
_MULTI = ["etotal", "ke", "temp", "pe", "ebond", "eangle", "edihed", "eimp", "evdwl", "ecoul", "elong", "press"]
#: styles that LAMMPS has as fixed lists of keywords, with the form of their lines
_STYLES = {"one": (_ONE, "one"), "multi": (_MULTI, "multi"), "yaml": (_ONE, "yaml")}
#: fixes that change the box; LAMMPS then appends the volume to the fixed lists
_BOX_FIXES = re.compile(r"^(npt|nph|nphug|press/|box/relax|deform|msst|qbmsst|rigid/n[ph][th])")


def changes_box(style: str) -> bool:
    """Whether a fix style changes the size of the box."""
    return bool(_BOX_FIXES.match(style))


def rewrite_keywords(text: str) -> str:
    """A formula with ``epair`` and ``evdwl`` replaced by the energy of the fix."""
    return _KEYWORD.sub(ENERGY, text)


def rewrite_immediate(text: str) -> str:
    """A command with the keywords replaced inside immediate variables ``$(...)``."""
    if "$(" not in text or not _KEYWORD.search(text):
        return text
    parts, position = [], 0
    while (start := text.find("$(", position)) >= 0:
        depth, end = 0, start + 1
        for end in range(start + 1, len(text)):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            if depth == 0:
                break
        parts += [text[position:start], rewrite_keywords(text[start : end + 1])]
        position = end + 1
    return "".join(parts) + text[position:]


class ThermoOutput:
    """Remembers the script's ``thermo_style`` and ``thermo_modify`` and repeats them with redirected columns."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self.reset()

    def reset(self) -> None:
        """As LAMMPS starts, and after ``clear``."""
        self._style: list[str] = ["one"]
        self._modify: list[list[Word]] = []
        self._applied: list[str] | None = None

    def set_style(self, words: list[Word]) -> None:
        """``thermo_style`` was given; it resets ``thermo_modify``."""
        self._style = [word.text for word in words[1:]]
        self._modify = []
        self._applied = None

    def modify(self, words: list[Word]) -> None:
        """``thermo_modify`` was given."""
        self._modify.append(words[1:])

    def prepare_run(self, box_changes: bool) -> None:
        """Before a run with ACE: issue the redirected ``thermo_style`` if the script's own shows pair energies."""
        name, *keywords = self._style or ["one"]
        line = None
        if name in _STYLES:
            fixed, line = _STYLES[name]
            keywords = [*fixed, *(["vol"] if box_changes else [])]
        columns = {index: _COLUMN[key] for index, key in enumerate(keywords, start=1) if key in _COLUMN}
        if not columns or keywords == self._applied:
            return
        command = self._interpreter.library.command
        command(f"thermo_style custom {' '.join(rewrite_keywords(key) for key in keywords)}  # aceal-lmp: {name}")
        if line not in (None, "one"):
            command(f"thermo_modify line {line}")
        for index, column in columns.items():
            command(f"thermo_modify colname {index} {column}")
        for words in self._modify:
            command(f"thermo_modify {join_words(words)}")
        self._applied = keywords


def rewrite_variable(text: str) -> str | None:
    """``variable NAME equal|atom|vector FORMULA`` with redirected keywords, or None if it has none."""
    words = split_words(text)
    if len(words) < 4 or words[2].text not in ("equal", "atom", "vector") or not _KEYWORD.search(text):
        return None
    head = join_words(words[:3])
    return f"{head} {join_words(Word(rewrite_keywords(word.text), word.quote) for word in words[3:])}"
