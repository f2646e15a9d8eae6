"""Configurations in files: one reader and one writer for every command, with errors that name file, structure and atom.

Labels sit where ASE puts them (``SinglePointCalculator``) or under keys the caller names. Units: eV, Angstrom,
eV/Angstrom, eV/Angstrom^3; stress is ASE's Voigt order (xx, yy, zz, yz, xz, xy), positive under tension.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from .atomic import open_whole
from .dataframes import is_dataframe, read_dataframe
from .dft_output import format_of, output_files, read_output
from .errors import AceError, NotFiniteError
from .extxyz import format_frame, iter_extxyz
from .label_names import LabelNames

log = logging.getLogger(__name__)

#: Positions and cells are compared on this grid (Angstrom) when configurations are identified.
HASH_GRID = 1e-5

_DATABASES = (".db", ".aselmdb")


def configuration_hash(atoms: Atoms) -> str:
    """Content hash of a configuration: 32 hex characters.

    Made of the atomic numbers, the positions and cell on a grid of ``HASH_GRID`` Angstrom, and the periodicity, in the
    order of the atoms. Labels, info and arrays do not enter; a translated or reordered copy is another configuration.
    """
    digest = hashlib.sha256()
    digest.update(np.asarray(atoms.numbers, dtype="<i4").tobytes())
    for values in (atoms.positions, np.asarray(atoms.cell)):
        # integers, so that -0.0 and 0.0 are the same
        digest.update(np.rint(np.asarray(values) / HASH_GRID).astype("<i8").tobytes())
    digest.update(np.asarray(atoms.pbc, dtype="<i1").tobytes())
    return digest.hexdigest()[:32]


def get_labels(atoms: Atoms) -> tuple[float | None, np.ndarray | None, np.ndarray | None]:
    """Stored labels of a configuration: (energy, forces [n, 3], stress [6]), ``None`` for each that is absent.

    Never starts a calculation: only results that are stored on the calculator count.

    :raises AceError: a label is not numbers, or not as many as it should be.
    """
    results = getattr(atoms.calc, "results", None) or {}
    energy, forces, stress = (_numbers(name, results.get(name)) for name in ("energy", "forces", "stress"))
    if energy is not None and energy.size != 1:
        raise AceError(f"the energy has {energy.size} numbers, but one is expected")
    return None if energy is None else float(energy.ravel()[0]), forces, None if stress is None else _voigt(stress)


def _numbers(name: str, value: Any) -> np.ndarray | None:
    try:
        return None if value is None else np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise AceError(f"the label '{name}' is not numbers but {value!r:.60}") from None


def _voigt(stress: np.ndarray) -> np.ndarray:
    if stress.shape == (6,):
        return stress
    if stress.size != 9:
        raise AceError(f"the stress has {stress.size} numbers, but 6 or 9 are expected")
    matrix = stress.reshape(3, 3)
    return np.array([matrix[0, 0], matrix[1, 1], matrix[2, 2], matrix[1, 2], matrix[0, 2], matrix[0, 1]])


def read_configurations(
    path: str | Path | Sequence[str | Path],
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    require: Iterable[str] = (),
    say: Callable[[str], None] | None = None,
) -> list[Atoms]:
    """Read all configurations of one file, or of several in the order given.

    :param path: extended XYZ, ASE data base (``.db``), a pickled data frame of pacemaker (nothing in it is run), an
        output of VASP or Quantum ESPRESSO or a folder with such outputs (converged ionic steps), or any other format
        that ``ase.io`` knows.
    :param energy_key: name in ``info`` that holds the energy (eV); default: ASE's usual place, or one of the usual
        names (:mod:`aiida_aceal.common.label_names`).
    :param forces_key: name in ``arrays`` that holds the forces (eV/Angstrom).
    :param stress_key: name in ``info`` that holds the stress (eV/Angstrom^3, 6 or 3x3 numbers).
    :param require: labels (``energy``, ``forces``, ``stress``) that every configuration must have.
    :param say: takes a line on names of labels that were taken and on what was left out; default: the log.
    :raises AceError: missing or empty file, unreadable frame, label under no such key or under several with different
        values, wrong shape, number not finite.
    """
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    configurations: list[Atoms] = []
    for one in paths:
        configurations.extend(iter_configurations(one, energy_key, forces_key, stress_key, require, say))
    if not configurations:
        raise AceError("no configurations were given: name at least one file with structures")
    return configurations


def iter_configurations(
    path: str | Path,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    require: Iterable[str] = (),
    say: Callable[[str], None] | None = None,
) -> Iterator[Atoms]:
    """As :func:`read_configurations` for one file, but frame by frame: for files larger than memory."""
    path = Path(path)
    require = tuple(require)
    index = -1
    keys = {"energy": energy_key, "forces": forces_key, "stress": stress_key}
    say = say or log.info
    names = LabelNames(keys)
    for index, atoms in enumerate(_frames(path, keys, say)):
        where = f"{path}, structure {index}"
        names.settle(atoms, where)
        check_configuration(atoms, where)
        labels = dict(zip(("energy", "forces", "stress"), get_labels(atoms)))
        missing = [name for name in require if labels[name] is None]
        if missing:
            found = [key for key in (*atoms.info, *atoms.arrays) if key not in ("numbers", "positions")]
            raise AceError(f"{where}: no {' and no '.join(missing)}; label it, or name its key (found: {found})")
        yield atoms
    if index < 0:
        raise AceError(f"{path}: the file holds no structures")
    if names.line():
        say(f"{path}: {names.line()}")


def _frames(path: Path, keys: dict[str, str | None], say: Callable[[str], None]) -> Iterator[Atoms]:
    """Structures of a file or folder as they stand in it."""
    if path.is_dir():
        for file in output_files(path):
            for atoms in read_output(file, say):
                atoms.info["source"] = f"{file.relative_to(path.parent)}#{atoms.info.pop('step')}"
                yield atoms
        return
    if not path.is_file():
        raise AceError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise AceError(f"{path}: the file is empty")
    if is_dataframe(path):
        yield from read_dataframe(path, keys, say)
        return
    if format_of(path) is not None:
        for atoms in read_output(path, say):
            atoms.info["source"] = f"{path.name}#{atoms.info.pop('step')}"
            yield atoms
        return
    # ASE raises whatever its parsers stumble on (KeyError, IndexError, ...): all mean that the file is bad
    index = 0
    try:
        if path.suffix in _DATABASES:
            from ase.db import connect

            with connect(str(path)) as database:
                for row in database.select():
                    atoms = row.toatoms()
                    atoms.info.update(row.key_value_pairs)
                    yield atoms
                    index += 1
        elif path.suffix in (".xyz", ".extxyz"):
            yield from iter_extxyz(path)
        else:
            from ase.io import iread

            for atoms in iread(str(path), index=":", do_not_split_by_at_sign=True):
                yield atoms
                index += 1
    except (AceError, GeneratorExit):
        raise
    except Exception as error:
        raise AceError(f"{path}: structure {index} cannot be read ({type(error).__name__}: {error})") from error


def check_configuration(atoms: Atoms, where: str) -> None:
    """Raise :class:`AceError` (`NotFiniteError`) unless numbers are finite, of the right shape; ``where`` is first."""
    n_atoms = len(atoms)
    if n_atoms == 0:
        raise AceError(f"{where}: it has no atoms")
    if np.any(atoms.numbers < 1):
        atom = int(np.argmax(atoms.numbers < 1))
        raise AceError(f"{where}: atom {atom} has no chemical element; write element symbols into the file")
    _check_finite(atoms.positions, where, "position")
    if not np.all(np.isfinite(np.asarray(atoms.cell))):
        raise NotFiniteError(f"{where}: the cell holds a number that is not finite")
    lengths = np.linalg.norm(np.asarray(atoms.cell), axis=1)
    if np.any(atoms.pbc & (lengths == 0)):
        raise AceError(f"{where}: periodic along an axis whose cell vector is zero; give the cell or set pbc to F")
    try:
        energy, forces, stress = get_labels(atoms)
    except AceError as error:
        raise type(error)(f"{where}: {error}; remove or relabel this structure") from None
    if energy is not None and not np.isfinite(energy):
        raise NotFiniteError(f"{where}: the energy is {energy}; remove or relabel this structure")
    if forces is not None:
        if forces.shape != (n_atoms, 3):
            raise AceError(f"{where}: forces have shape {forces.shape}, expected ({n_atoms}, 3)")
        _check_finite(forces, where, "force")
    if stress is not None and not np.all(np.isfinite(stress)):
        raise NotFiniteError(f"{where}: the stress holds a number that is not finite; remove or relabel this structure")


def _check_finite(values: np.ndarray, where: str, name: str) -> None:
    bad = ~np.all(np.isfinite(values), axis=1)
    if np.any(bad):
        atom = int(np.argmax(bad))
        raise NotFiniteError(
            f"{where}: the {name} of atom {atom} is not finite ({values[atom].tolist()}); "
            "remove or relabel this structure"
        )


def check_elements(configurations: Iterable[Atoms], elements: Iterable[str], where: str = "the configurations") -> None:
    """Raise :class:`AceError` that names the first structure with an element the potential does not know."""
    known = tuple(elements)
    for index, atoms in enumerate(configurations):
        message = unknown_elements(atoms.symbols, known)
        if message:
            raise AceError(f"{where}, structure {index}: {message}")


def unknown_elements(found: Iterable[str], known: Iterable[str]) -> str | None:
    """What is wrong if ``found`` has elements that a potential of the elements ``known`` does not know; else None."""
    foreign = sorted(set(found) - set(known))
    if not foreign:
        return None
    return f"element {', '.join(foreign)} is unknown to the potential (it knows {', '.join(sorted(known))})"


def write_configurations(path: str | Path, configurations: Iterable[Atoms]) -> int:
    """Write extended XYZ that reads back bit by bit; returns the number of configurations written.

    ASE's own writer rounds to 8 decimals, which changes the content hash; numbers are written here in the shortest
    form that gives back the same double. The file appears under its name when it is complete.
    """
    count = 0
    with open_whole(path) as handle:
        for atoms in configurations:
            try:
                text = format_extxyz(atoms)
            except AceError as error:
                raise AceError(f"{path}, structure {count}: {error}") from error
            handle.write(text)
            count += 1
    return count


def format_extxyz(atoms: Atoms) -> str:
    """One configuration as extended XYZ text, labels included.

    :raises AceError: an entry of ``info`` or ``arrays`` that would not come back as it is.
    """
    return format_frame(atoms, *get_labels(atoms))
