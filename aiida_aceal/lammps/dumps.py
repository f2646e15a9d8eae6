"""Reading LAMMPS ``dump custom`` files into `ase.Atoms`, also files that end in the middle of a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols

from aiida_aceal.common.errors import AceError

GAMMA_COLUMN = "f_pace_gamma"
#: Angstrom/ps (``units metal``) in ASE's unit of velocity
_VELOCITY = 1.0 / (1000.0 * units.fs)
#: coordinates a dump may have, best first: column prefix/suffix, whether scaled by the box
_COORDINATES = (
    (("x", "y", "z"), False),
    (("xu", "yu", "zu"), False),
    (("xs", "ys", "zs"), True),
    (("xsu", "ysu", "zsu"), True),
)
_OTHER = {"id", "type", "element", "mass", "vx", "vy", "vz", "fx", "fy", "fz"}


class Frame(NamedTuple):
    """One snapshot: time step and structure."""

    step: int
    atoms: Atoms

    @property
    def is_sound(self) -> bool:
        """Whether positions, cell and gamma are finite and the cell has a volume; frames of a run that blew up are not.

        They are read all the same, so that they can be counted and the run be judged by them.
        """
        cell = np.asarray(self.atoms.cell)
        parts = (self.atoms.positions, cell, self.atoms.arrays.get("gamma", np.zeros(1)))
        return all(np.isfinite(part).all() for part in parts) and bool(abs(np.linalg.det(cell)) > 1e-10)


class Dump(NamedTuple):
    """Frames of a file in its order; ``complete`` is False if the last one was cut off and left out."""

    frames: list[Frame]
    complete: bool


class _Truncated(Exception):
    """The file ends inside a frame."""


class _Lines:
    """Lines of a file with their numbers; a line without line end counts as not written."""

    def __init__(self, stream: TextIO, path: Path) -> None:
        self._stream = stream
        self.path = path
        self.number = 0

    def next(self, at_frame: bool = False) -> str | None:
        """The next line; at the end of the file None if a frame may end here."""
        line = self._stream.readline()
        self.number += 1
        if not line and at_frame:
            return None
        if not line.endswith("\n"):
            raise _Truncated
        return line.strip()

    def take(self, count: int) -> list[list[str]]:
        return [self.next().split() for _ in range(count)]

    def problem(self, message: str) -> AceError:
        return AceError(f"{self.path}, line {self.number}: {message}: not a LAMMPS 'dump custom' text file, or damaged")


def read_dump(path: str | Path, type_map: Sequence[str] | None = None, gamma_column: str = GAMMA_COLUMN) -> Dump:
    """Read all frames of a text dump (``units metal``).

    Atoms are sorted by ``id``. Arrays of the structures: ``gamma`` [n] from ``gamma_column``, ``ace_forces`` [n, 3]
    eV/Angstrom from ``fx fy fz`` (a name of their own: they are no labels), further columns under their own names;
    velocities are ASE's. ``info['step']`` is the time step. The origin of the box is the origin of the coordinates.

    :param type_map: element of each LAMMPS type in order; not needed if the dump has a column ``element``
    :raises AceError: when the file cannot be read or is no such dump; a cut-off last frame is not an error
    """
    path = Path(path)
    frames: list[Frame] = []
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            lines = _Lines(stream, path)
            try:
                for frame in _frames(lines, type_map, gamma_column):
                    frames.append(frame)
            except _Truncated:
                return Dump(frames, False)
    except OSError as error:
        raise AceError(f"cannot read LAMMPS dump {path}: {error.strerror}") from error
    return Dump(frames, True)


def _frames(lines: _Lines, type_map: Sequence[str] | None, gamma_column: str) -> Iterator[Frame]:
    step = count = box = None
    while (line := lines.next(at_frame=True)) is not None:
        if line == "ITEM: TIMESTEP":
            step = _integer(lines, lines.next())
        elif line == "ITEM: NUMBER OF ATOMS":
            count = _integer(lines, lines.next())
        elif line.startswith("ITEM: BOX BOUNDS"):
            box = _box(lines, line.split()[3:])
        elif line in ("ITEM: UNITS", "ITEM: TIME"):
            lines.next()
        elif line.startswith("ITEM: ATOMS"):
            if step is None or count is None or box is None:
                raise lines.problem("atoms before the header of a frame")
            yield Frame(step, _atoms(lines, line.split()[2:], count, box, type_map, gamma_column, step))
            step = count = box = None
        elif line:
            raise lines.problem(f"unexpected line '{line[:40]}'")
    if step is not None:
        raise _Truncated


def _integer(lines: _Lines, word: str) -> int:
    if not re.fullmatch(r"\d{1,18}", word, re.ASCII):
        raise lines.problem(f"'{word[:40]}' is not a number")
    return int(word)


def _box(lines: _Lines, words: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cell [3, 3], origin [3], pbc [3]) from the three forms of the header: orthogonal, tilted, general."""
    rows = lines.take(3)
    try:
        values = np.array(rows, dtype=float)
    except ValueError:
        raise lines.problem("bad box bounds") from None
    pbc = np.array([word == "pp" for word in words[-3:]]) if len(words) >= 3 else np.ones(3, dtype=bool)
    if values.shape == (3, 2):
        return np.diag(values[:, 1] - values[:, 0]), values[:, 0], pbc
    if values.shape == (3, 4):  # "abc origin": general triclinic vectors
        return values[:, :3], values[:, 3], pbc
    if values.shape != (3, 3):
        raise lines.problem("bad box bounds")
    xy, xz, yz = values[:, 2]
    low, high = values[:, 0].copy(), values[:, 1].copy()
    # bounds enclose the tilted box
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    lengths = high - low
    return np.array([[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]]), low, pbc


