"""Neighbourhoods of many structures as flat arrays, with the radial basis g_k kept for the whole fit.

What a fit varies (coefficients, radial coefficients) enters after the sums over neighbours

    A_{mu k q} = sum_j g_k(r_ij) Y_q(r_ij / r),    q = (l, m >= 0, real or imaginary part),

since R_nl = sum_k crad_nlk g_k is linear. These raw base functions never change; only forces go back to the bonds.
Neighbours of an atom are grouped by species in groups filled up to multiples of eight with places where g = 0.
"""

from __future__ import annotations

from math import factorial, sqrt
from typing import NamedTuple

import numpy as np
from ase import Atoms

from aiida_aceal.ace import AceError, AcePotential
from aiida_aceal.ace.neighborhood import FAST, angular
from aiida_aceal.ace.neighbors import build_neighbors
from aiida_aceal.ace.radial import radial_basis
from aiida_aceal.common.kernels import njit


class Layout(NamedTuple):
    """Where the raw base functions of each pair stand: index ``base[s, mu] + k Q + q`` with Q = (lmax + 1)^2."""

    base: np.ndarray  # [S, S] int64
    K: np.ndarray  # [S, S] number of g_k; 0 for pairs without radial data
    L: np.ndarray  # [S, S] lmax
    size: np.ndarray  # [S] raw base functions of a central species
    norm: np.ndarray  # [LM] factors of Y_lm, lm = l (l + 1) / 2 + m


def make_layout(potential: AcePotential) -> Layout:
    """Layout of the raw base functions of a potential."""
    S = len(potential.elements)
    base, K, L = (np.zeros((S, S), dtype=np.int64) for _ in range(3))
    size = np.zeros(S, dtype=np.int64)
    for a, el in enumerate(potential.elements):
        for b, other in enumerate(potential.elements):
            bond = potential.bonds.get((el, other))
            base[a, b] = size[a]
            if bond is not None:
                K[a, b], L[a, b] = bond.nradbase, bond.lmax
                size[a] += bond.nradbase * (bond.lmax + 1) ** 2
    top = int(L.max())
    norm = np.array(
        [
            (-1) ** m * sqrt((2 * l + 1) * factorial(l - m) / factorial(l + m))
            for l in range(top + 1)
            for m in range(l + 1)
        ]
    )
    return Layout(base, K, L, size, norm)


class Bonds(NamedTuple):
    """Flat neighbourhoods of the atoms of some structures.

    ``seg`` [n, S + 1]: first place of each species' group; ``j`` [places]: neighbour (index of the atom in the chunk);
    ``unit`` [3, places], ``r`` [places]; ``g``, ``dg``: radial basis and slopes, group after group as [K, J] from
    ``goff`` [n, S] on.
    """

    seg: np.ndarray
    j: np.ndarray
    unit: np.ndarray
    r: np.ndarray
    g: np.ndarray
    dg: np.ndarray
    goff: np.ndarray

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self)


