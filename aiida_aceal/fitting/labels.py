"""Labelled structures as a fit sees them: energies, forces and virials taken from ASE's usual place and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError, NotFiniteError


@dataclass
class LabelledSet:
    """Checked labels of structures.

    ``energies`` [M] eV; ``forces`` list of [n, 3] eV/Angstrom or None where absent; ``virials`` list of [6]
    (dE/dstrain = stress x volume: xx, yy, zz, xy, xz, yz; eV) or None; ``counts`` [M, elements] atoms of each element.
    """

    structures: list[Atoms]
    names: list[str]
    elements: tuple[str, ...]
    energies: np.ndarray
    forces: list[np.ndarray | None]
    virials: list[np.ndarray | None]
    counts: np.ndarray
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms of each structure, [M]."""
        return self.counts.sum(1)

    def subset(self, indices: np.ndarray) -> LabelledSet:
        """The structures ``indices`` in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        pick = [int(i) for i in indices]
        return LabelledSet(
            [self.structures[i] for i in pick],
            [self.names[i] for i in pick],
            self.elements,
            self.energies[indices],
            [self.forces[i] for i in pick],
            [self.virials[i] for i in pick],
            self.counts[indices],
            self.kept[indices],
        )


def collect_labels(
    structures: Sequence[Atoms],
    elements: Sequence[str],
    forces: bool = True,
    virial: bool = False,
    missing_forces: str = "error",
    names: Sequence[str] | None = None,
    what: str = "training set",
) -> LabelledSet:
    """Check and collect the labels of ``structures``.

    Parameters
    ----------
    elements
        Elements of the potential.
    forces, virial
        Which labels beside the energy are wanted.
    missing_forces
        ``error``, or ``skip``: a structure without forces counts with its energy alone.
    names
        How messages call each structure; default "training set, structure 3".

    Raises
    ------
    AceError
        Empty set, unknown element, label missing, of wrong shape or not finite; the message names the structure.
    """
    structures = list(structures)
    if not structures:
        raise AceError(f"the {what} is empty; give at least one labelled structure")
    names = [f"{what}, structure {k}" for k in range(len(structures))] if names is None else list(names)
    index = {el: k for k, el in enumerate(elements)}
    energies = np.empty(len(structures))
    counts = np.zeros((len(structures), len(index)), dtype=np.int64)
    all_forces, all_virials = [], []
    for k, (atoms, name) in enumerate(zip(structures, names)):
        symbols = atoms.get_chemical_symbols()
        if not symbols:
            raise AceError(f"{name}: it has no atoms; remove it")
        foreign = sorted(set(symbols) - set(index))
        if foreign:
            raise AceError(
                f"{name}: element {', '.join(foreign)} is not in the potential ({', '.join(elements)}); "
                "remove the structure or build a potential with this element"
            )
        for symbol in symbols:
            counts[k, index[symbol]] += 1
        if not np.isfinite(atoms.positions).all() or not np.isfinite(np.asarray(atoms.cell)).all():
            raise NotFiniteError(f"{name}: positions or cell are not finite; remove the structure")
        results = getattr(atoms.calc, "results", None) or {}
        energies[k] = _energy(results, name)
        all_forces.append(_forces(results, len(atoms), name, missing_forces == "error") if forces else None)
        all_virials.append(_virial(results, atoms, name) if virial else None)
    return LabelledSet(
        structures, names, tuple(elements), energies, all_forces, all_virials, counts, np.arange(len(structures))
    )


def _energy(results: Mapping, name: str) -> float:
    energy = results.get("energy")
    if energy is None:
        raise AceError(f"{name}: no energy label; label it, or name the key of the energy (energy_key)")
    if not np.isfinite(energy):
        raise NotFiniteError(f"{name}: the energy is {energy}; remove or relabel the structure")
    return float(energy)


def _forces(results: Mapping, n: int, name: str, required: bool) -> np.ndarray | None:
    forces = results.get("forces")
    if forces is None:
        if required:
            raise AceError(
                f"{name}: no forces; label it with forces, name their key (forces_key), "
                "or set weights.missing_forces: skip to use its energy alone"
            )
        return None
    forces = np.asarray(forces, dtype=float)
    if forces.shape != (n, 3):
        raise AceError(f"{name}: forces have shape {forces.shape}, expected ({n}, 3); relabel the structure")
    bad = ~np.isfinite(forces).all(1)
    if bad.any():
        atom = int(np.argmax(bad))
        raise NotFiniteError(
            f"{name}: the force on atom {atom} is not finite ({forces[atom].tolist()}); remove or relabel the structure"
        )
    return forces


def _virial(results: Mapping, atoms: Atoms, name: str) -> np.ndarray | None:
    """dE/dstrain from the stress; None for structures that have no volume or no stress."""
    stress = results.get("stress")
    if stress is None or atoms.cell.rank < 3 or not atoms.pbc.all():
        return None
    stress = np.asarray(stress, dtype=float)
    if stress.shape == (3, 3):
        stress = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if stress.shape != (6,) or not np.isfinite(stress).all():
        raise AceError(f"{name}: the stress is not six finite numbers ({stress.tolist()}); relabel the structure")
    return stress[[0, 1, 2, 5, 4, 3]] * atoms.get_volume()


def reference_energies(data: LabelledSet, mode: str | Mapping[str, float]) -> dict[str, float]:
    """Energy of a free atom of each element, eV.

    ``mode``: ``none`` (zero), ``isolated`` (one-atom structures of the data without neighbours: not periodic, or all
    cell vectors longer than 8 Angstrom), ``fit`` or ``joint`` (least squares of the energies on the composition, least
    norm where the compositions do not tell elements apart), or a mapping element -> eV.

    Raises
    ------
    AceError
        If an element that occurs is missing in the mapping or has no isolated atom.
    """
    elements = data.elements
    present = [el for k, el in enumerate(elements) if data.counts[:, k].any()]
    if isinstance(mode, Mapping):
        missing = [el for el in present if el not in mode]
        if missing:
            raise AceError(f"reference_energies: no value for {', '.join(missing)}; give one, or use fit")
        return {el: float(mode[el]) for el in elements if el in mode}
    if mode == "none":
        return {}
    if mode == "isolated":
        found = {}
        for k, atoms in enumerate(data.structures):
            if is_isolated(atoms):
                found.setdefault(atoms.get_chemical_symbols()[0], float(data.energies[k]))
        missing = [el for el in present if el not in found]
        if missing:
            raise AceError(
                f"reference_energies: isolated, but the data hold no isolated atom of {', '.join(missing)}; "
                "add one (one atom in a cell wider than 8 Angstrom), give the value, or use fit"
            )
        return found
    weights = 1.0 / data.n_atoms
    solution = np.linalg.lstsq(data.counts * weights[:, None], data.energies * weights, rcond=1e-8)[0]
    return {el: float(e) for el, e in zip(elements, solution) if el in present}


def is_isolated(atoms: Atoms) -> bool:
    """Whether it is one atom that is not periodic, or in a cell with all vectors longer than 8 Angstrom."""
    wide = np.linalg.norm(np.asarray(atoms.cell), axis=1) > 8.0
    return len(atoms) == 1 and bool((wide | ~atoms.pbc).all())


def reference_sum(data: LabelledSet, energies: Mapping[str, float]) -> np.ndarray:
    """Sum of the reference energies of each structure's atoms, eV [M]."""
    return data.counts @ np.array([energies.get(el, 0.0) for el in data.elements])
