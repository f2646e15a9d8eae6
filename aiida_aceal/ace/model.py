"""`AceModel`: evaluation of an ACE potential on structures and, for MD drivers, on neighbour lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from ase import Atoms
from threadpoolctl import ThreadpoolController

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.threads import thread_count

from . import derivatives
from .compile import CompiledSpecies, compile_species, with_coefficients
from .coordination import coordination_numbers
from .derivatives import Tangent
from .design import LinearSystem, design_arrays, design_rows
from .kernels import evaluate_atoms
from .neighbors import build_neighbors
from .potential import AcePotential

_NO_WEIGHTS = np.zeros((1, 1))


class Grader(Protocol):
    """What ``AceModel.active_set`` must offer.

    A method ``emptiness(element, coordination [N]) -> [N] or None`` is used as well where there is one: gamma is at
    least this number where it is above 1.
    """

    kind: str  # "linear" or "full"

    def grade(self, element: str, rows: np.ndarray) -> np.ndarray:
        """Extrapolation grade [N] of rows [N, K] (linear) or [N, P K] (full)."""


class AceArrays(NamedTuple):
    """Result of `AceModel.compute`; arrays that were not asked for are None.

    ``energies`` [n_local] eV; ``forces`` [n_all, 3] eV/Angstrom, ghosts included; ``virial`` [n_local, 6] dE_i/dstrain,
    eV (xx, yy, zz, xy, xz, yz); ``gamma`` [n_local]; ``projections`` [n_local, Kmax], NaN beyond K; ``emptiness``
    [n_local] comes with gamma: above 1 where the environment is emptier than any that the active set has learnt.
    """

    energies: np.ndarray
    forces: np.ndarray | None
    virial: np.ndarray | None
    gamma: np.ndarray | None
    projections: np.ndarray | None
    emptiness: np.ndarray | None = None


@dataclass
class AceResult:
    """Evaluation of one structure (eV, Angstrom). Arrays that were not asked for are None.

    ``virial`` is dE/dstrain (xx, yy, zz, xy, xz, yz); ``stress`` is ASE's Voigt form (xx, yy, zz, yz, xz, xy).
    The energy is that of the ACE alone: ``potential.reference_energies`` are not added. ``emptiness`` [n] comes with
    gamma (see `AceArrays`).
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray | None = None
    virial: np.ndarray | None = None
    stress: np.ndarray | None = None
    projections: np.ndarray | None = None
    gamma: np.ndarray | None = None
    emptiness: np.ndarray | None = None


class ProjectionRows(NamedTuple):
    """Rows [N, K] (or [N, P K]) of one element, structure, atom and smooth coordination number of each."""

    rows: np.ndarray
    structure: np.ndarray
    atom: np.ndarray
    coordination: np.ndarray


