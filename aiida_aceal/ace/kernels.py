"""Compiled kernels of the evaluator: neighbours -> A -> products -> energy, and back to forces.

Atoms of one species are taken ``LANES`` at a time: each neighbour stage works along the neighbours of one atom, the
product stage along the atoms, so both run in vector registers. Only real arithmetic: A_{l,-m} = (-1)^m conj(A_lm).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aiida_aceal.common.kernels import njit

from .embedding import embed, switch_value
from .neighborhood import FAST, angular, atomic_base, bond_gradient, core_pair, gather, leaf_weights, places, radial
from .products import products_backward, products_forward

LANES = 8
DISTANCE, DENSITY, ZBL = 0, 1, 2


class SpeciesArrays(NamedTuple):
    """Everything the kernels need for one central species (built by `aiida_aceal.ace.compile`)."""

    # radial tables by neighbour species; segments padded with infinite start
    rcut: np.ndarray  # [S]
    seg_start: np.ndarray  # [S, G]
    seg_inverse: np.ndarray
    seg_offset: np.ndarray
    table: np.ndarray  # [bins, 8, C]
    core_cut: np.ndarray  # [S] distance beyond which a bond has no core energy
    core_start: np.ndarray
    core_inverse: np.ndarray
    core_offset: np.ndarray
    core_table: np.ndarray  # [bins, 8]
    inner_shift: np.ndarray  # [S] r_in - delta_in (zbl)
    inner_delta: np.ndarray  # [S] delta_in (zbl)
    # atomic base functions
    lmax: np.ndarray  # [S]
    norm: np.ndarray  # [LM]
    lm_ptr: np.ndarray  # [S, LM + 1] into ent_*
    ent_channel: np.ndarray
    ent_leaf: np.ndarray
    r1_ptr: np.ndarray  # [S + 1] into r1_channel
    r1_channel: np.ndarray
    r1_weight: np.ndarray  # [n1, P]
    r1_proj_ptr: np.ndarray  # [n1 + 1]
    r1_proj_v: np.ndarray
    r1_proj_w: np.ndarray
    # product graph
    n_leaves: int
    node_a: np.ndarray
    node_b: np.ndarray
    node_k: np.ndarray  # [nodes, 4]
    grp_a: np.ndarray
    grp_ptr: np.ndarray
    top_b: np.ndarray
    top_sigma: np.ndarray
    top_weight: np.ndarray  # [tops, P]
    proj_ptr: np.ndarray  # [tops + 1]
    proj_v: np.ndarray
    proj_w: np.ndarray
    # embedding
    embedding: int
    emb_w: np.ndarray  # [P]
    emb_m: np.ndarray  # [P]
    rho_core_cut: float
    drho_core_cut: float
    inner_type: int
    e0: float
    n_functions: int


@njit(nogil=True, cache=True, fastmath=FAST)
def evaluate_atoms(
    sp, atoms, species, x, first, neighbors, want_forces, want_b, from_b, wB_in, energies, forces, virial, B_out, dF_out
):
    """Evaluate the listed atoms, all of one species.

    Writes ``energies`` [n] (by position in ``atoms``), adds to ``forces`` [n_all, 3], writes ``virial`` [n, 6]
    (dE_i/dstrain: xx, yy, zz, xy, xz, yz), projections ``B_out`` [n, K] and ``dF_out`` [n, P] (dF/drho_p with its
    weight, before the core cutoff). With ``from_b`` the forces are those of sum_ik wB_in[i, k] B_ik instead of E.
    """
    n_atoms = atoms.shape[0]
    S = sp.rcut.shape[0]
    jmax = places(first, atoms, S)
    C = sp.table.shape[2]
    LM = sp.norm.shape[0]
    lmax = 0
    for s in range(S):
        lmax = max(lmax, sp.lmax[s])
    P = sp.emb_w.shape[0]
    K = sp.n_functions
    N = sp.n_leaves + sp.node_a.shape[0]
    n1 = sp.r1_channel.shape[0]
    jidx = np.empty((LANES, jmax), dtype=np.int64)
    seg = np.zeros((LANES, S + 1), dtype=np.int64)
    geo = np.empty((LANES, 5, jmax))
    R = np.empty((LANES, C, jmax))
    dR = np.empty((LANES, C, jmax))
    q = np.empty((LANES, LM, jmax))
    cm = np.empty((LANES, lmax + 1, jmax))
    sm = np.empty((LANES, lmax + 1, jmax))
    yc, ys = np.empty(jmax), np.empty(jmax)
    grad = np.empty((4, jmax))
    wr, wi = np.empty(sp.ent_leaf.shape[0]), np.empty(sp.ent_leaf.shape[0])
    at, z, scale = np.empty(8, dtype=np.int64), np.empty(8), np.empty(8)
    node_re, node_im = np.zeros((N, LANES)), np.zeros((N, LANES))
    adj_re, adj_im = np.zeros((N, LANES)), np.zeros((N, LANES))
    a1, w1 = np.zeros((n1, LANES)), np.zeros((n1, LANES))
    rho, wrho = np.zeros((P, LANES)), np.zeros((P, LANES))
    B = np.zeros((K if want_b else 1, LANES))
    wB = np.zeros((K if from_b else 1, LANES))
    core_cut = sp.core_cut.max()
    cut_weight = np.zeros(LANES)  # weight of the core pair energies
    cut_slope = np.zeros(LANES)  # dE/d r_jstar through the zbl cutoff
    cut_index = np.zeros(LANES, dtype=np.int64)
    for t0 in range(0, n_atoms, LANES):
        width = min(LANES, n_atoms - t0)
        node_re[: sp.n_leaves] = 0.0
        node_im[: sp.n_leaves] = 0.0
        a1[:] = 0.0
        rho[:] = 0.0
        B[:] = 0.0
        for v in range(width):
            n = gather(sp, atoms[t0 + v], species, x, first, neighbors, jidx[v], geo[v], seg[v])
            angular(n, lmax, geo[v], q[v], cm[v], sm[v])
            for s in range(S):
                k0, k1 = seg[v, s], seg[v, s + 1]
                if k0 < k1:
                    radial(sp, s, k0, k1, jidx[v], geo[v], R[v], dR[v], at, z, scale)
                    atomic_base(sp, s, k0, k1, R[v], q[v], cm[v], sm[v], yc, ys, a1, node_re, node_im, v)
        products_forward(sp, node_re, node_im, a1, rho, want_b, B)
        # embedding and core, one lane at a time
        for v in range(width):
            F = 0.0
            for p in range(P):
                f, df = embed(sp.embedding, sp.emb_m[p], rho[p, v])
                F += sp.emb_w[p] * f
                wrho[p, v] = sp.emb_w[p] * df
                dF_out[t0 + v, p] = wrho[p, v]
            core = 0.0
            gap, star = 1e300, -1
            if core_cut > 0.0 or sp.inner_type == ZBL:
                for s in range(S):
                    for k in range(seg[v, s], seg[v, s + 1]):
                        if jidx[v, k] < 0:
                            break
                        if geo[v, 3, k] < sp.core_cut[s]:
                            core += core_pair(sp, s, geo[v, 3, k])[0]
                        if geo[v, 3, k] - sp.inner_shift[s] < gap:
                            gap, star = geo[v, 3, k] - sp.inner_shift[s], k
                            star_delta = sp.inner_delta[s]
            cut, dcut = 1.0, 0.0
            cut_index[v] = -1
            if sp.inner_type == ZBL:
                if star >= 0:
                    cut, dcut = switch_value(star_delta - gap, star_delta, star_delta)
                    cut_index[v] = star
                    cut_slope[v] = -dcut * (F - core)  # t falls as r grows
                energies[t0 + v] = sp.e0 + cut * F + (1.0 - cut) * core
                cut_weight[v] = 1.0 - cut
            else:
                cut, dcut = switch_value(core, sp.rho_core_cut, sp.drho_core_cut)
                energies[t0 + v] = sp.e0 + cut * F + core
                cut_weight[v] = 1.0 + dcut * F
            for p in range(P):
                wrho[p, v] *= cut
        if want_b:
            for v in range(width):
                for k in range(K):
                    B_out[t0 + v, k] = B[k, v]
        if not want_forces:
            continue
        if from_b:
            for v in range(width):
                for k in range(K):
                    wB[k, v] = wB_in[t0 + v, k]
        products_backward(sp, node_re, node_im, adj_re, adj_im, w1, wrho, from_b, wB)
        for v in range(width):
            i = atoms[t0 + v]
            n = seg[v, S]
            leaf_weights(sp, v, adj_re, adj_im, wr, wi)
            for s in range(S):
                k0, k1 = seg[v, s], seg[v, s + 1]
                if k0 == k1:
                    continue
                bond_gradient(sp, s, k0, k1, R[v], dR[v], q[v], cm[v], sm[v], w1, v, wr, wi, grad)
                if sp.core_cut[s] > 0.0 and not from_b:
                    for k in range(k0, k1):
                        if geo[v, 3, k] < sp.core_cut[s] and jidx[v, k] >= 0:
                            grad[3, k] += cut_weight[v] * core_pair(sp, s, geo[v, 3, k])[1]
            if cut_index[v] >= 0 and not from_b:
                grad[3, cut_index[v]] += cut_slope[v]
            fx = fy = fz = 0.0
            sxx = syy = szz = sxy = sxz = syz = 0.0
            for k in range(n):
                j = jidx[v, k]
                if j < 0:
                    continue
                ux, uy, uz, r, inv = geo[v, 0, k], geo[v, 1, k], geo[v, 2, k], geo[v, 3, k], geo[v, 4, k]
                along = grad[3, k] - inv * (grad[0, k] * ux + grad[1, k] * uy + grad[2, k] * uz)
                gx = along * ux + inv * grad[0, k]
                gy = along * uy + inv * grad[1, k]
                gz = along * uz + inv * grad[2, k]
                fx += gx
                fy += gy
                fz += gz
                forces[j, 0] -= gx
                forces[j, 1] -= gy
                forces[j, 2] -= gz
                sxx += gx * ux * r
                syy += gy * uy * r
                szz += gz * uz * r
                sxy += gx * uy * r
                sxz += gx * uz * r
                syz += gy * uz * r
            forces[i, 0] += fx
            forces[i, 1] += fy
            forces[i, 2] += fz
            virial[t0 + v, 0] = sxx
            virial[t0 + v, 1] = syy
            virial[t0 + v, 2] = szz
            virial[t0 + v, 3] = sxy
            virial[t0 + v, 4] = sxz
            virial[t0 + v, 5] = syz
