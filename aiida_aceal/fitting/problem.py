"""Loss of a nonlinear fit as a function of one parameter vector, with its exact gradient.

Parameters: coefficients c [P, K] of each element, then (if wanted) radial coefficients of each unordered pair, then (if
wanted) one reference energy for each element.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import threadpool_limits

from aiida_aceal.ace import AcePotential
from aiida_aceal.ace.design import design_arrays
from aiida_aceal.common.threads import thread_count

from .geometry import Bonds, bond_forces, bond_tangents, collect_bonds, make_layout, raw_base
from .graphs import SpeciesGraph, energies_and_adjoints, gradients, make_graph, with_weights
from .jacobian import add_jacobian
from .job import Prepared, fixed_part
from .labels import reference_sum

CHUNK_ATOMS = 192
_GROUPS = 8  # partial sums of the Gauss-Newton matrix, whatever the number of threads


@dataclass
class Chunk:
    """Some structures of the training set with their labels and weights, atoms numbered through.

    ``energy`` [M], ``forces`` [n, 3], ``virial`` [M, 6] are labels less free atoms and core; ``w_energy``, ``w_virial``
    [M] and ``w_forces`` [n] the factors of squared errors in the loss (per atom^2 for energies, virials).
    """

    members: np.ndarray
    species: np.ndarray
    structure: np.ndarray
    starts: np.ndarray
    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    w_energy: np.ndarray
    w_forces: np.ndarray
    w_virial: np.ndarray
    counts: np.ndarray
    block: np.ndarray
    lane: np.ndarray
    ranges: list[tuple[int, int, int, int]]  # species, first block, end block, atoms
    raw: np.ndarray = field(default_factory=lambda: np.zeros(0))
    bonds: Bonds | None = None


@dataclass
class Evaluation:
    """Loss (``penalty``: its share that is no error), gradient [parameters], errors (unweighted, for reporting)."""

    loss: float
    gradient: np.ndarray | None
    energy_rmse: float
    force_rmse: float
    penalty: float = 0.0


class Problem:
    """Weighted loss of a potential on a prepared training set.

    Parameters
    ----------
    job
        Labels, weights, reference energies, potential (basis and start).
    radial
        Whether radial coefficients are parameters.
    free_reference
        Whether reference energies are parameters.
    """

    def __init__(self, job: Prepared, radial: bool = False, free_reference: bool = False) -> None:
        pot = job.potential
        self.job, self.potential = job, pot
        self.radial, self.free_reference = radial, free_reference
        self.layout = make_layout(pot)
        self.threads = thread_count(job.settings.threads)
        index = {el: k for k, el in enumerate(pot.elements)}
        self.pairs = sorted({tuple(sorted(p)) for p in pot.bonds})
        self.pair_shapes = {p: pot.bonds[p].radcoefficients.shape for p in self.pairs}
        self._offset, at = {}, 0
        for a, b in self.pairs:
            self._offset[index[a], index[b]] = self._offset[index[b], index[a]] = at
            at += int(np.prod(self.pair_shapes[a, b]))
        self.n_radial = at
        self.graphs = self.graphs_of(job)
        self.shapes = [(pot.n_densities[el], pot.n_functions[el]) for el in pot.elements]
        self.n_coefficients = sum(P * K for P, K in self.shapes)
        self.n_parameters = self.n_coefficients + (at if radial else 0) + (len(index) if free_reference else 0)
        self._fixed_radial = np.concatenate([pot.bonds[p].radcoefficients.ravel() for p in self.pairs])
        self._cache_left = job.settings.memory_bytes
        self.chunks = self._make_chunks()

    def graphs_of(self, job: Prepared) -> list[SpeciesGraph]:
        """Fit arrays of every central species."""
        return [make_graph(compiled, s, self.layout, self._offset) for s, compiled in enumerate(job.model.species)]

    # --- parameters -------------------------------------------------------------------------------------------------
    def pack(self, potential: AcePotential, reference_shift: np.ndarray | None = None) -> np.ndarray:
        """Parameter vector of a potential of the same shape."""
        parts = [potential.coefficients(el).ravel() for el in potential.elements]
        if self.radial:
            parts += [potential.bonds[p].radcoefficients.ravel() for p in self.pairs]
        if self.free_reference:
            shift = np.zeros(len(potential.elements)) if reference_shift is None else reference_shift
            parts.append(shift)
        return np.concatenate(parts)

    def split(self, theta: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Coefficients [P, K] of each element, flat radial coefficients, shifts of the reference energies."""
        coefficients, at = [], 0
        for P, K in self.shapes:
            coefficients.append(theta[at : at + P * K].reshape(P, K))
            at += P * K
        radial = theta[at : at + self.n_radial] if self.radial else self._fixed_radial
        at += self.n_radial if self.radial else 0
        return coefficients, radial, theta[at:]

    def unpack(self, theta: np.ndarray) -> tuple[AcePotential, dict[str, float]]:
        """The potential of a parameter vector and its reference energies."""
        coefficients, radial, shift = self.split(theta)
        pot = self.potential.with_coefficients(dict(zip(self.potential.elements, coefficients)))
        if self.radial:
            new, at = {}, 0
            for p in self.pairs:
                size = int(np.prod(self.pair_shapes[p]))
                new[p] = radial[at : at + size].reshape(self.pair_shapes[p])
                at += size
            pot = pot.with_radial_coefficients(new)
        reference = dict(self.job.reference)
        for el, e in zip(self.potential.elements, shift):
            if el in reference:
                reference[el] += float(e)
        return pot.with_reference_energies(reference), reference

    # --- data -------------------------------------------------------------------------------------------------------
    def _make_chunks(self) -> list[Chunk]:
        data = self.job.train
        members, chunks, atoms = [], [], 0
        for k, n in enumerate(data.n_atoms):
            if members and atoms + n > CHUNK_ATOMS:
                chunks.append(members)
                members, atoms = [], 0
            members.append(k)
            atoms += int(n)
        chunks.append(members)
        fixed = fixed_part(self.job)
        with ThreadPoolExecutor(self.threads) as pool:
            made = list(pool.map(lambda m: self._chunk(np.array(m), fixed), chunks))
        for chunk in made:  # what memory allows is kept, the rest is made anew in every evaluation
            if chunk.bonds is not None and chunk.bonds.nbytes > self._cache_left:
                chunk.bonds = None
            elif chunk.bonds is not None:
                self._cache_left -= chunk.bonds.nbytes
        return made

    def _chunk(self, members: np.ndarray, fixed) -> Chunk:
        data, weights = self.job.train, self.job.weights
        n_atoms = data.n_atoms[members]
        index = {el: k for k, el in enumerate(data.elements)}
        structures = [data.structures[k] for k in members]
        species = np.concatenate([[index[s] for s in a.get_chemical_symbols()] for a in structures]).astype(np.int64)
        base = reference_sum(data, self.job.reference)[members]
        energy, forces, virial = np.empty(len(members)), np.zeros((len(species), 3)), np.zeros((len(members), 6))
        w_forces = np.zeros(len(species))
        starts = np.concatenate([[0], np.cumsum(n_atoms)[:-1]])
        for t, k in enumerate(members):
            e0, f0, v0 = fixed(k)
            energy[t] = data.energies[k] - base[t] - e0
            if weights.forces[k] is not None:
                forces[starts[t] : starts[t] + n_atoms[t]] = data.forces[k] - f0
                w_forces[starts[t] : starts[t] + n_atoms[t]] = weights.forces[k]
            if data.virials[k] is not None:
                virial[t] = data.virials[k] - v0
        block, lane = np.zeros(len(species), dtype=np.int64), np.zeros(len(species), dtype=np.int64)
        ranges, at = [], 0
        for s in np.unique(species):
            ids = np.flatnonzero(species == s)
            block[ids], lane[ids] = at + np.arange(len(ids)) // 8, np.arange(len(ids)) % 8
            end = at + (len(ids) + 7) // 8
            ranges.append((int(s), at, end, len(ids)))
            at = end
        chunk = Chunk(
            members, species, np.repeat(np.arange(len(members)), n_atoms), starts, energy, forces, virial,
            weights.energy[members] / n_atoms**2, w_forces, weights.virial[members] / n_atoms**2,
            data.counts[members], block, lane, ranges,
        )  # fmt: skip
        chunk.bonds = collect_bonds(structures, self.potential, self.layout)
        chunk.raw = np.zeros((at, int(self.layout.size.max()), 8))
        raw_base(chunk.bonds, self.layout, species, block, lane, chunk.raw)
        return chunk

    def bonds(self, chunk: Chunk) -> Bonds:
        """Neighbourhoods of a chunk: kept, or collected again."""
        if chunk.bonds is not None:
            return chunk.bonds
        return collect_bonds([self.job.train.structures[k] for k in chunk.members], self.potential, self.layout)

    # --- loss -------------------------------------------------------------------------------------------------------
    def evaluate(self, theta: np.ndarray, gradient: bool = True) -> Evaluation:
        """Loss (and gradient) at ``theta``."""
        coefficients, radial, shift = self.split(theta)
        radial = np.ascontiguousarray(radial)
        graphs = [with_weights(g, c) for g, c in zip(self.graphs, coefficients)]

        def run(chunk: Chunk) -> _Sums:
            sums = _Sums(graphs, self.n_radial)
            self._evaluate_chunk(chunk, graphs, radial, shift, gradient, sums)
            return sums

        # summed in the order of the chunks: the result does not depend on the number of threads
        if self.threads > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                parts = list(pool.map(run, self.chunks))
        else:
            parts = [run(chunk) for chunk in self.chunks]
        total = parts[0]
        for other in parts[1:]:
            total.add(other)
        return Evaluation(
            total.loss,
            self._collect(total) if gradient else None,
            float(np.sqrt(total.energy / max(total.n_energy, 1))),
            float(np.sqrt(total.forces / max(total.n_forces, 1))),
        )

    def _collect(self, sums: _Sums) -> np.ndarray:
        parts = []
        for graph, top, rank1 in zip(self.graphs, sums.top, sums.rank1):
            parts.append((graph.tops.T @ top + graph.rank1.T @ rank1).T.ravel())
        if self.radial:
            parts.append(sums.radial)
        if self.free_reference:
            parts.append(sums.shift)
        return np.concatenate(parts)

    def _evaluate_chunk(self, chunk, graphs, radial, shift, gradient, sums) -> None:
        raw, adjoint, bonds = chunk.raw, np.empty_like(chunk.raw), self.bonds(chunk)
        energy, slope = np.zeros((len(raw), 8)), np.zeros((len(raw), max(P for P, _ in self.shapes), 8))
        for s, a, b, count in chunk.ranges:
            g = graphs[s]
            energies_and_adjoints(g.arrays, g.leaves, radial, raw[a:b], count, energy[a:b], slope[a:b], adjoint[a:b])
        energies = np.add.reduceat(energy[chunk.block, chunk.lane], chunk.starts)
        if len(shift):
            energies = energies + chunk.counts @ shift
        n, M = len(chunk.species), len(chunk.members)
        forces, virial = np.zeros((n, 3)), np.zeros((M, 6))
        where = (self.layout, chunk.species, chunk.block, chunk.lane)
        bond_forces(bonds, *where, chunk.structure, adjoint, forces, virial)
        dE, dF, dV = energies - chunk.energy, forces - chunk.forces, virial - chunk.virial
        sums.loss += float(chunk.w_energy @ dE**2 + chunk.w_forces @ (dF**2).sum(1) + chunk.w_virial @ (dV**2).sum(1))
        n_atoms = chunk.counts.sum(1)
        sums.energy += float(((dE / n_atoms) ** 2).sum())
        sums.n_energy += M
        with_forces = chunk.w_forces > 0.0
        sums.forces += float((dF[with_forces] ** 2).sum())
        sums.n_forces += 3 * int(with_forces.sum())
        if not gradient:
            return
        seed_E = 2.0 * chunk.w_energy * dE
        tangent = np.zeros_like(raw)
        # F = -dE/dr: the energy's directional derivative along -u is u . F
        push = -2.0 * chunk.w_forces[:, None] * dF
        bond_tangents(bonds, *where, chunk.structure, push, 2.0 * chunk.w_virial[:, None] * dV, tangent)
        seed = np.zeros((len(raw), 8))
        seed[chunk.block, chunk.lane] = seed_E[chunk.structure]
        for s, a, b, count in chunk.ranges:
            g = graphs[s]
            gradients(
                g.arrays, g.leaves, radial, raw[a:b], tangent[a:b], seed[a:b], count, self.radial,
                sums.top[s], sums.rank1[s], sums.radial,
            )  # fmt: skip
        sums.shift += chunk.counts.T @ seed_E

    def gauss_newton(self, theta: np.ndarray) -> np.ndarray:
        """J^T W J [parameters, parameters], J the Jacobian of all labels: half the Gauss-Newton Hessian."""
        coefficients, radial, _ = self.split(theta)
        radial, coefficients = np.ascontiguousarray(radial), [np.ascontiguousarray(c) for c in coefficients]
        graphs = [with_weights(g, c) for g, c in zip(self.graphs, coefficients)]

        def run(part: list[Chunk]) -> np.ndarray:
            total = np.zeros((self.n_parameters, self.n_parameters))
            for chunk in part:
                rows = self.jacobian_rows(chunk, graphs, coefficients, radial)
                total += rows.T @ rows
            return total

        work = [self.chunks[t::_GROUPS] for t in range(_GROUPS)]
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(self.threads) as pool:
            parts = list(pool.map(run, work))
        return sum(parts[1:], parts[0])

    def jacobian_rows(self, chunk: Chunk, graphs, coefficients, radial) -> np.ndarray:
        """Rows of a chunk times the roots of their weights: energies, forces of all atoms, virials if weighted."""
        M, n = len(chunk.members), len(chunk.species)
        with_v = bool((chunk.w_virial > 0.0).any())
        J = np.zeros((M + 3 * n + (6 * M if with_v else 0), self.n_parameters))
        n_atoms = chunk.counts.sum(1)
        slot = np.arange(n) - chunk.starts[chunk.structure]
        first = M + 3 * chunk.starts[chunk.structure]
        virial = M + 3 * n + 6 * chunk.structure if with_v else np.full(n, -1)
        c_offset = 0
        bonds = self.bonds(chunk)
        for s, (P, K) in enumerate(self.shapes):
            ids = np.flatnonzero(chunk.species == s)
            g = graphs[s]
            if len(ids):
                add_jacobian(
                    g.arrays, g.leaves, design_arrays(self.job.model.species[s]), radial, coefficients[s], bonds,
                    self.layout, ids, s, chunk.block, chunk.lane, chunk.raw, slot, first, n_atoms[chunk.structure],
                    chunk.structure, virial, self.radial, c_offset, self.n_coefficients, J,
                )  # fmt: skip
            c_offset += P * K
        if self.free_reference:
            J[:M, -len(self.shapes) :] = chunk.counts
        J[:M] *= np.sqrt(chunk.w_energy)[:, None]
        J[M : M + 3 * n] *= np.repeat(np.sqrt(chunk.w_forces), 3)[:, None]
        if with_v:
            J[M + 3 * n :] *= np.repeat(np.sqrt(chunk.w_virial), 6)[:, None]
        return J


class _Sums:
    """Accumulators of one thread."""

    def __init__(self, graphs: Sequence[SpeciesGraph], n_radial: int) -> None:
        P = [len(g.arrays.emb_w) for g in graphs]
        self.top = [np.zeros((g.tops.shape[0], p)) for g, p in zip(graphs, P)]
        self.rank1 = [np.zeros((g.rank1.shape[0], p)) for g, p in zip(graphs, P)]
        self.radial = np.zeros(n_radial)
        self.shift = np.zeros(len(graphs))
        self.loss = self.energy = self.forces = 0.0
        self.n_energy = self.n_forces = 0

    def add(self, other: _Sums) -> None:
        for name in ("top", "rank1"):
            for mine, theirs in zip(getattr(self, name), getattr(other, name)):
                mine += theirs
        self.radial += other.radial
        self.shift += other.shift
        for name in ("loss", "energy", "forces", "n_energy", "n_forces"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
