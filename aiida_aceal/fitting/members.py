"""One evaluation for many potentials that differ in their coefficients only: neighbours, radial and angular functions

and the base functions A are shared; per member remain the products and the way back to the bonds.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceModel, AcePotential
from aiida_aceal.ace.embedding import embed, switch_value
from aiida_aceal.ace.kernels import LANES, ZBL
from aiida_aceal.ace.model import fold
from aiida_aceal.ace.neighborhood import (
    FAST,
    angular,
    atomic_base,
    bond_gradient,
    core_pair,
    gather,
    leaf_weights,
    places,
    radial,
)
from aiida_aceal.ace.neighbors import build_neighbors
from aiida_aceal.ace.products import products_backward, products_forward
from aiida_aceal.common.kernels import njit


@njit(nogil=True, cache=True, fastmath=FAST)
def _evaluate_members(sp, tops, rank1, atoms, species, x, first, neighbors, want_forces, energies, forces):
    """Add energies [M] and forces [M, n_all, 3] of the listed atoms (one species) for M sets of product weights.

    ``tops`` [M, tops, P], ``rank1`` [M, n1, P]; the weight arrays of ``sp`` are overwritten (own copies of the caller).
    """
    M, S = tops.shape[0], sp.rcut.shape[0]
    jmax = places(first, atoms, S)
    C, LM, P = sp.table.shape[2], sp.norm.shape[0], sp.emb_w.shape[0]
    lmax = 0
    for s in range(S):
        lmax = max(lmax, sp.lmax[s])
    N, n1 = sp.n_leaves + sp.node_a.shape[0], sp.r1_channel.shape[0]
    jidx = np.empty((LANES, jmax), dtype=np.int64)
    seg = np.zeros((LANES, S + 1), dtype=np.int64)
    geo = np.empty((LANES, 5, jmax))
    R, dR = np.empty((LANES, C, jmax)), np.empty((LANES, C, jmax))
    q = np.empty((LANES, LM, jmax))
    cm, sm = np.empty((LANES, lmax + 1, jmax)), np.empty((LANES, lmax + 1, jmax))
    yc, ys, grad = np.empty(jmax), np.empty(jmax), np.empty((4, jmax))
    wr, wi = np.empty(sp.ent_leaf.shape[0]), np.empty(sp.ent_leaf.shape[0])
    at, z, scale = np.empty(8, dtype=np.int64), np.empty(8), np.empty(8)
    node_re, node_im = np.zeros((N, LANES)), np.zeros((N, LANES))
    adj_re, adj_im = np.zeros((N, LANES)), np.zeros((N, LANES))
    a1, w1 = np.zeros((n1, LANES)), np.zeros((n1, LANES))
    rho, wrho, nothing = np.zeros((P, LANES)), np.zeros((P, LANES)), np.zeros((1, LANES))
    core, gap, star_delta = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    star = np.zeros(LANES, dtype=np.int64)
    cut_weight, cut_slope = np.zeros(LANES), np.zeros(LANES)
    any_core = sp.core_cut.max() > 0.0
    for t0 in range(0, atoms.shape[0], LANES):
        width = min(LANES, atoms.shape[0] - t0)
        node_re[: sp.n_leaves] = 0.0
        node_im[: sp.n_leaves] = 0.0
        a1[:] = 0.0
        for v in range(width):
            n = gather(sp, atoms[t0 + v], species, x, first, neighbors, jidx[v], geo[v], seg[v])
            angular(n, lmax, geo[v], q[v], cm[v], sm[v])
            core[v], gap[v], star[v] = 0.0, 1e300, -1
            for s in range(S):
                k0, k1 = seg[v, s], seg[v, s + 1]
                if k0 < k1:
                    radial(sp, s, k0, k1, jidx[v], geo[v], R[v], dR[v], at, z, scale)
                    atomic_base(sp, s, k0, k1, R[v], q[v], cm[v], sm[v], yc, ys, a1, node_re, node_im, v)
                if any_core or sp.inner_type == ZBL:
                    for k in range(k0, k1):
                        if jidx[v, k] < 0:
                            break
                        if geo[v, 3, k] < sp.core_cut[s]:
                            core[v] += core_pair(sp, s, geo[v, 3, k])[0]
                        if geo[v, 3, k] - sp.inner_shift[s] < gap[v]:
                            gap[v], star[v] = geo[v, 3, k] - sp.inner_shift[s], k
                            star_delta[v] = sp.inner_delta[s]
        for m in range(M):
            sp.top_weight[:] = tops[m]
            sp.r1_weight[:] = rank1[m]
            rho[:] = 0.0
            products_forward(sp, node_re, node_im, a1, rho, False, nothing)
            for v in range(width):
                F = 0.0
                for p in range(P):
                    f, df = embed(sp.embedding, sp.emb_m[p], rho[p, v])
                    F += sp.emb_w[p] * f
                    wrho[p, v] = sp.emb_w[p] * df
                cut_slope[v] = 0.0
                if sp.inner_type == ZBL:
                    cut, dcut = 1.0, 0.0
                    if star[v] >= 0:
                        cut, dcut = switch_value(star_delta[v] - gap[v], star_delta[v], star_delta[v])
                        cut_slope[v] = -dcut * (F - core[v])
                    energies[m] += sp.e0 + cut * F + (1.0 - cut) * core[v]
                    cut_weight[v] = 1.0 - cut
                else:
                    cut, dcut = switch_value(core[v], sp.rho_core_cut, sp.drho_core_cut)
                    energies[m] += sp.e0 + cut * F + core[v]
                    cut_weight[v] = 1.0 + dcut * F
                for p in range(P):
                    wrho[p, v] *= cut
            if not want_forces:
                continue
            products_backward(sp, node_re, node_im, adj_re, adj_im, w1, wrho, False, nothing)
            for v in range(width):
                i = atoms[t0 + v]
                leaf_weights(sp, v, adj_re, adj_im, wr, wi)
                for s in range(S):
                    k0, k1 = seg[v, s], seg[v, s + 1]
                    if k0 == k1:
                        continue
                    bond_gradient(sp, s, k0, k1, R[v], dR[v], q[v], cm[v], sm[v], w1, v, wr, wi, grad)
                    if sp.core_cut[s] > 0.0:
                        for k in range(k0, k1):
                            if geo[v, 3, k] < sp.core_cut[s] and jidx[v, k] >= 0:
                                grad[3, k] += cut_weight[v] * core_pair(sp, s, geo[v, 3, k])[1]
                if star[v] >= 0 and sp.inner_type == ZBL:
                    grad[3, star[v]] += cut_slope[v]
                for k in range(seg[v, S]):
                    j = jidx[v, k]
                    if j < 0:
                        continue
                    along = grad[3, k] - geo[v, 4, k] * (
                        grad[0, k] * geo[v, 0, k] + grad[1, k] * geo[v, 1, k] + grad[2, k] * geo[v, 2, k]
                    )
                    for d in range(3):
                        g = along * geo[v, d, k] + geo[v, 4, k] * grad[d, k]
                        forces[m, i, d] += g
                        forces[m, j, d] -= g


class MemberModel:
    """Evaluator of several potentials with the same basis, radial coefficients and embedding.

    Parameters
    ----------
    potentials
        The members; only their coefficients may differ.
    """

    def __init__(self, potentials: Sequence[AcePotential], threads: int | None = None) -> None:
        self.model = AceModel(potentials[0], threads=threads)
        others = [self.model, *(self.model.with_coefficients(_coefficients(p)) for p in potentials[1:])]
        self.count = len(potentials)
        self._tops = [np.stack([o.species[s].arrays.top_weight for o in others]) for s in range(len(others[0].species))]
        self._rank1 = [np.stack([o.species[s].arrays.r1_weight for o in others]) for s in range(len(others[0].species))]

    def evaluate(self, atoms: Atoms, forces: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        """Energies [M] (eV, without reference energies) and forces [M, n, 3] (eV/Angstrom) of one structure."""
        model = self.model
        nb = build_neighbors(atoms, model.cutoff)
        own = model.species_of(atoms)
        species = own[nb.owner]
        energies = np.zeros(self.count)
        all_forces = np.zeros((self.count, len(nb.positions) if forces else 1, 3))
        for s in np.unique(own):
            arrays = model.species[s].arrays
            private = arrays._replace(
                top_weight=np.empty_like(arrays.top_weight), r1_weight=np.empty_like(arrays.r1_weight)
            )
            _evaluate_members(
                private, self._tops[s], self._rank1[s], np.flatnonzero(own == s), species, nb.positions, nb.first,
                nb.neighbors, forces, energies, all_forces,
            )  # fmt: skip
        if not forces:
            return energies, None
        return energies, np.stack([fold(f, nb.owner, len(atoms)) for f in all_forces])

    def evaluate_batch(self, structures: Sequence[Atoms], forces: bool = True) -> list[tuple]:
        """`evaluate` for many structures; threads over structures."""
        if self.model.threads < 2 or len(structures) < 2:
            return [self.evaluate(atoms, forces) for atoms in structures]
        with ThreadPoolExecutor(self.model.threads) as pool:
            return list(pool.map(lambda atoms: self.evaluate(atoms, forces), structures))


def _coefficients(potential: AcePotential) -> dict[str, np.ndarray]:
    return {el: potential.coefficients(el) for el in potential.elements}


def same_basis(potentials: Sequence[AcePotential]) -> bool:
    """Whether potentials differ in nothing but coefficients, so that `MemberModel` may evaluate them together."""
    first = potentials[0]
    for other in potentials[1:]:
        if (
            other.elements != first.elements
            or other.species != first.species
            or other.bonds.keys() != first.bonds.keys()
        ):
            return False
        for pair, bond in first.bonds.items():
            mine, theirs = vars(bond), vars(other.bonds[pair])
            for name, value in mine.items():
                equal = np.array_equal(value, theirs[name]) if name == "radcoefficients" else value == theirs[name]
                if not equal:
                    return False
        for el in first.elements:
            ours = [(f.mus, f.ns, f.ls, f.lint) for f in first.functions(el)]
            if ours != [(f.mus, f.ns, f.ls, f.lint) for f in other.functions(el)]:
                return False
    return True
