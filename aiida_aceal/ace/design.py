"""Design matrix of a linear ACE: derivatives of energy, forces and virial with respect to every coefficient; tangents.

Per atom: the Jacobian dB/dA (few non-zeros per function), the derivatives dA/dr of all neighbours, and one dense
matrix product of the two.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from aiida_aceal.common.kernels import njit

from .compile import CompiledSpecies
from .neighborhood import FAST, angular, gather, places, radial


class LinearSystem(NamedTuple):
    """Rows of one structure: E = energy @ c, F.ravel() = forces @ c, virial (dE/dstrain) = virial @ c.

    ``energy`` [Ktot], ``forces`` [3 n, Ktot], ``virial`` [6, Ktot] (xx, yy, zz, xy, xz, yz); columns: the elements in
    order, each one's functions in projection order. Parts not asked for are None.
    """

    energy: np.ndarray
    forces: np.ndarray | None
    virial: np.ndarray | None


class DesignArrays(NamedTuple):
    """Products as lists of factors: leaf and conjugation of each, and the functions they enter."""

    fac_leaf: np.ndarray  # [products, rmax], -1 beyond the rank
    fac_conj: np.ndarray  # [products, rmax] 1 where the conjugate of the leaf enters
    fac_sign: np.ndarray  # [products, rmax]
    ptr: np.ndarray  # [products + 1]
    v: np.ndarray
    w: np.ndarray


@lru_cache(maxsize=64)
def design_arrays(compiled: CompiledSpecies) -> DesignArrays:
    """Factor lists of a compiled species (cached by identity)."""
    products, leaves = compiled.products, {leaf: k for k, leaf in enumerate(compiled.graph.leaves)}
    rmax = max((len(f) for f in products.factors), default=1)
    leaf = np.full((len(products.factors), rmax), -1, dtype=np.int64)
    conj = np.zeros_like(leaf)
    sign = np.ones(leaf.shape)
    for e, factors in enumerate(products.factors):
        for t, (mu, n, l, m) in enumerate(factors):
            leaf[e, t] = leaves[mu, n, l, abs(m)]
            conj[e, t] = m < 0
            sign[e, t] = (-1.0) ** m if m < 0 else 1.0
    triples = sorted(products.matrix, key=lambda item: item[1])
    ptr = np.zeros(len(products.factors) + 1, dtype=np.int64)
    np.cumsum(np.bincount([e for _, e, _ in triples], minlength=len(products.factors)), out=ptr[1:])
    return DesignArrays(
        leaf,
        conj,
        sign,
        ptr,
        np.array([v for v, _, _ in triples], dtype=np.int64),
        np.array([w for _, _, w in triples], dtype=float),
    )


@njit(cache=True, fastmath=FAST)
def _jacobian(sp, da, re, im, JT, row):
    """JT [n1 + 2 leaves, K]: dB_v/dA; row [K]: B itself (rank-1 part is added by the caller)."""
    n1, nl = sp.r1_channel.shape[0], sp.n_leaves
    rmax = da.fac_leaf.shape[1]
    pr, pi = np.empty(rmax + 1), np.empty(rmax + 1)
    sr, si = np.empty(rmax + 1), np.empty(rmax + 1)
    fr, fi = np.empty(rmax), np.empty(rmax)
    for e in range(n1):
        for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
            JT[e, sp.r1_proj_v[c]] += sp.r1_proj_w[c]
    for e in range(da.fac_leaf.shape[0]):
        rank = 0
        while rank < rmax and da.fac_leaf[e, rank] >= 0:
            k = da.fac_leaf[e, rank]
            fr[rank] = da.fac_sign[e, rank] * re[k]
            fi[rank] = da.fac_sign[e, rank] * (-im[k] if da.fac_conj[e, rank] else im[k])
            rank += 1
        pr[0], pi[0] = 1.0, 0.0
        for t in range(rank):
            pr[t + 1] = pr[t] * fr[t] - pi[t] * fi[t]
            pi[t + 1] = pr[t] * fi[t] + pi[t] * fr[t]
        sr[rank], si[rank] = 1.0, 0.0
        for t in range(rank - 1, -1, -1):
            sr[t] = sr[t + 1] * fr[t] - si[t + 1] * fi[t]
            si[t] = sr[t + 1] * fi[t] + si[t + 1] * fr[t]
        for c in range(da.ptr[e], da.ptr[e + 1]):
            row[da.v[c]] += da.w[c] * pr[rank]
        for t in range(rank):
            orr = pr[t] * sr[t + 1] - pi[t] * si[t + 1]
            oi = pr[t] * si[t + 1] + pi[t] * sr[t + 1]
            g = da.fac_sign[e, t]
            dre = g * orr
            dim = g * oi if da.fac_conj[e, t] else -g * oi
            k = n1 + da.fac_leaf[e, t]
            for c in range(da.ptr[e], da.ptr[e + 1]):
                JT[k, da.v[c]] += da.w[c] * dre
                JT[k + nl, da.v[c]] += da.w[c] * dim


@njit(cache=True, fastmath=FAST)
def _base_and_slopes(sp, s, k0, k1, geo, R, dR, q, cm, sm, a1, re, im, dA):
    """Atomic base functions of neighbours k0..k1 and dA [3 J, n1 + 2 leaves], their derivatives by neighbour."""
    n1, nl = sp.r1_channel.shape[0], sp.n_leaves
    for e in range(sp.r1_ptr[s], sp.r1_ptr[s + 1]):
        c = sp.r1_channel[e]
        for k in range(k0, k1):
            a1[e] += R[c, k]
            for d in range(3):
                dA[3 * k + d, e] = dR[c, k] * geo[d, k]
    for l in range(sp.lmax[s] + 1):
        for m in range(l + 1):
            lm = l * (l + 1) // 2 + m
            for e in range(sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]):
                c, leaf, norm = sp.ent_channel[e], sp.ent_leaf[e], sp.norm[lm]
                for k in range(k0, k1):
                    ux, uy, uz, inv = geo[0, k], geo[1, k], geo[2, k], geo[4, k]
                    ql = norm * q[lm, k]
                    dq = norm * q[lm + 1, k] if m < l else 0.0
                    for part in range(1 if m == 0 else 2):
                        if part == 0:
                            y = ql * cm[m, k]
                            gx = m * ql * cm[m - 1, k] if m > 0 else 0.0
                            gy = -m * ql * sm[m - 1, k] if m > 0 else 0.0
                            gz = dq * cm[m, k]
                            re[leaf] += R[c, k] * y
                        else:
                            y = ql * sm[m, k]
                            gx = m * ql * sm[m - 1, k]
                            gy = m * ql * cm[m - 1, k]
                            gz = dq * sm[m, k]
                            im[leaf] += R[c, k] * y
                        radial = dR[c, k] * y - R[c, k] * inv * (gx * ux + gy * uy + gz * uz)
                        t = R[c, k] * inv
                        o = n1 + leaf + part * nl
                        dA[3 * k, o] = radial * ux + t * gx
                        dA[3 * k + 1, o] = radial * uy + t * gy
                        dA[3 * k + 2, o] = radial * uz + t * gz


class _Work(NamedTuple):
    """Scratch for the neighbours of one atom (J places) and its D base functions."""

    jidx: np.ndarray  # [J]
    seg: np.ndarray  # [S + 1]
    geo: np.ndarray  # [5, J]
    R: np.ndarray  # [C, J]
    dR: np.ndarray
    q: np.ndarray  # [LM, J]
    cm: np.ndarray  # [lmax + 1, J]
    sm: np.ndarray
    at: np.ndarray  # [8]
    z: np.ndarray
    scale: np.ndarray
    a1: np.ndarray
    re: np.ndarray
    im: np.ndarray
    JT: np.ndarray  # [D, K]
    dA: np.ndarray  # [3 J, D]


@njit(cache=True)
def _work(sp, atoms, first):
    n1, nl = sp.r1_channel.shape[0], sp.n_leaves
    S, C, LM = sp.rcut.shape[0], sp.table.shape[2], sp.norm.shape[0]
    J, D = places(first, atoms, S), n1 + 2 * nl
    # `angular` writes l = 0 even where all functions have rank 1 and no leaves
    L, LM = max(1, sp.lmax.max() + 1), max(1, LM)
    return _Work(
        np.empty(J, dtype=np.int64), np.zeros(S + 1, dtype=np.int64), np.empty((5, J)), np.empty((C, J)),
        np.empty((C, J)), np.empty((LM, J)), np.empty((L, J)), np.empty((L, J)), np.empty(8, dtype=np.int64),
        np.empty(8), np.empty(8), np.empty(n1), np.empty(nl), np.empty(nl), np.empty((D, sp.n_functions)),
        np.zeros((3 * J, D)),
    )  # fmt: skip


@njit(cache=True)
def _linearise(sp, da, i, species, x, first, neighbors, w, row):
    """Add B of atom i to row [K]; write dB/dA to w.JT and dA/dr to w.dA. Returns the number of places."""
    n = gather(sp, i, species, x, first, neighbors, w.jidx, w.geo, w.seg)
    angular(n, w.cm.shape[0] - 1, w.geo, w.q, w.cm, w.sm)
    w.a1[:] = 0.0
    w.re[:] = 0.0
    w.im[:] = 0.0
    w.dA[: 3 * n] = 0.0
    for s in range(sp.rcut.shape[0]):
        k0, k1 = w.seg[s], w.seg[s + 1]
        if k0 < k1:
            radial(sp, s, k0, k1, w.jidx, w.geo, w.R, w.dR, w.at, w.z, w.scale)
            _base_and_slopes(sp, s, k0, k1, w.geo, w.R, w.dR, w.q, w.cm, w.sm, w.a1, w.re, w.im, w.dA)
    w.JT[:] = 0.0
    _jacobian(sp, da, w.re, w.im, w.JT, row)
    for e in range(w.a1.shape[0]):
        for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
            row[sp.r1_proj_v[c]] += sp.r1_proj_w[c] * w.a1[e]
    return n


@njit(nogil=True, cache=True)
def design_rows(sp, da, atoms, species, x, owner, first, neighbors, offset, want_forces, want_virial, E, F, V):
    """Add the rows of the listed atoms (one species) to E [Ktot], F [3 n, Ktot] and V [6, Ktot] at column offset."""
    K = sp.n_functions
    w = _work(sp, atoms, first)
    geo, row = w.geo, np.empty(K)
    for i in atoms:
        row[:] = 0.0
        n = _linearise(sp, da, i, species, x, first, neighbors, w, row)
        for k in range(K):
            E[offset + k] += row[k]
        if n == 0 or not (want_forces or want_virial):
            continue
        G = np.dot(w.dA[: 3 * n], w.JT)
        for k in range(n):
            if w.jidx[k] < 0:
                continue
            j = owner[w.jidx[k]]
            for d in range(3):
                if want_forces:
                    for c in range(K):
                        g = G[3 * k + d, c]
                        F[3 * j + d, offset + c] -= g
                        F[3 * i + d, offset + c] += g
            if want_virial:
                r = geo[3, k]
                for c in range(K):
                    gx, gy, gz = G[3 * k, c] * r, G[3 * k + 1, c] * r, G[3 * k + 2, c] * r
                    V[0, offset + c] += gx * geo[0, k]
                    V[1, offset + c] += gy * geo[1, k]
                    V[2, offset + c] += gz * geo[2, k]
                    V[3, offset + c] += gx * geo[1, k]
                    V[4, offset + c] += gx * geo[2, k]
                    V[5, offset + c] += gy * geo[2, k]


@njit(nogil=True, cache=True)
def tangent_rows(sp, da, atoms, species, x, owner, first, neighbors, u, strain, B, dB):
    """Projections B [n, K] of the listed atoms (one species) and their tangents dB [n, K].

    The direction: displacements u [n_own, 3] of the atoms that the neighbours are images of, and strain [6] of all
    bonds (xx, yy, zz, xy, xz, yz; dx = xx x + xy y + xz z, dy = yy y + yz z, dz = zz z).
    """
    w = _work(sp, atoms, first)
    D, geo = w.JT.shape[0], w.geo
    tangent, step = np.empty(D), np.empty(3)
    for t in range(atoms.shape[0]):
        i = atoms[t]
        n = _linearise(sp, da, i, species, x, first, neighbors, w, B[t])
        tangent[:] = 0.0
        for k in range(n):
            if w.jidx[k] < 0:
                continue
            j = owner[w.jidx[k]]
            dx, dy, dz = geo[0, k] * geo[3, k], geo[1, k] * geo[3, k], geo[2, k] * geo[3, k]
            step[0] = u[j, 0] - u[i, 0] + strain[0] * dx + strain[3] * dy + strain[4] * dz
            step[1] = u[j, 1] - u[i, 1] + strain[1] * dy + strain[5] * dz
            step[2] = u[j, 2] - u[i, 2] + strain[2] * dz
            for d in range(3):
                for e in range(D):
                    tangent[e] += step[d] * w.dA[3 * k + d, e]
        for e in range(D):
            for c in range(B.shape[1]):
                dB[t, c] += tangent[e] * w.JT[e, c]
