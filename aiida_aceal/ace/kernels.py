"""Compiled kernels of the evaluator: neighbours -> A -> products -> energy, and back to forces.

Atoms of one species are taken ``LANES`` at a time: each neighbour stage works along the neighbours of one atom, the
product stage along the atoms, so both run in vector registers. Only real arithmetic: A_{l,-m} = (-1)^m conj(A_lm).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

LANES = 8
_FAST = {"nsz", "arcp", "contract", "reassoc"}  # keep NaN and infinity: they must reach the caller
DISTANCE, DENSITY, ZBL = 0, 1, 2


class SpeciesArrays(NamedTuple):
    """Everything the kernels need for one central species (built by `aiida_aceal.ace.compile`)."""

    # radial tables by neighbour species; segments padded with infinite start
    rcut: np.ndarray  # [S]
    seg_start: np.ndarray  # [S, G]
    seg_inverse: np.ndarray
    seg_offset: np.ndarray
    table: np.ndarray  # [bins, 8, C]
    has_core: np.ndarray  # [S]
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


@njit(cache=True)
def embed(kind, m, rho):
    """F(rho; m) and dF/drho: FinnisSinclair (kind 0) or FinnisSinclairShiftedScaled (kind 1)."""
    if kind == 1:
        if m == 1.0:
            return rho, 1.0
        a = abs(rho)
        sign = 1.0 if rho >= 0.0 else -1.0
        n = 1.0 / m
        q = np.exp(-a)
        x = n ** (n / (1.0 - n)) * q
        y = n ** (1.0 / (1.0 - n)) * q
        base = x + a
        return sign * (base**m - y), y + m * (1.0 - x) * base ** (m - 1.0)
    if m == 1.0:
        return rho, 1.0
    w = 1.0e6
    if abs(rho) <= 1e-10:
        return w ** (1.0 - m) * rho, w ** (1.0 - m)
    a = abs(rho)
    sign = 1.0 if rho > 0.0 else -1.0
    t = (w * a) ** 3
    g, dg = 0.0, 0.0
    if t <= 30.0:
        g = np.exp(-t)
        dg = -3.0 * w * (w * a) ** 2 * g
    scale = w ** (1.0 - m)
    power = a**m
    value = (1.0 - g) * power + scale * g * a
    slope = (1.0 - g) * m * a ** (m - 1.0) - dg * power + scale * (dg * a + g)
    return sign * value, slope


@njit(cache=True)
def switch_value(t, t0, delta):
    """Polynomial switch S(t; t0, delta) and its derivative."""
    if t >= t0:
        return 0.0, 0.0
    if t <= t0 - delta or delta <= 0.0:
        return 1.0, 0.0
    x = 1.0 - 2.0 * (1.0 + (t - t0) / delta)
    value = 0.5 + 3.75 * (x / 4.0 - x**3 / 6.0 + x**5 / 20.0)
    return value, 3.75 * (0.25 - 0.5 * x * x + 0.25 * x**4) * (-2.0 / delta)


@njit(cache=True, fastmath=_FAST)
def _gather(sp, i, species, x, first, neighbors, jidx, jsp, geo, seg):
    """Neighbours of atom i inside their cutoff, grouped by species. geo rows: ux, uy, uz, r, 1/r. Returns their number."""
    S = sp.rcut.shape[0]
    xi, yi, zi = x[i, 0], x[i, 1], x[i, 2]
    begin, end = first[i], first[i + 1]
    for s in range(S + 1):
        seg[s] = 0
    n = 0
    for s in range(S):
        seg[s] = n
        rc2 = sp.rcut[s] * sp.rcut[s]
        for k in range(begin, end):
            j = neighbors[k]
            if S > 1 and species[j] != s:
                continue
            dx, dy, dz = x[j, 0] - xi, x[j, 1] - yi, x[j, 2] - zi
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < rc2:
                jidx[n] = j
                geo[0, n] = dx
                geo[1, n] = dy
                geo[2, n] = dz
                geo[3, n] = r2
                n += 1
    seg[S] = n
    for k in range(n):
        r = np.sqrt(geo[3, k])
        inv = 1.0 / r
        geo[0, k] *= inv
        geo[1, k] *= inv
        geo[2, k] *= inv
        geo[3, k] = r
        geo[4, k] = inv
    return n


@njit(cache=True, fastmath=_FAST)
def _angular(n, lmax, geo, q, cm, sm):
    """q[lm] = d^m P_l / dz^m, and cm + i sm = (x + i y)^m on unit vectors, along n neighbours."""
    for k in range(n):
        cm[0, k] = 1.0
        sm[0, k] = 0.0
        q[0, k] = 1.0
    for m in range(1, lmax + 1):
        for k in range(n):
            cm[m, k] = cm[m - 1, k] * geo[0, k] - sm[m - 1, k] * geo[1, k]
            sm[m, k] = cm[m - 1, k] * geo[1, k] + sm[m - 1, k] * geo[0, k]
    double_factorial = 1.0
    for m in range(lmax + 1):
        if m > 0:
            double_factorial *= 2.0 * m - 1.0
        mm = m * (m + 1) // 2 + m
        for k in range(n):
            q[mm, k] = double_factorial
        if m < lmax:
            up = (m + 1) * (m + 2) // 2 + m
            f = (2.0 * m + 1.0) * double_factorial
            for k in range(n):
                q[up, k] = f * geo[2, k]
        for l in range(m + 2, lmax + 1):
            lm = l * (l + 1) // 2 + m
            l1 = (l - 1) * l // 2 + m
            l2 = (l - 2) * (l - 1) // 2 + m
            a = (2.0 * l - 1.0) / (l - m)
            b = (l + m - 1.0) / (l - m)
            for k in range(n):
                q[lm, k] = a * geo[2, k] * q[l1, k] - b * q[l2, k]


@njit(cache=True, fastmath=_FAST)
def _radial(sp, s, k0, k1, geo, R, dR, value, slope):
    """Channel values and slopes of neighbours k0..k1 of species s: R, dR [C, J]; value, slope are [8, C] buffers."""
    C = R.shape[0]
    G = sp.seg_start.shape[1]
    for kb in range(k0, k1, 8):
        width = min(8, k1 - kb)
        for k in range(width):
            r = geo[3, kb + k]
            g = 0
            for t in range(1, G):
                if r >= sp.seg_start[s, t]:
                    g = t
            f = (r - sp.seg_start[s, g]) * sp.seg_inverse[s, g]
            b = int(f)
            z = 2.0 * (f - b) - 1.0
            scale = 2.0 * sp.seg_inverse[s, g]
            row = sp.table[sp.seg_offset[s, g] + b]
            for c in range(C):
                p = row[7, c]
                d = p
                p = p * z + row[6, c]
                d = d * z + p
                p = p * z + row[5, c]
                d = d * z + p
                p = p * z + row[4, c]
                d = d * z + p
                p = p * z + row[3, c]
                d = d * z + p
                p = p * z + row[2, c]
                d = d * z + p
                p = p * z + row[1, c]
                d = d * z + p
                p = p * z + row[0, c]
                value[k, c] = p
                slope[k, c] = d * scale
        for c in range(C):
            for k in range(width):
                R[c, kb + k] = value[k, c]
                dR[c, kb + k] = slope[k, c]


@njit(cache=True)
def _core_pair(sp, s, r):
    """Core energy of a bond and its derivative."""
    G = sp.core_start.shape[1]
    g = 0
    for t in range(1, G):
        if r >= sp.core_start[s, t]:
            g = t
    f = (r - sp.core_start[s, g]) * sp.core_inverse[s, g]
    b = int(f)
    z = 2.0 * (f - b) - 1.0
    row = sp.core_table[sp.core_offset[s, g] + b]
    p = row[7]
    d = 0.0
    for k in range(6, -1, -1):
        d = d * z + p
        p = p * z + row[k]
    d *= 2.0 * sp.core_inverse[s, g]
    return p / r, (d - p / r) / r


@njit(cache=True, fastmath=_FAST)
def _atomic_base(sp, s, k0, k1, R, q, cm, sm, yc, ys, a1, node_re, node_im, lane):
    """Add the neighbours k0..k1 (all of species s) to the atomic base functions of one lane."""
    for e in range(sp.r1_ptr[s], sp.r1_ptr[s + 1]):
        c = sp.r1_channel[e]
        total = 0.0
        for k in range(k0, k1):
            total += R[c, k]
        a1[e, lane] += total
    for l in range(sp.lmax[s] + 1):
        for m in range(l + 1):
            lm = l * (l + 1) // 2 + m
            p0, p1 = sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]
            if p0 == p1:
                continue
            norm = sp.norm[lm]
            if m == 0:
                for e in range(p0, p1):
                    c = sp.ent_channel[e]
                    total = 0.0
                    for k in range(k0, k1):
                        total += R[c, k] * q[lm, k]
                    node_re[sp.ent_leaf[e], lane] += norm * total
            else:
                for k in range(k0, k1):
                    yc[k] = q[lm, k] * cm[m, k]
                    ys[k] = q[lm, k] * sm[m, k]
                for e in range(p0, p1):
                    c = sp.ent_channel[e]
                    re = 0.0
                    im = 0.0
                    for k in range(k0, k1):
                        re += R[c, k] * yc[k]
                        im += R[c, k] * ys[k]
                    node_re[sp.ent_leaf[e], lane] += norm * re
                    node_im[sp.ent_leaf[e], lane] += norm * im


@njit(cache=True, fastmath=_FAST)
def _atomic_base_adjoint(sp, s, k0, k1, R, dR, q, cm, sm, w1, adj_re, adj_im, lane, tmp, grad):
    """dE/d(distance) and dE/d(unit vector) of the neighbours k0..k1: rows 3 and 0..2 of grad [4, J]."""
    for k in range(k0, k1):
        grad[0, k] = 0.0
        grad[1, k] = 0.0
        grad[2, k] = 0.0
        grad[3, k] = 0.0
    for e in range(sp.r1_ptr[s], sp.r1_ptr[s + 1]):
        c = sp.r1_channel[e]
        w = w1[e, lane]
        for k in range(k0, k1):
            grad[3, k] += w * dR[c, k]
    for l in range(sp.lmax[s] + 1):
        for m in range(l + 1):
            lm = l * (l + 1) // 2 + m
            p0, p1 = sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]
            if p0 == p1:
                continue
            norm = sp.norm[lm]
            for k in range(k0, k1):
                tmp[0, k] = 0.0
                tmp[1, k] = 0.0
                tmp[2, k] = 0.0
                tmp[3, k] = 0.0
            for e in range(p0, p1):
                c = sp.ent_channel[e]
                wr = norm * adj_re[sp.ent_leaf[e], lane]
                if m == 0:
                    for k in range(k0, k1):
                        tmp[0, k] += wr * R[c, k]
                        tmp[2, k] += wr * dR[c, k]
                else:
                    wi = norm * adj_im[sp.ent_leaf[e], lane]
                    for k in range(k0, k1):
                        tmp[0, k] += wr * R[c, k]
                        tmp[1, k] += wi * R[c, k]
                        tmp[2, k] += wr * dR[c, k]
                        tmp[3, k] += wi * dR[c, k]
            if m == 0:
                for k in range(k0, k1):
                    grad[3, k] += tmp[2, k] * q[lm, k]
            else:
                fm = float(m)
                for k in range(k0, k1):
                    ql = q[lm, k]
                    grad[3, k] += ql * (tmp[2, k] * cm[m, k] + tmp[3, k] * sm[m, k])
                    grad[0, k] += fm * ql * (tmp[0, k] * cm[m - 1, k] + tmp[1, k] * sm[m - 1, k])
                    grad[1, k] += fm * ql * (tmp[1, k] * cm[m - 1, k] - tmp[0, k] * sm[m - 1, k])
            if m < l:  # d q_lm / dz = q_{l, m+1}
                for k in range(k0, k1):
                    grad[2, k] += q[lm + 1, k] * (tmp[0, k] * cm[m, k] + tmp[1, k] * sm[m, k])


@njit(cache=True, fastmath=_FAST)
def _products_forward(sp, node_re, node_im, a1, rho, want_b, B):
    """Fill the product nodes; accumulate the densities rho [P, LANES] and, if wanted, the projections B [K, LANES]."""
    P = rho.shape[0]
    for t in range(sp.node_a.shape[0]):
        a, b, o = sp.node_a[t], sp.node_b[t], sp.n_leaves + t
        k1, k2, k3, k4 = sp.node_k[t, 0], sp.node_k[t, 1], sp.node_k[t, 2], sp.node_k[t, 3]
        for v in range(LANES):
            ar, ai, br, bi = node_re[a, v], node_im[a, v], node_re[b, v], node_im[b, v]
            node_re[o, v] = k1 * ar * br + k2 * ai * bi
            node_im[o, v] = k3 * ar * bi + k4 * ai * br
    for e in range(a1.shape[0]):
        for p in range(P):
            w = sp.r1_weight[e, p]
            for v in range(LANES):
                rho[p, v] += w * a1[e, v]
    val = np.empty(LANES)
    for g in range(sp.grp_a.shape[0]):
        a = sp.grp_a[g]
        for e in range(sp.grp_ptr[g], sp.grp_ptr[g + 1]):
            b = sp.top_b[e]
            sigma = sp.top_sigma[e]
            for v in range(LANES):
                val[v] = node_re[a, v] * node_re[b, v] + sigma * node_im[a, v] * node_im[b, v]
            for p in range(P):
                w = sp.top_weight[e, p]
                for v in range(LANES):
                    rho[p, v] += w * val[v]
            if want_b:
                for c in range(sp.proj_ptr[e], sp.proj_ptr[e + 1]):
                    w = sp.proj_w[c]
                    k = sp.proj_v[c]
                    for v in range(LANES):
                        B[k, v] += w * val[v]
    if want_b:
        for e in range(a1.shape[0]):
            for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
                for v in range(LANES):
                    B[sp.r1_proj_v[c], v] += sp.r1_proj_w[c] * a1[e, v]


@njit(cache=True, fastmath=_FAST)
def _products_backward(sp, node_re, node_im, adj_re, adj_im, w1, wrho, from_b, wB):
    """Adjoints of the leaves from dE/drho = wrho [P, LANES], or from dE/dB = wB [K, LANES] if ``from_b``."""
    P = wrho.shape[0]
    adj_re[:] = 0.0
    adj_im[:] = 0.0
    for e in range(w1.shape[0]):
        for v in range(LANES):
            w1[e, v] = 0.0
        if from_b:
            for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
                for v in range(LANES):
                    w1[e, v] += sp.r1_proj_w[c] * wB[sp.r1_proj_v[c], v]
        else:
            for p in range(P):
                for v in range(LANES):
                    w1[e, v] += sp.r1_weight[e, p] * wrho[p, v]
    w = np.empty(LANES)
    sr = np.empty(LANES)
    si = np.empty(LANES)
    for g in range(sp.grp_a.shape[0]):
        a = sp.grp_a[g]
        for v in range(LANES):
            sr[v] = 0.0
            si[v] = 0.0
        for e in range(sp.grp_ptr[g], sp.grp_ptr[g + 1]):
            b = sp.top_b[e]
            sigma = sp.top_sigma[e]
            for v in range(LANES):
                w[v] = 0.0
            if from_b:
                for c in range(sp.proj_ptr[e], sp.proj_ptr[e + 1]):
                    for v in range(LANES):
                        w[v] += sp.proj_w[c] * wB[sp.proj_v[c], v]
            else:
                for p in range(P):
                    for v in range(LANES):
                        w[v] += sp.top_weight[e, p] * wrho[p, v]
            for v in range(LANES):
                sr[v] += w[v] * node_re[b, v]
                si[v] += sigma * w[v] * node_im[b, v]
                adj_re[b, v] += w[v] * node_re[a, v]
                adj_im[b, v] += sigma * w[v] * node_im[a, v]
        for v in range(LANES):
            adj_re[a, v] += sr[v]
            adj_im[a, v] += si[v]
    for t in range(sp.node_a.shape[0] - 1, -1, -1):
        a, b, o = sp.node_a[t], sp.node_b[t], sp.n_leaves + t
        k1, k2, k3, k4 = sp.node_k[t, 0], sp.node_k[t, 1], sp.node_k[t, 2], sp.node_k[t, 3]
        for v in range(LANES):
            gr, gi = adj_re[o, v], adj_im[o, v]
            ar, ai, br, bi = node_re[a, v], node_im[a, v], node_re[b, v], node_im[b, v]
            adj_re[a, v] += k1 * gr * br + k3 * gi * bi
            adj_im[a, v] += k2 * gr * bi + k4 * gi * br
            adj_re[b, v] += k1 * gr * ar + k4 * gi * ai
            adj_im[b, v] += k2 * gr * ai + k3 * gi * ar


@njit(nogil=True, cache=True, fastmath=_FAST)
def evaluate_atoms(
    sp, atoms, species, x, first, neighbors, want_forces, want_b, from_b, wB_in, energies, forces, virial, B_out, dF_out
):
    """Evaluate the listed atoms, all of one species.

    Writes ``energies`` [n] (by position in ``atoms``), adds to ``forces`` [n_all, 3], writes ``virial`` [n, 6]
    (dE_i/dstrain: xx, yy, zz, xy, xz, yz), projections ``B_out`` [n, K] and ``dF_out`` [n, P] (dF/drho_p with its
    weight, before the core cutoff). With ``from_b`` the forces are those of sum_ik wB_in[i, k] B_ik instead of E.
    """
    n_atoms = atoms.shape[0]
    jmax = 8
    for t in range(n_atoms):
        i = atoms[t]
        jmax = max(jmax, first[i + 1] - first[i])
    jmax = (jmax + 7) // 8 * 8
    S = sp.rcut.shape[0]
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
    jsp = np.empty(jmax, dtype=np.int64)
    seg = np.zeros((LANES, S + 1), dtype=np.int64)
    geo = np.empty((LANES, 5, jmax))
    R = np.empty((LANES, C, jmax))
    dR = np.empty((LANES, C, jmax))
    q = np.empty((LANES, LM, jmax))
    cm = np.empty((LANES, lmax + 1, jmax))
    sm = np.empty((LANES, lmax + 1, jmax))
    yc, ys = np.empty(jmax), np.empty(jmax)
    tmp, grad = np.empty((4, jmax)), np.empty((4, jmax))
    value, slope = np.empty((8, C)), np.empty((8, C))
    node_re, node_im = np.zeros((N, LANES)), np.zeros((N, LANES))
    adj_re, adj_im = np.zeros((N, LANES)), np.zeros((N, LANES))
    a1, w1 = np.zeros((n1, LANES)), np.zeros((n1, LANES))
    rho, wrho = np.zeros((P, LANES)), np.zeros((P, LANES))
    B = np.zeros((K if want_b else 1, LANES))
    wB = np.zeros((K if from_b else 1, LANES))
    any_core = False
    for s in range(S):
        any_core = any_core or sp.has_core[s] != 0
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
            n = _gather(sp, atoms[t0 + v], species, x, first, neighbors, jidx[v], jsp, geo[v], seg[v])
            _angular(n, lmax, geo[v], q[v], cm[v], sm[v])
            for s in range(S):
                k0, k1 = seg[v, s], seg[v, s + 1]
                if k0 < k1:
                    _radial(sp, s, k0, k1, geo[v], R[v], dR[v], value, slope)
                    _atomic_base(sp, s, k0, k1, R[v], q[v], cm[v], sm[v], yc, ys, a1, node_re, node_im, v)
        _products_forward(sp, node_re, node_im, a1, rho, want_b, B)
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
            if any_core or sp.inner_type == ZBL:
                for s in range(S):
                    for k in range(seg[v, s], seg[v, s + 1]):
                        if sp.has_core[s] != 0:
                            core += _core_pair(sp, s, geo[v, 3, k])[0]
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
        _products_backward(sp, node_re, node_im, adj_re, adj_im, w1, wrho, from_b, wB)
        for v in range(width):
            i = atoms[t0 + v]
            n = seg[v, S]
            for s in range(S):
                k0, k1 = seg[v, s], seg[v, s + 1]
                if k0 == k1:
                    continue
                _atomic_base_adjoint(
                    sp, s, k0, k1, R[v], dR[v], q[v], cm[v], sm[v], w1, adj_re, adj_im, v, tmp, grad
                )
                if sp.has_core[s] != 0 and not from_b:
                    for k in range(k0, k1):
                        grad[3, k] += cut_weight[v] * _core_pair(sp, s, geo[v, 3, k])[1]
            if cut_index[v] >= 0 and not from_b:
                grad[3, cut_index[v]] += cut_slope[v]
            fx = fy = fz = 0.0
            sxx = syy = szz = sxy = sxz = syz = 0.0
            for k in range(n):
                ux, uy, uz, r, inv = geo[v, 0, k], geo[v, 1, k], geo[v, 2, k], geo[v, 3, k], geo[v, 4, k]
                along = grad[3, k] - inv * (grad[0, k] * ux + grad[1, k] * uy + grad[2, k] * uz)
                gx = along * ux + inv * grad[0, k]
                gy = along * uy + inv * grad[1, k]
                gz = along * uz + inv * grad[2, k]
                fx += gx
                fy += gy
                fz += gz
                j = jidx[v, k]
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
