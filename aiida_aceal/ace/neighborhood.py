"""Kernels along the neighbours of one atom: geometry, angular and radial functions, A, and back to the bonds.

Neighbours are grouped by species; each group starts at a multiple of eight and is filled up with empty places
(index -1) whose radial functions are zero, so that every loop runs in full vectors.
"""

from __future__ import annotations

import numpy as np

from aiida_aceal.common.kernels import njit

from .simd import vadd, vfma, vload, vmul, vsplat, vstore, vsum, vtranspose_store

FAST = {"nsz", "arcp", "contract", "reassoc"}  # keep NaN and infinity: they must reach the caller


@njit(cache=True)
def places(first, atoms, n_species):
    """Length that the work arrays of `gather` need for any of the atoms: a multiple of eight."""
    longest = 0
    for i in atoms:
        longest = max(longest, first[i + 1] - first[i])
    return (longest + 7) // 8 * 8 + 8 * n_species


@njit(cache=True, fastmath=FAST)
def gather(sp, i, species, x, first, neighbors, jidx, geo, seg):
    """Neighbours of atom i inside their cutoff. geo rows: ux, uy, uz, r, 1/r. Returns the number of places.

    ``seg`` [S + 1]: first place of each species; ``jidx`` [places]: index of the neighbour or -1.
    """
    S = sp.rcut.shape[0]
    xi, yi, zi = x[i, 0], x[i, 1], x[i, 2]
    begin, end = first[i], first[i + 1]
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
        while n % 8:
            jidx[n] = -1
            geo[0, n] = 0.0
            geo[1, n] = 0.0
            geo[2, n] = 0.0
            geo[3, n] = 1.0
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


@njit(cache=True, fastmath=FAST)
def angular(n, lmax, geo, q, cm, sm):
    """q[lm] = d^m P_l / dz^m, and cm + i sm = (x + i y)^m on unit vectors, along n places; lm = l (l + 1) / 2 + m."""
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


@njit(cache=True, inline="always")
def _horner(table, at, C, z, scale):
    """Value and slope of eight channels of one bin: polynomial of degree 7."""
    zz = vsplat(z)
    p = vload(table, at + 7 * C)
    d = p
    p = vfma(p, zz, vload(table, at + 6 * C))
    d = vfma(d, zz, p)
    p = vfma(p, zz, vload(table, at + 5 * C))
    d = vfma(d, zz, p)
    p = vfma(p, zz, vload(table, at + 4 * C))
    d = vfma(d, zz, p)
    p = vfma(p, zz, vload(table, at + 3 * C))
    d = vfma(d, zz, p)
    p = vfma(p, zz, vload(table, at + 2 * C))
    d = vfma(d, zz, p)
    p = vfma(p, zz, vload(table, at + C))
    d = vfma(d, zz, p)
    p = vfma(p, zz, vload(table, at))
    return p, vmul(d, vsplat(scale))


@njit(cache=True, fastmath=FAST)
def radial(sp, s, k0, k1, jidx, geo, R, dR, at, z, scale):
    """Channel values and slopes R, dR [C, J] of the places k0..k1 (all of species s). at, z, scale: scratch [8]."""
    C, J = R.shape
    G = sp.seg_start.shape[1]
    empty = (sp.table.shape[0] - 1) * 8 * C  # the last bin is zero
    for k in range(k0, k1, 8):
        for t in range(8):
            r = geo[3, k + t]
            g = 0
            for u in range(1, G):
                if r >= sp.seg_start[s, u]:
                    g = u
            f = (r - sp.seg_start[s, g]) * sp.seg_inverse[s, g]
            b = int(f)
            z[t] = 2.0 * (f - b) - 1.0
            scale[t] = 2.0 * sp.seg_inverse[s, g]
            at[t] = empty if jidx[k + t] < 0 else (sp.seg_offset[s, g] + b) * 8 * C
        for c in range(0, C, 8):
            p0, d0 = _horner(sp.table, at[0] + c, C, z[0], scale[0])
            p1, d1 = _horner(sp.table, at[1] + c, C, z[1], scale[1])
            p2, d2 = _horner(sp.table, at[2] + c, C, z[2], scale[2])
            p3, d3 = _horner(sp.table, at[3] + c, C, z[3], scale[3])
            p4, d4 = _horner(sp.table, at[4] + c, C, z[4], scale[4])
            p5, d5 = _horner(sp.table, at[5] + c, C, z[5], scale[5])
            p6, d6 = _horner(sp.table, at[6] + c, C, z[6], scale[6])
            p7, d7 = _horner(sp.table, at[7] + c, C, z[7], scale[7])
            vtranspose_store(R, c * J + k, J, p0, p1, p2, p3, p4, p5, p6, p7)
            vtranspose_store(dR, c * J + k, J, d0, d1, d2, d3, d4, d5, d6, d7)


@njit(cache=True)
def core_pair(sp, s, r):
    """Core energy of a bond (eV) and its derivative."""
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


