"""Free coordinates of a structure, and the penalties that keep it physical while its grade is driven up or down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import atomic_numbers
from ase.geometry import get_distances
from pydantic import field_validator, model_validator

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.settings import Settings, is_integer, is_number, setting

from .distances import DEFAULT_FRACTION, Pair, minimum_distances, neighbor_pairs, short_pairs

#: below this excess (A) the penalty is quadratic, so that gradient methods meet no kink
_ROUNDING = 0.01
#: length (A) that makes a strain a coordinate of the same size as a displacement
_STRAIN_LENGTH = 10.0


class Constraints(Settings):
    """What may move, and how far.

    Atoms held by an ``ase.constraints.FixAtoms`` never move.
    """

    minimum_distance: float | dict[str, float] | None = setting(
        None, "Shortest distance, for all pairs or by pair {Cu-I: 2.1}; by default from covalent radii.", unit="A", ge=0
    )
    fraction: float = setting(
        DEFAULT_FRACTION, "Default of minimum_distance, as a fraction of the sum of the covalent radii.", ge=0
    )
    penalty: float = setting(1000.0, "Penalty per A of violation, in units of gamma (as in published settings).", gt=0)
    free: Literal["all"] | tuple[int, ...] | dict[str, Any] = setting(
        "all", "Atoms that may move: all, indices, {elements: [O]} or {around: index, radius: A}.",
        allowed="'all', a list of atom indices, {'elements': [...]}, or {'around': index, 'radius': A}",
    )  # fmt: skip
    max_displacement: float | None = setting(
        None, "Largest distance of a free atom from its starting point; null: no limit.", unit="A", gt=0
    )
    connected: float | None = setting(
        None, "Largest distance of a free atom to its nearest neighbour, which keeps clusters together.", unit="A", gt=0
    )
    cell: Literal["fixed", "free"] = setting("fixed", "free: the cell is strained as well, up to max_strain.")
    max_strain: float = setting(0.1, "Largest component of the strain of a free cell.", gt=0)

    @model_validator(mode="after")
    def _distances(self) -> Constraints:
        minimum_distances((), self.minimum_distance, self.fraction)
        return self

    @field_validator("free")
    @classmethod
    def _free(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            if set(value) == {"elements"}:
                good = isinstance(value["elements"], (list, tuple)) and all(
                    e in atomic_numbers for e in value["elements"]
                )
            else:
                good = set(value) == {"around", "radius"} and is_integer(value["around"]) and is_number(value["radius"])
            if not good:
                raise ValueError("free")
        return value


def free_mask(atoms: Atoms, free: Any) -> np.ndarray:
    """Which atoms may move, [n] bool. Raises :class:`AceError` if none may."""
    n = len(atoms)
    if isinstance(free, str):
        mask = np.ones(n, dtype=bool)
    elif isinstance(free, Mapping) and "elements" in free:
        mask = np.isin(atoms.get_chemical_symbols(), list(free["elements"]))
    elif isinstance(free, Mapping):
        if not 0 <= int(free["around"]) < n:
            raise AceError(f"free: atom {free['around']} does not exist in a structure of {n} atoms")
        mask = atoms.get_distances(int(free["around"]), range(n), mic=True) <= float(free["radius"])
    else:
        mask = np.zeros(n, dtype=bool)
        indices = np.asarray(free, dtype=np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= n):
            raise AceError(f"free: atoms {indices.tolist()} do not all exist in a structure of {n} atoms")
        mask[indices] = True
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            mask[constraint.get_indices()] = False
    if not mask.any():
        raise AceError(f"{atoms.get_chemical_formula()}: no atom is free to move (free: {free!r})")
    return mask


def _huber(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Penalty per unit of weight and its derivative; zero where ``excess`` <= 0."""
    excess = np.maximum(excess, 0.0)
    small = excess < _ROUNDING
    return (
        np.where(small, excess**2 / (2 * _ROUNDING), excess - _ROUNDING / 2),
        np.where(small, excess / _ROUNDING, 1.0),
    )