def _atoms(lines, columns, count, box, type_map, gamma_column, step) -> Atoms:
    cell, origin, pbc = box
    if len(set(columns)) != len(columns):
        raise lines.problem("a column occurs twice")
    rows = lines.take(count)
    if any(len(row) != len(columns) for row in rows):
        raise lines.problem(f"a row of {count} atoms does not have {len(columns)} columns")
    table = {name: [row[k] for row in rows] for k, name in enumerate(columns)}
    text = {name: table.pop(name) for name in ("element",) if name in table}
    try:
        data = {name: np.array(values, dtype=float) for name, values in table.items()}
    except ValueError:
        raise lines.problem("a value is not a number") from None
    order = np.argsort(data["id"], kind="stable") if "id" in data else np.arange(count)
    data = {name: values[order] for name, values in data.items()}

    for names, scaled in _COORDINATES:
        if all(name in data for name in names):
            coordinates = np.stack([data[name] for name in names], axis=1)
            positions = coordinates @ cell if scaled else coordinates - origin
            break
    else:
        raise lines.problem("no coordinates (x y z, xu yu zu, xs ys zs or xsu ysu zsu)")
    symbols = _symbols(lines, text, data, order, type_map)
    atoms = Atoms(symbols, positions=positions, cell=cell, pbc=pbc)
    if all(name in data for name in ("vx", "vy", "vz")):
        atoms.set_velocities(np.stack([data[name] for name in ("vx", "vy", "vz")], axis=1) * _VELOCITY)
    if all(name in data for name in ("fx", "fy", "fz")):
        atoms.set_array("ace_forces", np.stack([data[name] for name in ("fx", "fy", "fz")], axis=1))
    used = _OTHER.union(names)
    for name, values in data.items():
        if name == gamma_column:
            atoms.set_array("gamma", values)
        elif name not in used:
            atoms.set_array(name, values)
    atoms.info["step"] = step
    return atoms


def _symbols(lines, text, data, order, type_map) -> list[str]:
    if "element" in text:
        names = [text["element"][k] for k in order]
        unknown = set(names) - set(chemical_symbols)
        if not unknown:
            return names
        if type_map is None:
            raise lines.problem(f"'{sorted(unknown)[0]}' is not an element; give type_map")
    if "type" not in data:
        raise lines.problem("no column 'element' or 'type'")
    if type_map is None:
        raise AceError(f"{lines.path}: the dump has no elements, so type_map must name the element of each type")
    kinds = data["type"]
    wrong = kinds[(kinds < 1) | (kinds > len(type_map)) | (kinds != np.rint(kinds))]
    if len(wrong):
        raise AceError(f"{lines.path}: atom type {wrong[0]:g} has no element in type_map {list(type_map)}")
    return [type_map[kind - 1] for kind in kinds.astype(int)]