def collect_bonds(structures: list[Atoms], potential: AcePotential, layout: Layout) -> Bonds:
    """Neighbourhoods of all atoms of ``structures``, numbered through."""
    S = len(potential.elements)
    index = {el: k for k, el in enumerate(potential.elements)}
    parts, start = [], 0
    species = np.concatenate([[index[s] for s in a.get_chemical_symbols()] for a in structures]).astype(np.int64)
    for atoms in structures:
        nb = build_neighbors(atoms, potential.cutoff)
        i = np.repeat(np.arange(len(atoms)), np.diff(nb.first))
        vector = nb.positions[nb.neighbors] - nb.positions[i]
        parts.append((i + start, nb.owner[nb.neighbors] + start, vector))
        start += len(atoms)
    i, j, vector = (np.concatenate(x) for x in zip(*parts))
    n = start
    r = np.linalg.norm(vector, axis=1)
    rcut = np.zeros((S, S))
    for (a, b), bond in potential.bonds.items():
        rcut[index[a], index[b]] = bond.rcut
    keep = r < rcut[species[i], species[j]]
    i, j, vector, r = i[keep], j[keep], vector[keep], r[keep]
    group = i * S + species[j]
    order = np.argsort(group, kind="stable")
    i, j, vector, r, group = i[order], j[order], vector[order], r[order], group[order]
    counts = np.bincount(group, minlength=n * S)
    padded = (counts + 7) // 8 * 8
    seg_flat = np.concatenate([[0], np.cumsum(padded)])
    rank = np.arange(len(group)) - (np.cumsum(counts) - counts)[group]
    place = seg_flat[group] + rank
    seg = np.empty((n, S + 1), dtype=np.int64)
    seg[:, :S] = seg_flat[:-1].reshape(n, S)
    seg[:, S] = seg_flat[S::S]
    total = int(seg_flat[-1])
    K_of = layout.K[np.repeat(species, S), np.tile(np.arange(S), n)]
    goff_flat = np.concatenate([[0], np.cumsum(padded * K_of)])
    unit, length = np.zeros((3, total)), np.ones(total)
    owner = np.repeat(np.repeat(np.arange(n), S), padded)  # empty places point to the atom itself
    unit[:, place] = (vector / r[:, None]).T
    length[place] = r
    owner[place] = j
    g, dg = np.zeros(int(goff_flat[-1])), np.zeros(int(goff_flat[-1]))
    pair = species[i] * S + species[j]
    for code in np.unique(pair):
        a, b = potential.elements[code // S], potential.elements[code % S]
        bond = potential.bonds[a, b]
        mine = np.flatnonzero(pair == code)
        value, slope = radial_basis(bond, r[mine])
        width = padded[group[mine]]
        where = goff_flat[group[mine]][:, None] + np.arange(bond.nradbase) * width[:, None] + rank[mine][:, None]
        g[where], dg[where] = value, slope
    if not np.isfinite(g).all() or not np.isfinite(dg).all():
        raise AceError("radial functions are not finite; look for atoms on top of each other")
    return Bonds(seg, owner.astype(np.int64), unit, length, g, dg, goff_flat[:-1].reshape(n, S))


@njit(cache=True, fastmath=FAST)
def _load(bonds, lay, i, s, geo, ang, cm, sm):
    """Unit vectors and angular functions of all places of atom i; returns the first place and their number."""
    S = lay.K.shape[0]
    p0 = bonds.seg[i, 0]
    n = bonds.seg[i, S] - p0
    lmax = 0
    for mu in range(S):
        lmax = max(lmax, lay.L[s, mu])
    for d in range(3):
        for k in range(n):
            geo[d, k] = bonds.unit[d, p0 + k]
    angular(n, lmax, geo, ang, cm, sm)
    return p0, n


@njit(cache=True)
def _scratch(bonds, lay):
    """Work arrays for the longest neighbourhood."""
    S = lay.K.shape[0]
    longest = 8
    for i in range(bonds.seg.shape[0]):
        longest = max(longest, bonds.seg[i, S] - bonds.seg[i, 0])
    lmax = lay.L.max()
    geo = np.zeros((5, longest))
    ang = np.zeros((lay.norm.shape[0], longest))
    return geo, ang, np.zeros((lmax + 1, longest)), np.zeros((lmax + 1, longest))


@njit(nogil=True, cache=True, fastmath=FAST)
def raw_base(bonds, lay, species, block, lane, raw):
    """Raw base functions of every atom into ``raw`` [blocks, D, 8] at its block and lane."""
    geo, ang, cm, sm = _scratch(bonds, lay)
    y = np.zeros(geo.shape[1])
    for i in range(species.shape[0]):
        s = species[i]
        p0, _ = _load(bonds, lay, i, s, geo, ang, cm, sm)
        for mu in range(lay.K.shape[0]):
            a, b = bonds.seg[i, mu] - p0, bonds.seg[i, mu + 1] - p0
            J, L, K = b - a, lay.L[s, mu], lay.K[s, mu]
            Q = (L + 1) * (L + 1)
            for l in range(L + 1):
                for m in range(l + 1):
                    lm = l * (l + 1) // 2 + m
                    for part in range(1 if m == 0 else 2):
                        q = l * l + (0 if m == 0 else 2 * m - 1 + part)
                        for k in range(J):
                            y[k] = lay.norm[lm] * ang[lm, a + k] * (cm[m, a + k] if part == 0 else sm[m, a + k])
                        for c in range(K):
                            off = bonds.goff[i, mu] + c * J
                            total = 0.0
                            for k in range(J):
                                total += bonds.g[off + k] * y[k]
                            raw[block[i], lay.base[s, mu] + c * Q + q, lane[i]] = total


@njit(nogil=True, cache=True, fastmath=FAST)
def bond_forces(bonds, lay, species, block, lane, structure, adjoint, forces, virial):
    """Add forces [n, 3] and virials [structures, 6] (xx, yy, zz, xy, xz, yz) of dE/dA = ``adjoint`` [blocks, D, 8]."""
    geo, ang, cm, sm = _scratch(bonds, lay)
    longest = geo.shape[1]
    h, dh, along = np.zeros(longest), np.zeros(longest), np.zeros(longest)
    gx, gy, gz = np.zeros(longest), np.zeros(longest), np.zeros(longest)
    for i in range(species.shape[0]):
        s = species[i]
        p0, n = _load(bonds, lay, i, s, geo, ang, cm, sm)
        for k in range(n):
            along[k] = 0.0
            gx[k] = 0.0
            gy[k] = 0.0
            gz[k] = 0.0
        for mu in range(lay.K.shape[0]):
            a, b = bonds.seg[i, mu] - p0, bonds.seg[i, mu + 1] - p0
            J, L, K = b - a, lay.L[s, mu], lay.K[s, mu]
            if J == 0:
                continue
            Q = (L + 1) * (L + 1)
            for l in range(L + 1):
                for m in range(l + 1):
                    lm = l * (l + 1) // 2 + m
                    norm, fm = lay.norm[lm], float(m)
                    for part in range(1 if m == 0 else 2):
                        q = l * l + (0 if m == 0 else 2 * m - 1 + part)
                        for k in range(J):
                            h[k] = 0.0
                            dh[k] = 0.0
                        for c in range(K):
                            w = norm * adjoint[block[i], lay.base[s, mu] + c * Q + q, lane[i]]
                            off = bonds.goff[i, mu] + c * J
                            for k in range(J):
                                h[k] += w * bonds.g[off + k]
                                dh[k] += w * bonds.dg[off + k]
                        if m == 0:
                            for k in range(J):
                                along[a + k] += dh[k] * ang[lm, a + k]
                        elif part == 0:
                            for k in range(J):
                                along[a + k] += dh[k] * ang[lm, a + k] * cm[m, a + k]
                                t = fm * h[k] * ang[lm, a + k]
                                gx[a + k] += t * cm[m - 1, a + k]
                                gy[a + k] -= t * sm[m - 1, a + k]
                        else:
                            for k in range(J):
                                along[a + k] += dh[k] * ang[lm, a + k] * sm[m, a + k]
                                t = fm * h[k] * ang[lm, a + k]
                                gx[a + k] += t * sm[m - 1, a + k]
                                gy[a + k] += t * cm[m - 1, a + k]
                        if m < l:
                            if part == 0:
                                for k in range(J):
                                    gz[a + k] += h[k] * ang[lm + 1, a + k] * cm[m, a + k]
                            else:
                                for k in range(J):
                                    gz[a + k] += h[k] * ang[lm + 1, a + k] * sm[m, a + k]
        fx = fy = fz = 0.0
        for k in range(n):
            ux, uy, uz, r = geo[0, k], geo[1, k], geo[2, k], bonds.r[p0 + k]
            inv = 1.0 / r
            t = along[k] - inv * (gx[k] * ux + gy[k] * uy + gz[k] * uz)
            x, y, z = t * ux + inv * gx[k], t * uy + inv * gy[k], t * uz + inv * gz[k]
            j = bonds.j[p0 + k]
            fx += x
            fy += y
            fz += z
            forces[j, 0] -= x
            forces[j, 1] -= y
            forces[j, 2] -= z
            v = structure[i]
            virial[v, 0] += x * ux * r
            virial[v, 1] += y * uy * r
            virial[v, 2] += z * uz * r
            virial[v, 3] += x * uy * r
            virial[v, 4] += x * uz * r
            virial[v, 5] += y * uz * r
        forces[i, 0] += fx
        forces[i, 1] += fy
        forces[i, 2] += fz


@njit(nogil=True, cache=True, fastmath=FAST)
def bond_tangents(bonds, lay, species, block, lane, structure, shift, strain, tangent):
    """Derivative of the raw base functions into ``tangent`` [blocks, D, 8] when atoms move along ``shift`` [n, 3] and

    cells are strained by ``strain`` [structures, 6] (xx, yy, zz, xy, xz, yz: displacement_a = strain_ab r_b, a <= b).
    """
    geo, ang, cm, sm = _scratch(bonds, lay)
    longest = geo.shape[1]
    radial, tx, ty, tz = np.zeros(longest), np.zeros(longest), np.zeros(longest), np.zeros(longest)
    y, dy = np.zeros(longest), np.zeros(longest)
    for i in range(species.shape[0]):
        s = species[i]
        p0, n = _load(bonds, lay, i, s, geo, ang, cm, sm)
        e = strain[structure[i]]
        for k in range(n):
            j, r = bonds.j[p0 + k], bonds.r[p0 + k]
            ux, uy, uz = geo[0, k], geo[1, k], geo[2, k]
            x = shift[j, 0] - shift[i, 0] + r * (e[0] * ux + e[3] * uy + e[4] * uz)
            v = shift[j, 1] - shift[i, 1] + r * (e[1] * uy + e[5] * uz)
            z = shift[j, 2] - shift[i, 2] + r * e[2] * uz
            p = x * ux + v * uy + z * uz
            radial[k] = p
            tx[k] = (x - p * ux) / r
            ty[k] = (v - p * uy) / r
            tz[k] = (z - p * uz) / r
        for mu in range(lay.K.shape[0]):
            a, b = bonds.seg[i, mu] - p0, bonds.seg[i, mu + 1] - p0
            J, L, K = b - a, lay.L[s, mu], lay.K[s, mu]
            Q = (L + 1) * (L + 1)
            for l in range(L + 1):
                for m in range(l + 1):
                    lm = l * (l + 1) // 2 + m
                    norm, fm = lay.norm[lm], float(m)
                    for part in range(1 if m == 0 else 2):
                        q = l * l + (0 if m == 0 else 2 * m - 1 + part)
                        for k in range(J):
                            trig = cm[m, a + k] if part == 0 else sm[m, a + k]
                            y[k] = norm * ang[lm, a + k] * trig * radial[a + k]
                            dy[k] = norm * ang[lm + 1, a + k] * trig * tz[a + k] if m < l else 0.0
                        if m > 0 and part == 0:
                            for k in range(J):
                                t = fm * norm * ang[lm, a + k]
                                dy[k] += t * (cm[m - 1, a + k] * tx[a + k] - sm[m - 1, a + k] * ty[a + k])
                        elif m > 0:
                            for k in range(J):
                                t = fm * norm * ang[lm, a + k]
                                dy[k] += t * (sm[m - 1, a + k] * tx[a + k] + cm[m - 1, a + k] * ty[a + k])
                        for c in range(K):
                            off = bonds.goff[i, mu] + c * J
                            total = 0.0
                            for k in range(J):
                                total += bonds.dg[off + k] * y[k] + bonds.g[off + k] * dy[k]
                            tangent[block[i], lay.base[s, mu] + c * Q + q, lane[i]] = total
