"""Jacobian of energies, forces and virials by all parameters: for Gauss-Newton steps and preconditioning.

Of one atom, with G = dA/dr of its neighbours (images of one atom merged): forces by coefficients are
-(F' G dB/dA + F'' (G drho/dA) B), forces by radial coefficients -(G_leaf H A_raw + G_raw dE/dA_leaf) with H the Hessian
of the energy by the base functions, whose columns come eight at a time from dual numbers.
"""

from __future__ import annotations

import numpy as np

from aiida_aceal.ace.design import _jacobian
from aiida_aceal.ace.embedding import embed2
from aiida_aceal.ace.neighborhood import FAST
from aiida_aceal.common.kernels import njit

from .geometry import _load, _scratch
from .graphs import dual_products, make_work


@njit(cache=True, fastmath=FAST)
def _neighbour_slopes(bonds, lay, i, s, slot, geo, ang, cm, sm, y, dy, G, virial_row):
    """G [rows, D] (zeroed by the caller): dA_raw/dr of the atom in ``slot`` of each neighbour and of atom i itself;

    from ``virial_row`` on, if not negative, six rows dA_raw/dstrain.
    """
    p0, _ = _load(bonds, lay, i, s, geo, ang, cm, sm)
    own = 3 * slot[i]
    for mu in range(lay.K.shape[0]):
        a, b = bonds.seg[i, mu] - p0, bonds.seg[i, mu + 1] - p0
        J, L, K = b - a, lay.L[s, mu], lay.K[s, mu]
        Q, base = (L + 1) * (L + 1), lay.base[s, mu]
        for k in range(a, b):
            if (
                bonds.g[bonds.goff[i, mu] + k - a] == 0.0
                and bonds.unit[0, p0 + k] == 0.0
                and (bonds.unit[1, p0 + k] == 0.0 and bonds.unit[2, p0 + k] == 0.0)
            ):
                continue  # an empty place
            r = bonds.r[p0 + k]
            inv = 1.0 / r
            u = (geo[0, k], geo[1, k], geo[2, k])
            for l in range(L + 1):
                for m in range(l + 1):
                    lm = l * (l + 1) // 2 + m
                    norm = lay.norm[lm]
                    t = norm * m * ang[lm, k]
                    for part in range(1 if m == 0 else 2):
                        q = l * l + (0 if m == 0 else 2 * m - 1 + part)
                        trig = cm[m, k] if part == 0 else sm[m, k]
                        y[q] = norm * ang[lm, k] * trig
                        gx, gy = 0.0, 0.0
                        if m > 0 and part == 0:
                            gx, gy = t * cm[m - 1, k], -t * sm[m - 1, k]
                        elif m > 0:
                            gx, gy = t * sm[m - 1, k], t * cm[m - 1, k]
                        gz = norm * ang[lm + 1, k] * trig if m < l else 0.0
                        along = gx * u[0] + gy * u[1] + gz * u[2]
                        dy[0, q] = inv * (gx - along * u[0])
                        dy[1, q] = inv * (gy - along * u[1])
                        dy[2, q] = inv * (gz - along * u[2])
            row = 3 * slot[bonds.j[p0 + k]]
            for c in range(K):
                at = bonds.goff[i, mu] + c * J + k - a
                g, dg = bonds.g[at], bonds.dg[at]
                col = base + c * Q
                for d in range(3):
                    for q in range(Q):
                        x = dg * u[d] * y[q] + g * dy[d, q]
                        G[row + d, col + q] += x
                        G[own + d, col + q] -= x
                if virial_row >= 0:
                    for q in range(Q):
                        vx = r * (dg * u[0] * y[q] + g * dy[0, q])
                        vy = r * (dg * u[1] * y[q] + g * dy[1, q])
                        vz = r * (dg * u[2] * y[q] + g * dy[2, q])
                        G[virial_row, col + q] += vx * u[0]
                        G[virial_row + 1, col + q] += vy * u[1]
                        G[virial_row + 2, col + q] += vz * u[2]
                        G[virial_row + 3, col + q] += vx * u[1]
                        G[virial_row + 4, col + q] += vx * u[2]
                        G[virial_row + 5, col + q] += vy * u[2]


@njit(cache=True, fastmath=FAST)
def _hessian(sp, n1, re, im, a1, seed, work, H, adjoint):
    """Hessian H [n1 + 2 nl, 2 nl] of the energy by base functions (columns: re, im of leaves) and dE/dA [2 nl]."""
    nl = sp.n_leaves
    P = sp.emb_w.shape[0]
    for t in range(nl):
        for v in range(8):
            work.re[t, v] = re[t]
            work.im[t, v] = im[t]
    for e in range(n1):
        for v in range(8):
            work.val[e, v] = a1[e]
            work.dval[e, v] = 0.0
    for start in range(0, 2 * nl, 8):
        width = min(8, 2 * nl - start)
        work.dre[:nl] = 0.0
        work.dim[:nl] = 0.0
        for v in range(width):
            if start + v < nl:
                work.dre[start + v, v] = 1.0
            else:
                work.dim[start + v - nl, v] = 1.0
        dual_products(sp, n1, seed, 8, False, True, work)
        for v in range(width):
            for t in range(nl):
                H[n1 + t, start + v] = work.ar[t, v]
                H[n1 + nl + t, start + v] = work.ai[t, v]
            for e in range(n1):
                total = 0.0
                for p in range(P):
                    total += sp.r1_weight[e, p] * work.alpha[p, v]
                H[e, start + v] = total
    for t in range(nl):
        adjoint[t] = work.hr[t, 0]
        adjoint[nl + t] = work.hi[t, 0]


