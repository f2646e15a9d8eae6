"""Kernels of a nonlinear fit at the level of products: energies, dE/dA, and gradients by coefficients.

Eight atoms of one species side by side, as in `aiida_aceal.ace.products`. The derivative of forces contracted with a
direction u is the directional derivative of the energy along the change of A that u makes: products are carried as dual
numbers (value, tangent), so gradients by coefficients are exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from aiida_aceal.ace.compile import CompiledSpecies
from aiida_aceal.ace.embedding import embed2
from aiida_aceal.ace.neighborhood import FAST
from aiida_aceal.ace.products import products_backward, products_forward
from aiida_aceal.ace.simd import vadd, vfma, vload, vmul, vsplat, vstore, vsum
from aiida_aceal.common.kernels import njit

from .geometry import Layout


class Leaves(NamedTuple):
    """How the base functions of one central species are made of raw ones.

    Leaf t: re = sum_k rad[rad_ptr + k] raw[raw_ptr + k raw_step], im (m > 0) from the next raw index on.
    """

    rad_ptr: np.ndarray
    raw_ptr: np.ndarray
    raw_step: np.ndarray
    count: np.ndarray  # number of g_k
    complex: np.ndarray  # 1 for m > 0
    r1_raw: np.ndarray  # raw index of each rank-1 sum


class SpeciesGraph(NamedTuple):
    """Fit arrays of one central species: kernel arrays, leaves, and matrices products x functions."""

    arrays: tuple
    leaves: Leaves
    tops: csr_matrix  # [tops, K]
    rank1: csr_matrix  # [n1, K]


def make_graph(
    compiled: CompiledSpecies, s: int, layout: Layout, rad_offset: dict[tuple[int, int], int]
) -> SpeciesGraph:
    """Arrays of central species number ``s``; ``rad_offset`` [(s, mu)]: where crad[n, l, k] of the pair starts."""
    sp = compiled.arrays
    rows = []
    for mu, n, l, m in compiled.graph.leaves:
        K, L = int(layout.K[s, mu]), int(layout.L[s, mu])
        Q = (L + 1) ** 2
        q = l * l + (0 if m == 0 else 2 * m - 1)
        rows.append((rad_offset[s, mu] + (n * (L + 1) + l) * K, layout.base[s, mu] + q, Q, K, int(m > 0)))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 5).T.copy()
    r1 = [
        layout.base[s, mu] + n * (layout.L[s, mu] + 1) ** 2 for mu, n in sorted(compiled.products.rank1)
    ]  # the order of the kernels
    K = sp.n_functions
    return SpeciesGraph(
        sp,
        Leaves(*columns, np.array(r1, dtype=np.int64)),
        csr_matrix((sp.proj_w, sp.proj_v, sp.proj_ptr), shape=(len(sp.top_b), K)),
        csr_matrix((sp.r1_proj_w, sp.r1_proj_v, sp.r1_proj_ptr), shape=(len(sp.r1_channel), K)),
    )


def with_weights(graph: SpeciesGraph, coefficients: np.ndarray) -> SpeciesGraph:
    """The graph with coefficients [P, K] folded into the weights of its products."""
    arrays = graph.arrays._replace(
        r1_weight=np.ascontiguousarray(graph.rank1 @ coefficients.T),
        top_weight=np.ascontiguousarray(graph.tops @ coefficients.T),
    )
    return graph._replace(arrays=arrays)


@njit(cache=True, fastmath=FAST)
def _leaves(lv, rad, raw, node_re, node_im):
    """Base functions (first rows of the nodes) from raw ones [D, 8]."""
    for t in range(lv.rad_ptr.shape[0]):
        re = vsplat(0.0)
        im = vsplat(0.0)
        for k in range(lv.count[t]):
            w = vsplat(rad[lv.rad_ptr[t] + k])
            at = 8 * (lv.raw_ptr[t] + k * lv.raw_step[t])
            re = vfma(w, vload(raw, at), re)
            if lv.complex[t]:
                im = vfma(w, vload(raw, at + 8), im)
        vstore(node_re, 8 * t, re)
        vstore(node_im, 8 * t, im)


@njit(nogil=True, cache=True, fastmath=FAST)
def energies_and_adjoints(sp, lv, rad, raw, count, energy, slope, adjoint):
    """Energies [blocks, 8] of ``raw`` [blocks, D, 8] (``count`` atoms), dF/drho [blocks, P, 8], dE/dA like ``raw``."""
    P = sp.emb_w.shape[0]
    N, n1 = sp.n_leaves + sp.node_a.shape[0], lv.r1_raw.shape[0]
    node_re, node_im = np.zeros((N, 8)), np.zeros((N, 8))
    adj_re, adj_im = np.zeros((N, 8)), np.zeros((N, 8))
    a1, w1 = np.zeros((n1, 8)), np.zeros((n1, 8))
    rho, wrho, nothing = np.zeros((P, 8)), np.zeros((P, 8)), np.zeros((1, 8))
    for block in range(raw.shape[0]):
        A = raw[block]
        _leaves(lv, rad, A, node_re, node_im)
        for e in range(n1):
            vstore(a1, 8 * e, vload(A, 8 * lv.r1_raw[e]))
        rho[:] = 0.0
        products_forward(sp, node_re, node_im, a1, rho, False, nothing)
        for v in range(8):
            total = 0.0
            for p in range(P):
                f, df, _ = embed2(sp.embedding, sp.emb_m[p], rho[p, v])
                total += sp.emb_w[p] * f
                wrho[p, v] = sp.emb_w[p] * df if 8 * block + v < count else 0.0
                slope[block, p, v] = wrho[p, v]
            energy[block, v] = total
        products_backward(sp, node_re, node_im, adj_re, adj_im, w1, wrho, False, nothing)
        out = adjoint[block]
        out[:] = 0.0
        for t in range(lv.rad_ptr.shape[0]):
            re, im = vload(adj_re, 8 * t), vload(adj_im, 8 * t)
            for k in range(lv.count[t]):
                w = vsplat(rad[lv.rad_ptr[t] + k])
                at = 8 * (lv.raw_ptr[t] + k * lv.raw_step[t])
                vstore(out, at, vfma(w, re, vload(out, at)))
                if lv.complex[t]:
                    vstore(out, at + 8, vfma(w, im, vload(out, at + 8)))
        for e in range(n1):
            at = 8 * lv.r1_raw[e]
            vstore(out, at, vadd(vload(w1, 8 * e), vload(out, at)))


class Work(NamedTuple):
    """Work arrays of `dual_products`: values and tangents of nodes, their adjoints, products, densities, results."""

    re: np.ndarray
    im: np.ndarray
    dre: np.ndarray
    dim: np.ndarray
    ar: np.ndarray
    ai: np.ndarray
    hr: np.ndarray
    hi: np.ndarray
    val: np.ndarray
    dval: np.ndarray
    rho: np.ndarray
    drho: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    acc: np.ndarray  # [(n1 + tops) P, 8] gradient by product weights
    racc: np.ndarray  # [radial, 8] gradient by radial coefficients


@njit(cache=True)
def make_work(sp, n1, n_radial):
    P = sp.emb_w.shape[0]
    N, T = sp.n_leaves + sp.node_a.shape[0], n1 + sp.top_b.shape[0]
    return Work(
        np.zeros((N, 8)), np.zeros((N, 8)), np.zeros((N, 8)), np.zeros((N, 8)),
        np.zeros((N, 8)), np.zeros((N, 8)), np.zeros((N, 8)), np.zeros((N, 8)),
        np.zeros((T, 8)), np.zeros((T, 8)), np.zeros((P, 8)), np.zeros((P, 8)), np.zeros((P, 8)), np.zeros((P, 8)),
        np.zeros((T * P, 8)), np.zeros((n_radial, 8)),
    )  # fmt: skip


@njit(cache=True, fastmath=FAST)
def dual_products(sp, n1, seed, count, want_weights, want_adjoint, work):
    """Products of dual numbers A + tau D, whose leaves and rank-1 sums stand in ``work``, forward and back.

    S = seed F(rho) + F'(rho) drho gives dS/drho = seed F' + F'' drho (``alpha``) and dS/d(drho) = F' (``beta``): the
    gradient by product weights (added to ``acc``), and dS/dA (``ar``, ``ai``), dS/dD (``hr``, ``hi``) of the leaves.
    """
    P = sp.emb_w.shape[0]
    nl, nn = sp.n_leaves, sp.node_a.shape[0]
    N, T = nl + nn, sp.top_b.shape[0]
    re, im, dre, dim, ar, ai, hr, hi, val, dval, rho, drho, alpha, beta, acc, _ = work
    zero = vsplat(0.0)
    for t in range(nn):
        a, b, o = 8 * sp.node_a[t], 8 * sp.node_b[t], 8 * (nl + t)
        k1, k2 = vsplat(sp.node_k[t, 0]), vsplat(sp.node_k[t, 1])
        k3, k4 = vsplat(sp.node_k[t, 2]), vsplat(sp.node_k[t, 3])
        xr, xi, yr, yi = vload(re, a), vload(im, a), vload(re, b), vload(im, b)
        ur, ui, vr, vi = vload(dre, a), vload(dim, a), vload(dre, b), vload(dim, b)
        vstore(re, o, vfma(vmul(k1, xr), yr, vmul(vmul(k2, xi), yi)))
        vstore(im, o, vfma(vmul(k3, xr), yi, vmul(vmul(k4, xi), yr)))
        vstore(dre, o, vfma(k1, vfma(ur, yr, vmul(xr, vr)), vmul(k2, vfma(ui, yi, vmul(xi, vi)))))
        vstore(dim, o, vfma(k3, vfma(ur, yi, vmul(xr, vi)), vmul(k4, vfma(ui, yr, vmul(xi, vr)))))
    for g in range(sp.grp_a.shape[0]):
        a = 8 * sp.grp_a[g]
        xr, xi, ur, ui = vload(re, a), vload(im, a), vload(dre, a), vload(dim, a)
        for e in range(sp.grp_ptr[g], sp.grp_ptr[g + 1]):
            b = 8 * sp.top_b[e]
            sigma = vsplat(sp.top_sigma[e])
            yr, yi, vr, vi = vload(re, b), vload(im, b), vload(dre, b), vload(dim, b)
            vstore(val, 8 * (n1 + e), vfma(xr, yr, vmul(sigma, vmul(xi, yi))))
            d = vfma(ur, yr, vmul(xr, vr))
            vstore(dval, 8 * (n1 + e), vfma(sigma, vfma(ui, yi, vmul(xi, vi)), d))
    for p in range(P):
        r, d = zero, zero
        for e in range(n1):
            w = vsplat(sp.r1_weight[e, p])
            r, d = vfma(w, vload(val, 8 * e), r), vfma(w, vload(dval, 8 * e), d)
        for e in range(T):
            w = vsplat(sp.top_weight[e, p])
            r, d = vfma(w, vload(val, 8 * (n1 + e)), r), vfma(w, vload(dval, 8 * (n1 + e)), d)
        vstore(rho, 8 * p, r)
        vstore(drho, 8 * p, d)
        for v in range(8):
            inside = 1.0 if v < count else 0.0
            _, df, ddf = embed2(sp.embedding, sp.emb_m[p], rho[p, v])
            alpha[p, v] = inside * sp.emb_w[p] * (seed[v] * df + ddf * drho[p, v])
            beta[p, v] = inside * sp.emb_w[p] * df
    if want_weights:
        for p in range(P):
            x, y = vload(alpha, 8 * p), vload(beta, 8 * p)
            for e in range(n1 + T):
                at = 8 * (e * P + p)
                vstore(acc, at, vfma(x, vload(val, 8 * e), vfma(y, vload(dval, 8 * e), vload(acc, at))))
    if not want_adjoint:
        return
    for o in range(0, 8 * N, 8):
        vstore(ar, o, zero)
        vstore(ai, o, zero)
        vstore(hr, o, zero)
        vstore(hi, o, zero)
    for g in range(sp.grp_a.shape[0]):
        a = 8 * sp.grp_a[g]
        xr, xi, ur, ui = vload(re, a), vload(im, a), vload(dre, a), vload(dim, a)
        s1, s2, s3, s4 = zero, zero, zero, zero
        for e in range(sp.grp_ptr[g], sp.grp_ptr[g + 1]):
            b = 8 * sp.top_b[e]
            w, h = zero, zero
            for p in range(P):
                c = vsplat(sp.top_weight[e, p])
                w, h = vfma(c, vload(alpha, 8 * p), w), vfma(c, vload(beta, 8 * p), h)
            sigma = vsplat(sp.top_sigma[e])
            ws, hs = vmul(w, sigma), vmul(h, sigma)
            yr, yi, vr, vi = vload(re, b), vload(im, b), vload(dre, b), vload(dim, b)
            s1 = vfma(w, yr, vfma(h, vr, s1))
            s2 = vfma(ws, yi, vfma(hs, vi, s2))
            s3 = vfma(h, yr, s3)
            s4 = vfma(hs, yi, s4)
            vstore(ar, b, vfma(w, xr, vfma(h, ur, vload(ar, b))))
            vstore(ai, b, vfma(ws, xi, vfma(hs, ui, vload(ai, b))))
            vstore(hr, b, vfma(h, xr, vload(hr, b)))
            vstore(hi, b, vfma(hs, xi, vload(hi, b)))
        vstore(ar, a, vadd(s1, vload(ar, a)))
        vstore(ai, a, vadd(s2, vload(ai, a)))
        vstore(hr, a, vadd(s3, vload(hr, a)))
        vstore(hi, a, vadd(s4, vload(hi, a)))
    for t in range(nn - 1, -1, -1):
        a, b, o = 8 * sp.node_a[t], 8 * sp.node_b[t], 8 * (nl + t)
        xr, xi, yr, yi = vload(re, a), vload(im, a), vload(re, b), vload(im, b)
        ur, ui, vr, vi = vload(dre, a), vload(dim, a), vload(dre, b), vload(dim, b)
        g1, g2 = vmul(vsplat(sp.node_k[t, 0]), vload(ar, o)), vmul(vsplat(sp.node_k[t, 1]), vload(ar, o))
        g3, g4 = vmul(vsplat(sp.node_k[t, 2]), vload(ai, o)), vmul(vsplat(sp.node_k[t, 3]), vload(ai, o))
        h1, h2 = vmul(vsplat(sp.node_k[t, 0]), vload(hr, o)), vmul(vsplat(sp.node_k[t, 1]), vload(hr, o))
        h3, h4 = vmul(vsplat(sp.node_k[t, 2]), vload(hi, o)), vmul(vsplat(sp.node_k[t, 3]), vload(hi, o))
        vstore(ar, a, vfma(g1, yr, vfma(h1, vr, vfma(g3, yi, vfma(h3, vi, vload(ar, a))))))
        vstore(ai, a, vfma(g2, yi, vfma(h2, vi, vfma(g4, yr, vfma(h4, vr, vload(ai, a))))))
        vstore(hr, a, vfma(h1, yr, vfma(h3, yi, vload(hr, a))))
        vstore(hi, a, vfma(h2, yi, vfma(h4, yr, vload(hi, a))))
        vstore(ar, b, vfma(g1, xr, vfma(h1, ur, vfma(g4, xi, vfma(h4, ui, vload(ar, b))))))
        vstore(ai, b, vfma(g2, xi, vfma(h2, ui, vfma(g3, xr, vfma(h3, ur, vload(ai, b))))))
        vstore(hr, b, vfma(h1, xr, vfma(h4, xi, vload(hr, b))))
        vstore(hi, b, vfma(h2, xi, vfma(h3, xr, vload(hi, b))))


@njit(cache=True, fastmath=FAST)
def _block(sp, lv, rad, A, D, seed, count, want_radial, work):
    """Add the gradient of sum_v (seed_v E_v + dE_v/dA . D_v) of one block to ``acc``, ``racc`` of ``work``, by lane."""
    n1 = lv.r1_raw.shape[0]
    ar, ai, hr, hi, val, dval, racc = work.ar, work.ai, work.hr, work.hi, work.val, work.dval, work.racc
    _leaves(lv, rad, A, work.re, work.im)
    _leaves(lv, rad, D, work.dre, work.dim)
    for e in range(n1):
        at = 8 * lv.r1_raw[e]
        vstore(val, 8 * e, vload(A, at))
        vstore(dval, 8 * e, vload(D, at))
    dual_products(sp, n1, seed, count, True, want_radial, work)
    if not want_radial:
        return
    for t in range(sp.n_leaves):
        xr, xi, ur, ui = vload(ar, 8 * t), vload(ai, 8 * t), vload(hr, 8 * t), vload(hi, 8 * t)
        for k in range(lv.count[t]):
            at = 8 * (lv.raw_ptr[t] + k * lv.raw_step[t])
            to = 8 * (lv.rad_ptr[t] + k)
            total = vfma(xr, vload(A, at), vfma(ur, vload(D, at), vload(racc, to)))
            if lv.complex[t]:
                total = vfma(xi, vload(A, at + 8), vfma(ui, vload(D, at + 8), total))
            vstore(racc, to, total)


@njit(nogil=True, cache=True, fastmath=FAST)
def gradients(sp, lv, rad, raw, tangent, seed, count, want_radial, g_top, g_rank1, g_rad):
    """Gradient of sum_i (seed_i E_i + dE_i/dA . tangent_i) by product weights and radial coefficients (added).

    ``raw``, ``tangent`` [blocks, D, 8], ``seed`` [blocks, 8]; ``g_top`` [tops, P], ``g_rank1`` [n1, P], ``g_rad``.
    """
    P, n1 = sp.emb_w.shape[0], lv.r1_raw.shape[0]
    work = make_work(sp, n1, g_rad.shape[0] if want_radial else 1)
    for block in range(raw.shape[0]):
        _block(sp, lv, rad, raw[block], tangent[block], seed[block], count - 8 * block, want_radial, work)
    for e in range(n1):
        for p in range(P):
            g_rank1[e, p] += vsum(vload(work.acc, 8 * (e * P + p)))
    for e in range(g_top.shape[0]):
        for p in range(P):
            g_top[e, p] += vsum(vload(work.acc, 8 * ((n1 + e) * P + p)))
    if want_radial:
        for k in range(g_rad.shape[0]):
            g_rad[k] += vsum(vload(work.racc, 8 * k))
