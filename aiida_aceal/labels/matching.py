"""Labels that were computed elsewhere are laid on the structures that wait for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.configurations import get_labels
from aiida_aceal.common.errors import AceError
from aiida_aceal.common.words import counted

#: energies (eV) and forces (eV/A) that differ by more are two labels
_SAME = 1e-6


@dataclass(frozen=True)
class Matched:
    """Structures that were handed out, with the labels that came back (index -> structure), and where from."""

    labelled: dict[int, Atoms]
    places: dict[int, str]
    #: structures of files that belong to none, if that is allowed
    skipped: list[str]


def match_labels(
    wanted: Sequence[Atoms],
    returned: Iterable[tuple[str, Atoms]],
    tolerance: float = 2e-4,
    skip_unknown: bool = False,
) -> Matched:
    """Find the structure of each labelled frame.

    A frame belongs to a structure if it has the same elements, the same cell, and an atom within ``tolerance`` of every
    atom; order of atoms and periodic images may differ. A structure without a cell may have been put into a box.

    :param wanted: what was handed out
    :param returned: (place for messages, frame with labels)
    :param tolerance: Angstrom; the default admits files with four decimals
    :param skip_unknown: whether frames that belong to none are left out, instead of being refused
    :raises AceError: a frame belongs to none, lacks energy or forces, or two frames label one structure differently
    """
    labelled: dict[int, Atoms] = {}
    places: dict[int, str] = {}
    skipped: list[str] = []
    for place, frame in returned:
        index, order, near = _find(wanted, frame, tolerance)
        if index is None:
            if not skip_unknown:
                raise AceError(
                    f"{place}: is none of the {counted(len(wanted), 'structure')} that wait for labels ({near}); take "
                    "it out of the file, or give --skip-unknown"
                )
            skipped.append(place)
            continue
        new = _with_labels(wanted[index], frame, order, place)
        if index in labelled:
            _check_same(labelled[index], new, places[index], place)
            continue
        labelled[index], places[index] = new, place
    return Matched(labelled, places, skipped)


def _find(wanted: Sequence[Atoms], frame: Atoms, tolerance: float) -> tuple[int | None, np.ndarray | None, str]:
    """Index of the structure, its atoms in the frame, and otherwise what comes nearest, in words."""
    near, nearest = "no structure has these atoms", np.inf
    numbers = np.sort(frame.numbers)
    for index, atoms in enumerate(wanted):
        if len(atoms) != len(frame) or not np.array_equal(np.sort(atoms.numbers), numbers):
            continue
        boxed = atoms.cell.rank == 0
        off = 0.0 if boxed else float(np.abs(np.asarray(atoms.cell) - np.asarray(frame.cell)).max())
        if off > tolerance:
            if not np.isfinite(nearest):
                near = f"number {index} has the same atoms, but its cell differs by {off:.3g} A"
            continue
        if boxed:
            order, distance = _pairs_in_a_box(atoms, frame, tolerance)
        else:
            order, distance = _pairs(atoms, frame, frame.positions, tolerance)
        if distance <= tolerance:
            return index, order, ""
        if distance < nearest:
            nearest, near = distance, f"nearest is number {index}, of which an atom is {distance:.3g} A away"
    return None, None, near


def _pairs(atoms: Atoms, frame: Atoms, positions: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    """For each atom the one of the frame that lies there (int64 [n]), and the largest distance (infinite: none)."""
    periodic = np.asarray(atoms.pbc) | np.asarray(frame.pbc)
    cell = np.asarray(frame.cell) if frame.cell.rank == 3 else None

    def shifted(vectors: np.ndarray) -> np.ndarray:
        if cell is None:
            return vectors
        fractions = vectors @ np.linalg.inv(cell)
        fractions -= np.where(periodic, np.rint(fractions), 0.0)
        return fractions @ cell

    count = len(atoms)
    if np.array_equal(atoms.numbers, frame.numbers):
        distance = float(np.linalg.norm(shifted(positions - atoms.positions), axis=1).max())
        if distance <= tolerance:
            return np.arange(count), distance
    order, largest = np.full(count, -1), 0.0
    for number in np.unique(atoms.numbers):
        ours, theirs = np.flatnonzero(atoms.numbers == number), np.flatnonzero(frame.numbers == number)
        vectors = positions[theirs][None, :, :] - atoms.positions[ours][:, None, :]
        distances = np.linalg.norm(shifted(vectors.reshape(-1, 3)).reshape(vectors.shape), axis=2)
        nearest = distances.argmin(axis=1)
        order[ours] = theirs[nearest]
        largest = max(largest, float(distances.min(axis=1).max()))
    return order, largest if len(np.unique(order)) == count else np.inf


def _pairs_in_a_box(atoms: Atoms, frame: Atoms, tolerance: float) -> tuple[np.ndarray, float]:
    """As :func:`_pairs`, for a molecule that may have been moved as a whole."""
    best = (np.arange(len(atoms)), np.inf)
    for k in np.flatnonzero(frame.numbers == atoms.numbers[0]):
        moved = frame.positions - frame.positions[k] + atoms.positions[0]
        found = _pairs(atoms, frame, moved, tolerance)
        if found[1] < best[1]:
            best = found
    return best


def _with_labels(atoms: Atoms, frame: Atoms, order: np.ndarray, place: str) -> Atoms:
    """A copy of the structure with the labels of a frame."""
    try:
        energy, forces, stress = get_labels(frame)
    except AceError as error:
        raise AceError(f"{place}: {error}") from error
    missing = [name for name, value in (("energy", energy), ("forces", forces)) if value is None]
    if missing:
        raise AceError(f"{place}: has no {' and no '.join(missing)}; a label needs energy and forces")
    labels = {"energy": energy, "forces": np.asarray(forces)[order]}
    if stress is not None and np.all(atoms.pbc):
        labels["stress"] = np.asarray(stress)
    for name, values in labels.items():
        if not np.all(np.isfinite(values)):
            raise AceError(f"{place}: {name} not finite")
    new = atoms.copy()
    new.calc = SinglePointCalculator(new, **labels)
    new.info["label_source"] = place
    return new


def _check_same(one: Atoms, two: Atoms, place: str, other: str) -> None:
    (energy, forces, _), (energy_2, forces_2, _) = get_labels(one), get_labels(two)
    if abs(energy - energy_2) > _SAME or np.abs(forces - forces_2).max() > _SAME:
        raise AceError(
            f"{place} and {other} label the same structure differently (energies {energy:.6f} and {energy_2:.6f} eV): "
            "give only the one that counts"
        )