@njit(nogil=True, cache=True, fastmath=FAST)
def add_jacobian(
    sp, lv, da, rad, coefficients, bonds, lay, ids, s, block, lane, raw, slot, first_row, n_slots, energy_row,
    virial_row, want_radial, c_offset, r_offset, J,
):  # fmt: skip
    """Add the derivatives that atoms ``ids`` (species ``s``) contribute to the rows of ``J`` [rows, parameters].

    ``slot`` [n]: place of each atom in its structure; forces of a structure start at ``first_row`` [n], its energy is
    row ``energy_row`` [n], its virial starts at ``virial_row`` [n] (negative: none); ``n_slots`` [n] atoms in the
    structure. Coefficients [P, K] stand from column ``c_offset`` on, radial ones from ``r_offset`` on.
    """
    P, K = coefficients.shape
    n1, nl, D = lv.r1_raw.shape[0], sp.n_leaves, lay.size[s]
    F = n1 + 2 * nl
    work = make_work(sp, n1, 1)
    geo, ang, cm, sm = _scratch(bonds, lay)
    Qmax = 1
    for mu in range(lay.K.shape[0]):
        Qmax = max(Qmax, (lay.L[s, mu] + 1) ** 2)
    y, dy = np.zeros(Qmax), np.zeros((3, Qmax))
    JT, B = np.zeros((F, K)), np.zeros(K)
    H, adjoint = np.zeros((F, 2 * nl)), np.zeros(2 * nl)
    re, im, a1 = np.zeros(nl), np.zeros(nl), np.zeros(n1)
    nothing = np.zeros(8)
    for i in ids:
        A = raw[block[i], :, lane[i]]
        for t in range(nl):
            re[t] = 0.0
            im[t] = 0.0
            for k in range(lv.count[t]):
                w, at = rad[lv.rad_ptr[t] + k], lv.raw_ptr[t] + k * lv.raw_step[t]
                re[t] += w * A[at]
                if lv.complex[t]:
                    im[t] += w * A[at + 1]
        for e in range(n1):
            a1[e] = A[lv.r1_raw[e]]
        JT[:] = 0.0
        B[:] = 0.0
        _jacobian(sp, da, re, im, JT, B)
        for e in range(n1):
            for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
                B[sp.r1_proj_v[c]] += sp.r1_proj_w[c] * a1[e]
        with_v = virial_row[i] >= 0
        R = 3 * n_slots[i] + (6 if with_v else 0)
        G = np.zeros((R, D))
        _neighbour_slopes(bonds, lay, i, s, slot, geo, ang, cm, sm, y, dy, G, 3 * n_slots[i] if with_v else -1)
        GL = np.zeros((R, F))
        for x in range(R):
            for e in range(n1):
                GL[x, e] = G[x, lv.r1_raw[e]]
            for t in range(nl):
                for k in range(lv.count[t]):
                    w, at = rad[lv.rad_ptr[t] + k], lv.raw_ptr[t] + k * lv.raw_step[t]
                    GL[x, n1 + t] += w * G[x, at]
                    if lv.complex[t]:
                        GL[x, n1 + nl + t] += w * G[x, at + 1]
        X = np.dot(GL, JT)
        for p in range(P):
            rho = 0.0
            for k in range(K):
                rho += coefficients[p, k] * B[k]
            _, df, ddf = embed2(sp.embedding, sp.emb_m[p], rho)
            df *= sp.emb_w[p]
            ddf *= sp.emb_w[p]
            col = c_offset + p * K
            for k in range(K):
                J[energy_row[i], col + k] += df * B[k]
            for x in range(R):
                if x < 3 * n_slots[i]:
                    out, sign = first_row[i] + x, -1.0
                else:
                    out, sign = virial_row[i] + x - 3 * n_slots[i], 1.0
                slope = 0.0
                for k in range(K):
                    slope += coefficients[p, k] * X[x, k]
                first, second = sign * df, sign * ddf * slope
                for k in range(K):
                    J[out, col + k] += first * X[x, k] + second * B[k]
        if not want_radial:
            continue
        _hessian(sp, n1, re, im, a1, nothing, work, H, adjoint)
        T = np.dot(GL, H)
        for t in range(nl):
            for k in range(lv.count[t]):
                at, col = lv.raw_ptr[t] + k * lv.raw_step[t], r_offset + lv.rad_ptr[t] + k
                J[energy_row[i], col] += adjoint[t] * A[at] + (adjoint[nl + t] * A[at + 1] if lv.complex[t] else 0.0)
                for x in range(R):
                    total = T[x, t] * A[at] + adjoint[t] * G[x, at]
                    if lv.complex[t]:
                        total += T[x, nl + t] * A[at + 1] + adjoint[nl + t] * G[x, at + 1]
                    if x < 3 * n_slots[i]:
                        J[first_row[i] + x, col] -= total
                    else:
                        J[virial_row[i] + x - 3 * n_slots[i], col] += total
