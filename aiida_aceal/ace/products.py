"""Kernels of the product graph: eight atoms side by side, forward to densities and projections and back."""

from __future__ import annotations

from aiida_aceal.common.kernels import njit

from .neighborhood import FAST
from .simd import vadd, vfma, vload, vmul, vsplat, vstore


@njit(cache=True, fastmath=FAST)
def products_forward(sp, node_re, node_im, a1, rho, want_b, B):
    """Fill the product nodes; add to the densities rho [P, 8] and, if wanted, to the projections B [K, 8].

    ``node_re``, ``node_im`` [nodes, 8] hold A in their first ``n_leaves`` rows, ``a1`` [n1, 8] the rank-1 sums.
    """
    P = rho.shape[0]
    for t in range(sp.node_a.shape[0]):
        a, b, o = 8 * sp.node_a[t], 8 * sp.node_b[t], 8 * (sp.n_leaves + t)
        ar, ai, br, bi = vload(node_re, a), vload(node_im, a), vload(node_re, b), vload(node_im, b)
        k1, k2, k3, k4 = sp.node_k[t, 0], sp.node_k[t, 1], sp.node_k[t, 2], sp.node_k[t, 3]
        vstore(node_re, o, vfma(vmul(vsplat(k1), ar), br, vmul(vmul(vsplat(k2), ai), bi)))
        vstore(node_im, o, vfma(vmul(vsplat(k3), ar), bi, vmul(vmul(vsplat(k4), ai), br)))
    r0 = vload(rho, 0)
    r1 = vload(rho, 8 if P > 1 else 0)
    last = 1 if P > 1 else 0
    for e in range(a1.shape[0]):
        value = vload(a1, 8 * e)
        r0 = vfma(vsplat(sp.r1_weight[e, 0]), value, r0)
        r1 = vfma(vsplat(sp.r1_weight[e, last]), value, r1)
        for p in range(2, P):
            vstore(rho, 8 * p, vfma(vsplat(sp.r1_weight[e, p]), value, vload(rho, 8 * p)))
        if want_b:
            for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
                k = 8 * sp.r1_proj_v[c]
                vstore(B, k, vfma(vsplat(sp.r1_proj_w[c]), value, vload(B, k)))
    for g in range(sp.grp_a.shape[0]):
        a = 8 * sp.grp_a[g]
        ar, ai = vload(node_re, a), vload(node_im, a)
        for e in range(sp.grp_ptr[g], sp.grp_ptr[g + 1]):
            b = 8 * sp.top_b[e]
            value = vfma(ar, vload(node_re, b), vmul(vmul(vsplat(sp.top_sigma[e]), ai), vload(node_im, b)))
            r0 = vfma(vsplat(sp.top_weight[e, 0]), value, r0)
            r1 = vfma(vsplat(sp.top_weight[e, last]), value, r1)
            for p in range(2, P):
                vstore(rho, 8 * p, vfma(vsplat(sp.top_weight[e, p]), value, vload(rho, 8 * p)))
            if want_b:
                for c in range(sp.proj_ptr[e], sp.proj_ptr[e + 1]):
                    k = 8 * sp.proj_v[c]
                    vstore(B, k, vfma(vsplat(sp.proj_w[c]), value, vload(B, k)))
    vstore(rho, 0, r0)
    if P > 1:
        vstore(rho, 8, r1)


@njit(cache=True, fastmath=FAST)
def products_backward(sp, node_re, node_im, adj_re, adj_im, w1, wrho, from_b, wB):
    """Adjoints of A from dE/drho = wrho [P, 8], or from dE/dB = wB [K, 8] if ``from_b``.

    Fills ``adj_re``, ``adj_im`` [nodes, 8] (dE/dRe A, dE/dIm A in the leaf rows) and ``w1`` [n1, 8].
    """
    P = wrho.shape[0]
    zero = vsplat(0.0)
    for o in range(0, 8 * adj_re.shape[0], 8):
        vstore(adj_re, o, zero)
        vstore(adj_im, o, zero)
    f0 = vload(wrho, 0)
    f1 = vload(wrho, 8) if P > 1 else zero
    last = 1 if P > 1 else 0
    for e in range(w1.shape[0]):
        w = zero
        if from_b:
            for c in range(sp.r1_proj_ptr[e], sp.r1_proj_ptr[e + 1]):
                w = vfma(vsplat(sp.r1_proj_w[c]), vload(wB, 8 * sp.r1_proj_v[c]), w)
        else:
            w = vfma(vsplat(sp.r1_weight[e, 0]), f0, vmul(vsplat(sp.r1_weight[e, last]), f1))
            for p in range(2, P):
                w = vfma(vsplat(sp.r1_weight[e, p]), vload(wrho, 8 * p), w)
        vstore(w1, 8 * e, w)
    for g in range(sp.grp_a.shape[0]):
        a = 8 * sp.grp_a[g]
        ar, ai = vload(node_re, a), vload(node_im, a)
        sr, si = zero, zero
        for e in range(sp.grp_ptr[g], sp.grp_ptr[g + 1]):
            b = 8 * sp.top_b[e]
            w = zero
            if from_b:
                for c in range(sp.proj_ptr[e], sp.proj_ptr[e + 1]):
                    w = vfma(vsplat(sp.proj_w[c]), vload(wB, 8 * sp.proj_v[c]), w)
            else:
                w = vfma(vsplat(sp.top_weight[e, 0]), f0, vmul(vsplat(sp.top_weight[e, last]), f1))
                for p in range(2, P):
                    w = vfma(vsplat(sp.top_weight[e, p]), vload(wrho, 8 * p), w)
            u = vmul(w, vsplat(sp.top_sigma[e]))
            sr = vfma(w, vload(node_re, b), sr)
            si = vfma(u, vload(node_im, b), si)
            vstore(adj_re, b, vfma(w, ar, vload(adj_re, b)))
            vstore(adj_im, b, vfma(u, ai, vload(adj_im, b)))
        vstore(adj_re, a, vadd(sr, vload(adj_re, a)))
        vstore(adj_im, a, vadd(si, vload(adj_im, a)))
    for t in range(sp.node_a.shape[0] - 1, -1, -1):
        a, b, o = 8 * sp.node_a[t], 8 * sp.node_b[t], 8 * (sp.n_leaves + t)
        gr, gi = vload(adj_re, o), vload(adj_im, o)
        ar, ai, br, bi = vload(node_re, a), vload(node_im, a), vload(node_re, b), vload(node_im, b)
        g1, g2 = vmul(vsplat(sp.node_k[t, 0]), gr), vmul(vsplat(sp.node_k[t, 1]), gr)
        g3, g4 = vmul(vsplat(sp.node_k[t, 2]), gi), vmul(vsplat(sp.node_k[t, 3]), gi)
        vstore(adj_re, a, vadd(vload(adj_re, a), vfma(g1, br, vmul(g3, bi))))
        vstore(adj_im, a, vadd(vload(adj_im, a), vfma(g2, bi, vmul(g4, br))))
        vstore(adj_re, b, vadd(vload(adj_re, b), vfma(g1, ar, vmul(g4, ai))))
        vstore(adj_im, b, vadd(vload(adj_im, b), vfma(g2, ai, vmul(g3, ar))))