class AceModel:
    """Evaluator of a potential.

    Parameters
    ----------
    potential
        An `AcePotential`, or the path of a ``.yaml`` or ``.yace`` file.
    threads
        Number of threads; default: ``OMP_NUM_THREADS`` or all cores.
    chunk
        Atoms of one task; bounds the memory of projections during grading.
    tables
        ``exact``: radial functions to 1e-13. ``pacemaker``: the cubic tables of pacemaker and ML-PACE (bins of
        ``deltaSplineBins``), for comparison with these engines to the last digits.

    Raises
    ------
    AceError
        If the file is no potential, or a radial type cannot be evaluated.
    """

    def __init__(
        self,
        potential: AcePotential | str | Path,
        threads: int | None = None,
        chunk: int = 256,
        tables: Literal["exact", "pacemaker"] = "exact",
    ) -> None:
        if isinstance(potential, (str, Path)):
            potential = AcePotential.read(potential)
        self.potential = potential
        self.elements: tuple[str, ...] = tuple(potential.elements)
        self.cutoff: float = potential.cutoff
        self.threads = thread_count(threads)
        self.chunk = chunk
        self.active_set: Grader | None = None
        self.species: list[CompiledSpecies] = self._compile(
            potential, potential.delta_spline_bins if tables == "pacemaker" else None
        )
        self._index = {el: i for i, el in enumerate(self.elements)}
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self._blas = ThreadpoolController().select(user_api="blas")

    @staticmethod
    def _compile(potential: AcePotential, spacing: float | None) -> list[CompiledSpecies]:
        if hasattr(potential, "compile_species"):  # C-tilde potentials bring their own products
            return [potential.compile_species(el) for el in potential.elements]
        return [compile_species(potential, el, spacing) for el in potential.elements]

    @property
    def n_functions(self) -> dict[str, int]:
        """K_mu of each element."""
        return {s.element: s.arrays.n_functions for s in self.species}

    @property
    def n_densities(self) -> dict[str, int]:
        return {s.element: len(s.arrays.emb_w) for s in self.species}

    def with_coefficients(self, coefficients: Mapping[str, np.ndarray]) -> AceModel:
        """A model of the same basis with other coefficients (element -> [P, K]); tables and graphs are shared."""
        new = object.__new__(AceModel)
        new.__dict__.update(self.__dict__)
        new.potential = self.potential.with_coefficients(coefficients)
        new.species = [
            with_coefficients(s, new.potential.coefficients(s.element)) if s.element in coefficients else s
            for s in self.species
        ]
        return new

    # --- structures -------------------------------------------------------------------------------------------------
    def species_of(self, atoms: Atoms) -> np.ndarray:
        """Index into ``elements`` of each atom, int32 [n].

        Raises
        ------
        AceError
            If the structure has an element the potential does not know.
        """
        symbols = atoms.get_chemical_symbols()
        try:
            return np.array([self._index[s] for s in symbols], dtype=np.int32)
        except KeyError as error:
            raise AceError(
                f"element {error.args[0]} of {atoms.get_chemical_formula()} is not in the potential "
                f"({', '.join(self.elements)}); use a potential made for it"
            ) from None

    def evaluate(
        self, atoms: Atoms, forces: bool = True, stress: bool = True, projections: bool = False, gamma: bool = False
    ) -> AceResult:
        """Evaluate one structure; see `AceResult` for shapes and units.

        Raises
        ------
        AceError
            For unknown elements, non-finite positions, or ``gamma`` without an active set.
        """
        nb = build_neighbors(atoms, self.cutoff, self._pool, self.threads)
        species = self.species_of(atoms)[nb.owner]
        n = len(atoms)
        raw = self.compute(species, nb.positions, nb.first, nb.neighbors, n, forces or stress, gamma, projections)
        result = AceResult(float(raw.energies.sum()), raw.energies)
        result.projections, result.gamma, result.emptiness = raw.projections, raw.gamma, raw.emptiness
        if forces or stress:
            result.forces = fold(raw.forces, nb.owner, n)
            result.virial = raw.virial.sum(0)
            if stress:
                volume = abs(np.linalg.det(np.array(atoms.cell)))
                order = result.virial[[0, 1, 2, 5, 4, 3]]
                result.stress = order / volume if volume > 0 else np.full(6, np.nan)
        return result

    def evaluate_batch(self, structures: Sequence[Atoms], **what: bool) -> list[AceResult]:
        """`evaluate` for many structures; threads over structures."""
        if self._pool is None or len(structures) < 2:
            return [self.evaluate(atoms, **what) for atoms in structures]
        serial = self.single_threaded()
        return list(self._pool.map(lambda atoms: serial.evaluate(atoms, **what), structures))

    def single_threaded(self) -> AceModel:
        """This model for use inside one thread; everything is shared."""
        new = object.__new__(AceModel)
        new.__dict__.update(self.__dict__)
        new.threads, new._pool = 1, None
        return new

    def projections(self, structures: Iterable[Atoms], kind: str = "linear") -> dict[str, ProjectionRows]:
        """Rows of all atoms by element: B_i ("linear") or dE_i/dc ("full", before the core cutoff)."""
        self._require_basis()
        parts: dict[str, list] = {el: [] for el in self.elements}
        structures = list(structures)
        serial = self.single_threaded()

        def one(item: tuple[int, Atoms]) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
            index, atoms = item
            nb = build_neighbors(atoms, serial.cutoff)
            species = serial.species_of(atoms)
            out = []
            for s in np.unique(species):
                ids = np.flatnonzero(species == s)
                around = (species[nb.owner], nb.positions, nb.first, nb.neighbors)
                rows = serial._rows(s, ids, *around, kind)
                filled = serial._coordination(s, ids, *around)
                out.append((serial.elements[s], rows, np.full(len(ids), index), ids, filled))
            return out

        mapper = map if self._pool is None else self._pool.map
        for result in mapper(one, enumerate(structures)):
            for el, *columns in result:
                parts[el].append(columns)
        return {el: self._join(el, columns, kind) for el, columns in parts.items()}

    def _require_basis(self) -> None:
        if hasattr(self.potential, "compile_species"):
            raise AceError("a .yace has no B-basis and so no projections and no gamma; use the .yaml it was made from")

    def _join(self, element: str, columns: list, kind: str) -> ProjectionRows:
        width = self.n_functions[element] * (self.n_densities[element] if kind == "full" else 1)
        if not columns:
            none = np.zeros(0, dtype=np.int64)
            return ProjectionRows(np.zeros((0, width)), none, none, np.zeros(0))
        return ProjectionRows(*(np.concatenate(c) for c in zip(*columns)))

    def projection_gradient(self, atoms: Atoms, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient of s = sum_ik weights[i, k] B_ik: (ds/dr [n, 3], ds/dstrain [6]); weights [n, >= Kmax]."""
        nb = build_neighbors(atoms, self.cutoff)
        own = self.species_of(atoms)
        n = len(atoms)
        forces = np.zeros((len(nb.positions), 3))
        total = np.zeros(6)
        for s in np.unique(own):
            ids = np.flatnonzero(own == s)
            K = self.species[s].arrays.n_functions
            virial = np.zeros((len(ids), 6))
            evaluate_atoms(
                self.species[s].arrays, ids, own[nb.owner], nb.positions, nb.first, nb.neighbors, True, False, True,
                np.ascontiguousarray(weights[ids, :K], dtype=float), np.zeros(len(ids)), forces, virial, _NO_WEIGHTS,
                np.zeros((len(ids), self._P(s))),
            )  # fmt: skip
            total += virial.sum(0)
        return -fold(forces, nb.owner, n), total

    def jvp(
        self,
        atoms: Atoms,
        positions: np.ndarray | None = None,
        strain: np.ndarray | None = None,
        coefficients: Mapping[str, np.ndarray] | None = None,
    ) -> Tangent:
        """Exact directional derivatives along displacements [n, 3], strain [6] and coefficients (element -> [P, K]).

        Along coefficients alone also those of forces and virial; any embedding and core.

        Raises
        ------
        AceError
            For directions of another shape, unknown elements, or a C-tilde potential.
        """
        return derivatives.jvp(self, atoms, positions, strain, coefficients)

    def coefficient_gradient(
        self,
        atoms: Atoms,
        energy: float | np.ndarray = 1.0,
        forces: np.ndarray | None = None,
        virial: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Gradient of ``energy . E_i + forces . F + virial . V`` by the coefficients: element -> [P, K].

        ``energy`` is a number or one for each atom; ``forces`` [n, 3] and ``virial`` [6] (dE/dstrain). With the
        derivatives of a loss by E, F and V for them it is the gradient of the loss.

        Raises
        ------
        AceError
            As `jvp`.
        """
        return derivatives.coefficient_gradient(self, atoms, energy, forces, virial)

    def linear_system(self, atoms: Atoms, forces: bool = True, virial: bool = False) -> LinearSystem:
        """Design matrix of one structure for one density; see `LinearSystem` for columns and shapes.

        Core repulsion and core cutoffs are not part of it. Single-threaded: call it from several threads.
        """
        nb = build_neighbors(atoms, self.cutoff)
        own = self.species_of(atoms)
        n = len(atoms)
        sizes = [s.arrays.n_functions for s in self.species]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        E = np.zeros(offsets[-1])
        F = np.zeros((3 * n if forces else 1, offsets[-1]))
        V = np.zeros((6 if virial else 1, offsets[-1]))
        for s in np.unique(own):
            compiled = self.species[s]
            if compiled.arrays.n_functions == 0:
                continue
            design_rows(
                compiled.arrays, design_arrays(compiled), np.flatnonzero(own == s), own[nb.owner], nb.positions,
                nb.owner, nb.first, nb.neighbors, int(offsets[s]), forces, virial, E, F, V,
            )  # fmt: skip
        return LinearSystem(E, F if forces else None, V if virial else None)

    # --- neighbour lists ----------------------------------------------------------------------------------------------
    def compute(
        self,
        species: np.ndarray,
        positions: np.ndarray,
        first: np.ndarray,
        neighbors: np.ndarray,
        n_local: int,
        want_forces: bool = True,
        want_gamma: bool = False,
        want_projections: bool = False,
    ) -> AceArrays:
        """Evaluate the first ``n_local`` atoms of a list of atoms and ghosts.

        Parameters
        ----------
        species
            int32 [n_all], index into ``elements``.
        positions
            float64 [n_all, 3], Angstrom.
        first, neighbors
            int64 [n_local + 1] and int32: neighbours of atom i are ``neighbors[first[i]:first[i + 1]]``; entries
            beyond the cutoff are ignored.
        """
        if want_gamma or want_projections:
            self._require_basis()
        if want_gamma and self.active_set is None:
            raise AceError("gamma needs an active set: set model.active_set (an .asi of this potential)")
        kind = getattr(self.active_set, "kind", "linear")
        Kmax = max(self.n_functions.values(), default=0)
        energies = np.zeros(n_local)
        virial = np.zeros((n_local, 6)) if want_forces else None
        gamma = np.zeros(n_local) if want_gamma else None
        projections = np.full((n_local, Kmax), np.nan) if want_projections else None
        judge = getattr(self.active_set, "emptiness", None) if want_gamma else None
        emptiness = np.zeros(n_local) if judge is not None else None
        share = -(-n_local // (8 * self.threads)) * 8  # whole vectors of atoms for each thread
        size = min(self.chunk, max(32, share))
        tasks = [
            (s, ids[k : k + size])
            for s in range(len(self.elements))
            for ids in (np.flatnonzero(species[:n_local] == s),)
            for k in range(0, len(ids), size)
        ]

        def run(part: Sequence[tuple[int, np.ndarray]]) -> np.ndarray | None:
            forces = np.zeros((len(positions), 3)) if want_forces else _NO_WEIGHTS
            for s, ids in part:
                e = np.zeros(len(ids))
                v = np.zeros((len(ids), 6))
                want_b = want_gamma or want_projections
                B = np.empty((len(ids), self.species[s].arrays.n_functions)) if want_b else _NO_WEIGHTS
                dF = np.empty((len(ids), self._P(s)))
                evaluate_atoms(
                    self.species[s].arrays, ids, species, positions, first, neighbors, want_forces, want_b, False,
                    _NO_WEIGHTS, e, forces, v, B, dF,
                )  # fmt: skip
                energies[ids] = e
                if want_forces:
                    virial[ids] = v
                if want_projections:
                    projections[ids, : B.shape[1]] = B
                if want_gamma:
                    gamma[ids] = self.active_set.grade(self.elements[s], self._full(B, dF) if kind == "full" else B)
                if judge is not None:
                    found = judge(self.elements[s], self._coordination(s, ids, species, positions, first, neighbors))
                    emptiness[ids] = 0.0 if found is None else found
            return forces if want_forces else None

        with self._blas.limit(limits=1):
            if self._pool is None or len(tasks) < 2:
                forces = run(tasks)
            else:
                parts = list(self._pool.map(run, [tasks[t :: self.threads] for t in range(self.threads)]))
                forces = sum(parts[1:], parts[0]) if want_forces else None
        if emptiness is not None:
            gamma = np.where(emptiness > 1.0, np.maximum(gamma, emptiness), gamma)
        return AceArrays(energies, forces, virial, gamma, projections, emptiness)

    def _coordination(self, s, ids, species, positions, first, neighbors) -> np.ndarray:
        found = np.empty(len(ids))
        coordination_numbers(self.species[s].arrays.rcut, ids, species, positions, first, neighbors, found)
        return found

    def _P(self, s: int) -> int:
        return len(self.species[s].arrays.emb_w)

    @staticmethod
    def _full(B: np.ndarray, dF: np.ndarray) -> np.ndarray:
        return (dF[:, :, None] * B[:, None, :]).reshape(len(B), -1)

    def _rows(self, s, ids, species, positions, first, neighbors, kind) -> np.ndarray:
        B = np.empty((len(ids), self.species[s].arrays.n_functions))
        dF = np.empty((len(ids), self._P(s)))
        evaluate_atoms(
            self.species[s].arrays, ids, species, positions, first, neighbors, False, True, False, _NO_WEIGHTS,
            np.zeros(len(ids)), _NO_WEIGHTS, _NO_WEIGHTS, B, dF,
        )  # fmt: skip
        return self._full(B, dF) if kind == "full" else B


def fold(forces: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Add the forces on ghosts to the atoms they are images of: [n_all, 3] -> [n, 3]."""
    if len(forces) == n:
        return forces
    return np.stack([np.bincount(owner, weights=forces[:, k], minlength=n) for k in range(3)], axis=1)
