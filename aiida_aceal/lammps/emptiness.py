"""Emptiness of the frames of a run: what a native LAMMPS cannot know of atoms that left their neighbours.

ML-PACE gives such atoms gamma 0, so a native run neither dumps a frame nor halts because of them. Its frames are
graded here, from distances alone. ``aceal-lmp`` has the same floor in its gamma already; grading again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiida_aceal.ace.coordination import coordination_of
from aiida_aceal.common.errors import AceError
from aiida_aceal.uncertainty.emptiness import Emptiest, mark, missing_note

from .dumps import Frame


class FrameEmptiness:
    """Grades frames and remembers what it found.

    :param potential: its elements and cutoffs are used.
    :param records: element -> the emptiest environments learnt, None if unknown.
    """

    def __init__(self, potential: Any, records: Mapping[str, Emptiest | None]) -> None:
        self.potential, self.records = potential, dict(records)
        self.note = missing_note(self.records)
        self._found: dict[int, tuple[float, int]] = {}  # step -> largest emptiness, atoms

    def grade(self, frames: Sequence[Frame]) -> bool:
        """Raise gamma of the frames where emptiness is above 1, with the reason in their info; whether in any."""
        if all(record is None for record in self.records.values()):
            return False
        flagged = False
        for frame in frames:
            atoms = frame.atoms
            try:
                emptiness = self._of(atoms)
            except AceError:  # two atoms at one place: what is wrong with this frame is no matter of emptiness
                continue
            self._found[frame.step] = float(emptiness.max(initial=0.0)), int((emptiness > 1.0).sum())
            if mark(atoms.info, emptiness):
                flagged = True
                gamma = atoms.arrays.get("gamma", np.zeros(len(atoms)))
                atoms.set_array("gamma", np.where(emptiness > 1.0, np.maximum(gamma, emptiness), gamma))
        return flagged

    def _of(self, atoms: Any) -> np.ndarray:
        coordination = coordination_of(atoms, self.potential)
        symbols = np.array(atoms.get_chemical_symbols())
        emptiness = np.zeros(len(atoms))
        for element in set(symbols):
            record = self.records.get(element)
            if record is not None:
                emptiness[symbols == element] = record.emptiness(coordination[symbols == element])
        return emptiness

    @property
    def largest(self) -> float | None:
        """Largest emptiness above 1 of all frames graded."""
        return max((value for value, count in self._found.values() if count), default=None)

    def report(self) -> dict[str, Any]:
        """Plain facts: how many frames were looked at, which step was the first of those flagged, the largest value."""
        flagged = {step: found for step, found in self._found.items() if found[1]}
        return {
            "n_frames_checked": len(self._found),
            "n_frames_emptier": len(flagged),
            "first_step": min(flagged, default=None),
            "largest": self.largest,
            "n_atoms": max((count for _, count in flagged.values()), default=0),
            "checked": "the frames dumped above gamma_lo and the last frame (a native LAMMPS gives atoms that leave "
            "gamma 0 and does not halt for them; aceal-lmp grades them at every gamma step)",
            "note": self.note,
        }