@njit(cache=True, fastmath=FAST)
def atomic_base(sp, s, k0, k1, R, q, cm, sm, yc, ys, a1, node_re, node_im, lane):
    """Add the places k0..k1 (all of species s) to A of one lane: a1 [n1, 8], node_re, node_im [nodes, 8]."""
    J = R.shape[1]
    for e in range(sp.r1_ptr[s], sp.r1_ptr[s + 1]):
        c = sp.r1_channel[e] * J
        total = vsplat(0.0)
        for k in range(k0, k1, 8):
            total = vadd(total, vload(R, c + k))
        a1[e, lane] += vsum(total)
    for l in range(sp.lmax[s] + 1):
        for m in range(l + 1):
            lm = l * (l + 1) // 2 + m
            p0, p1 = sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]
            if p0 == p1:
                continue
            norm = sp.norm[lm]
            if m == 0:
                for e in range(p0, p1):
                    c = sp.ent_channel[e] * J
                    re = vsplat(0.0)
                    for k in range(k0, k1, 8):
                        re = vfma(vload(R, c + k), vload(q, lm * J + k), re)
                    node_re[sp.ent_leaf[e], lane] += norm * vsum(re)
                continue
            for k in range(k0, k1, 8):
                ql = vload(q, lm * J + k)
                vstore(yc, k, vmul(ql, vload(cm, m * J + k)))
                vstore(ys, k, vmul(ql, vload(sm, m * J + k)))
            for e in range(p0, p1):
                c = sp.ent_channel[e] * J
                re = vsplat(0.0)
                im = vsplat(0.0)
                for k in range(k0, k1, 8):
                    rk = vload(R, c + k)
                    re = vfma(rk, vload(yc, k), re)
                    im = vfma(rk, vload(ys, k), im)
                node_re[sp.ent_leaf[e], lane] += norm * vsum(re)
                node_im[sp.ent_leaf[e], lane] += norm * vsum(im)


@njit(cache=True, fastmath=FAST)
def leaf_weights(sp, lane, adj_re, adj_im, wr, wi):
    """Adjoints of one lane's leaves by entry, times the norm of the spherical harmonics: wr, wi [entries]."""
    for s in range(sp.lm_ptr.shape[0]):
        for lm in range(sp.lm_ptr.shape[1] - 1):
            for e in range(sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]):
                wr[e] = sp.norm[lm] * adj_re[sp.ent_leaf[e], lane]
                wi[e] = sp.norm[lm] * adj_im[sp.ent_leaf[e], lane]


@njit(cache=True, fastmath=FAST)
def bond_gradient(sp, s, k0, k1, R, dR, q, cm, sm, w1, lane, wr, wi, grad):
    """dE/d(unit vector) and dE/dr of the places k0..k1: rows 0..2 and 3 of grad [4, J]."""
    J = R.shape[1]
    lmax = sp.lmax[s]
    for k in range(k0, k1, 8):
        gx = vsplat(0.0)
        gy = vsplat(0.0)
        gz = vsplat(0.0)
        gr = vsplat(0.0)
        for e in range(sp.r1_ptr[s], sp.r1_ptr[s + 1]):
            gr = vfma(vsplat(w1[e, lane]), vload(dR, sp.r1_channel[e] * J + k), gr)
        for l in range(lmax + 1):
            lm = l * (l + 1) // 2
            tr = vsplat(0.0)
            dr = vsplat(0.0)
            for e in range(sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]):
                c = sp.ent_channel[e] * J + k
                w = vsplat(wr[e])
                tr = vfma(w, vload(R, c), tr)
                dr = vfma(w, vload(dR, c), dr)
            gr = vfma(dr, vload(q, lm * J + k), gr)
            if l > 0:  # d q_lm / dz = q_{l, m+1}
                gz = vfma(tr, vload(q, (lm + 1) * J + k), gz)
        for m in range(1, lmax + 1):
            c1 = vload(cm, m * J + k)
            s1 = vload(sm, m * J + k)
            c0 = vload(cm, (m - 1) * J + k)
            s0 = vload(sm, (m - 1) * J + k)
            fm = vsplat(float(m))
            for l in range(m, lmax + 1):
                lm = l * (l + 1) // 2 + m
                p0, p1 = sp.lm_ptr[s, lm], sp.lm_ptr[s, lm + 1]
                if p0 == p1:
                    continue
                tr = vsplat(0.0)
                ti = vsplat(0.0)
                dr = vsplat(0.0)
                di = vsplat(0.0)
                for e in range(p0, p1):
                    c = sp.ent_channel[e] * J + k
                    a, b = vsplat(wr[e]), vsplat(wi[e])
                    rk, dk = vload(R, c), vload(dR, c)
                    tr = vfma(a, rk, tr)
                    ti = vfma(b, rk, ti)
                    dr = vfma(a, dk, dr)
                    di = vfma(b, dk, di)
                ql = vload(q, lm * J + k)
                gr = vfma(ql, vfma(dr, c1, vmul(di, s1)), gr)
                fq = vmul(fm, ql)
                gx = vfma(fq, vfma(tr, c0, vmul(ti, s0)), gx)
                gy = vfma(fq, vfma(ti, c0, vmul(vmul(vsplat(-1.0), tr), s0)), gy)
                if m < l:
                    gz = vfma(vload(q, (lm + 1) * J + k), vfma(tr, c1, vmul(ti, s1)), gz)
        vstore(grad, k, gx)
        vstore(grad, J + k, gy)
        vstore(grad, 2 * J + k, gz)
        vstore(grad, 3 * J + k, gr)