@dataclass
class Coordinates:
    """Maps a vector x [size] to a structure and back. x = 0 is the start.

    Rigid motions that cannot change any environment (translations if all atoms are free, rotations too if the
    structure is not periodic) are left out of x, which saves a search without gradients six dimensions.
    """

    start: Atoms
    constraints: Constraints = field(default_factory=Constraints)

    def __post_init__(self) -> None:
        self.start = self.start.copy()
        self.mask = free_mask(self.start, self.constraints.free)
        self.cell_free = self.constraints.cell == "free"
        if self.cell_free and not self.start.pbc.any():
            raise AceError(f"cell: free, but {self.start.get_chemical_formula()} is not periodic")
        if self.cell_free and not self.mask.all():
            raise AceError("cell: free needs all atoms free: a strain would move the fixed ones")
        self.limits: dict[Pair, float] = minimum_distances(
            set(self.start.symbols), self.constraints.minimum_distance, self.constraints.fraction
        )
        self.basis = self._basis()
        self.size = self.basis.shape[1] + (6 if self.cell_free else 0)
        if self.size == 0:
            raise AceError(f"{self.start.get_chemical_formula()}: nothing can move that would change an environment")

    def _basis(self) -> np.ndarray:
        """Orthonormal directions [3 * n_free, m] of the free atoms without rigid motions."""
        n = int(self.mask.sum())
        if not self.mask.all():
            return np.eye(3 * n)
        rigid = [np.tile(np.eye(3)[axis], n) for axis in range(3)]
        if not self.start.pbc.any():
            centred = self.start.positions - self.start.positions.mean(axis=0)
            rigid += [np.cross(np.eye(3)[axis], centred).ravel() for axis in range(3)]
        left, values, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
        return left[:, int((values > 1e-8 * values.max()).sum()) :]

    def atoms(self, x: np.ndarray) -> Atoms:
        """Structure at x (copy of the start's species, cell and constraints)."""
        atoms = self.start.copy()
        m = self.basis.shape[1]
        atoms.positions[self.mask] += (self.basis @ x[:m]).reshape(-1, 3)
        if self.cell_free:
            atoms.set_cell(atoms.cell.array @ self._deformation(x), scale_atoms=False)
            atoms.positions[:] = atoms.positions @ self._deformation(x)
        return atoms

    def _deformation(self, x: np.ndarray) -> np.ndarray:
        xx, yy, zz, yz, xz, xy = x[self.basis.shape[1] :] / _STRAIN_LENGTH
        return np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    def gradient(self, x: np.ndarray, positions: np.ndarray, strain: np.ndarray) -> np.ndarray:
        """Derivative with respect to x from those with respect to positions [n, 3] and strain [3, 3] at x."""
        if not self.cell_free:
            return self.basis.T @ positions[self.mask].ravel()
        F = self._deformation(x)
        inner = self.basis.T @ (positions @ F.T)[self.mask].ravel()
        # r = u F, so a change dF is a further strain F^-1 dF of the present structure
        dF = np.linalg.inv(F).T @ strain
        s = (dF + dF.T) / _STRAIN_LENGTH
        return np.concatenate([inner, [s[0, 0] / 2, s[1, 1] / 2, s[2, 2] / 2, s[1, 2], s[0, 2], s[0, 1]]])

    def penalty(self, x: np.ndarray, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Penalty of all constraints and its derivative with respect to x, in units of gamma."""
        rules, weight = self.constraints, self.constraints.penalty
        on_atoms, strain, total = np.zeros((len(atoms), 3)), np.zeros((3, 3)), 0.0
        i, j, vector, limit = short_pairs(atoms, self.limits)
        if not self.mask.all():  # what is held is given
            moving = self.mask[i] | self.mask[j]
            i, j, vector, limit = i[moving], j[moving], vector[moving], limit[moving]
        if len(i):
            total += self._pairs(i, j, vector, limit, -1.0, 0.5 * weight, on_atoms, strain)
        if rules.connected is not None:
            i, j, vector = self._loose(atoms, rules.connected)
            total += self._pairs(i, j, vector, np.full(len(i), rules.connected), 1.0, weight, on_atoms, strain)
        result = self.gradient(x, on_atoms, strain)
        m = self.basis.shape[1]
        if rules.max_displacement is not None:
            shift = (self.basis @ x[:m]).reshape(-1, 3)
            length = np.linalg.norm(shift, axis=1)
            value, slope = _huber(length - rules.max_displacement)
            total += weight * value.sum()
            result[:m] += weight * (self.basis.T @ ((slope / np.maximum(length, 1e-12))[:, None] * shift).ravel())
        if self.cell_free:
            e = x[m:] / _STRAIN_LENGTH
            value, slope = _huber(_STRAIN_LENGTH * (np.abs(e) - rules.max_strain))
            total += weight * value.sum()
            result[m:] += weight * slope * np.sign(e)
        return float(total), result

    @staticmethod
    def _pairs(i, j, vector, limit, sign, weight, on_atoms, strain) -> float:
        """Adds weight * huber(sign * (d - limit)) of all pairs; returns their sum."""
        length = np.maximum(np.linalg.norm(vector, axis=1), 1e-9)
        value, slope = _huber(sign * (length - limit))
        force = (weight * sign * slope / length)[:, None] * vector
        np.add.at(on_atoms, j, force)
        np.add.at(on_atoms, i, -force)
        strain += vector.T @ force
        return float(weight * value.sum())

    def _loose(self, atoms: Atoms, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Free atoms without neighbour within ``reach``, with their nearest atom and the vector to it."""
        if len(atoms) < 2:
            empty = np.zeros(0, dtype=np.int64)
            return empty, empty, np.zeros((0, 3))
        alone = self.mask.copy()
        if atoms.pbc.any():
            alone[neighbor_pairs(atoms, reach)[0]] = False
            i = np.flatnonzero(alone)
            vectors, distance = get_distances(atoms.positions[i], atoms.positions, atoms.cell, atoms.pbc)
        else:
            i = np.flatnonzero(alone)
            vectors = atoms.positions[None, :, :] - atoms.positions[i, None, :]
            distance = np.linalg.norm(vectors, axis=2)
        distance[np.arange(len(i)), i] = np.inf
        j = np.argmin(distance, axis=1) if len(i) else i
        loose = distance[np.arange(len(i)), j] > reach
        return i[loose], j[loose], vectors[np.arange(len(i)), j][loose]
