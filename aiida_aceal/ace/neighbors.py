"""Neighbour lists with explicit periodic images (ghosts), for any cell and any mixture of periodic directions."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.geometry import complete_cell

from aiida_aceal.common.errors import AceError, NotFiniteError
from aiida_aceal.common.kernels import njit

#: Periodic images a search may need where they are more than a thousand times the atoms.
MAX_IMAGES = 5e6


class Neighbors(NamedTuple):
    """Atoms and ghosts with the neighbours of the atoms.

    ``positions`` [n_all, 3]: the n atoms first, then ghosts; ``owner`` [n_all]: the atom each is an image of;
    neighbours of atom i: ``neighbors[first[i]:first[i + 1]]`` (indices into ``positions``).
    """

    positions: np.ndarray
    owner: np.ndarray
    first: np.ndarray
    neighbors: np.ndarray


@njit(nogil=True, cache=True)
def _ghosts(frac, cell, lo, hi, images):
    """Images of the atoms inside the fractional slab [lo, hi]: owners and shifts; counts first, then fills."""
    n = frac.shape[0]
    count = 0
    for turn in range(2):
        if turn == 1:
            owner = np.empty(count, dtype=np.int64)
            position = np.empty((count, 3))
        count = 0
        for i in range(n):
            for a in range(-images[0], images[0] + 1):
                fa = frac[i, 0] + a
                if images[0] > 0 and (fa < lo[0] or fa > hi[0]):
                    continue
                for b in range(-images[1], images[1] + 1):
                    fb = frac[i, 1] + b
                    if images[1] > 0 and (fb < lo[1] or fb > hi[1]):
                        continue
                    for c in range(-images[2], images[2] + 1):
                        fc = frac[i, 2] + c
                        if images[2] > 0 and (fc < lo[2] or fc > hi[2]):
                            continue
                        if a == 0 and b == 0 and c == 0:
                            continue
                        if turn == 1:
                            owner[count] = i
                            for k in range(3):
                                position[count, k] = a * cell[0, k] + b * cell[1, k] + c * cell[2, k]
                        count += 1
    return owner, position


class _Cells(NamedTuple):
    """Linked cells: ``where`` [n_all] cell of each point, members of cell b: ``members[head[b]:head[b + 1]]``."""

    bins: np.ndarray
    where: np.ndarray
    head: np.ndarray
    members: np.ndarray


@njit(nogil=True, cache=True)
def _sort_into_cells(x, cutoff):
    n_all = x.shape[0]
    low, high = x[0].copy(), x[0].copy()
    for i in range(n_all):
        for k in range(3):
            low[k] = min(low[k], x[i, k])
            high[k] = max(high[k], x[i, k])
    bins = np.empty(3, dtype=np.int64)
    for k in range(3):
        bins[k] = max(1, min(512, int((high[k] - low[k]) / cutoff)))
    while bins[0] * bins[1] * bins[2] > 8 * n_all + 64:  # nearly empty space: coarser cells
        for k in range(3):
            bins[k] = max(1, bins[k] // 2)
    inverse = np.empty(3)
    for k in range(3):
        inverse[k] = bins[k] / max(high[k] - low[k], 1e-12)
    where = np.empty(n_all, dtype=np.int64)
    head = np.zeros(bins[0] * bins[1] * bins[2] + 1, dtype=np.int64)
    for i in range(n_all):
        b = 0
        for k in range(3):
            c = min(bins[k] - 1, int((x[i, k] - low[k]) * inverse[k]))
            b = b * bins[k] + c
        where[i] = b
        head[b + 1] += 1
    for b in range(head.shape[0] - 1):
        head[b + 1] += head[b]
    fill = head.copy()
    members = np.empty(n_all, dtype=np.int64)
    for i in range(n_all):
        members[fill[where[i]]] = i
        fill[where[i]] += 1
    return bins, where, head, members


@njit(nogil=True, cache=True)
def _search(x, cells, begin, end, cutoff):
    """Neighbours of the points begin..end among all points: counts [end - begin], indices, a clashing pair or -1."""
    bins, where, head, members = cells
    counts = np.zeros(end - begin, dtype=np.int64)
    out = np.empty(max(16, 64 * (end - begin)), dtype=np.int32)
    rc2 = cutoff * cutoff
    total = 0
    clash_i, clash_j = -1, -1
    for i in range(begin, end):
        b = where[i]
        bz = b % bins[2]
        by = (b // bins[2]) % bins[1]
        bx = b // (bins[2] * bins[1])
        before = total
        for cx in range(max(0, bx - 1), min(bins[0], bx + 2)):
            for cy in range(max(0, by - 1), min(bins[1], by + 2)):
                row = (cx * bins[1] + cy) * bins[2]
                start, stop = head[row + max(0, bz - 1)], head[row + min(bins[2], bz + 2)]
                if total + stop - start > out.shape[0]:
                    bigger = np.empty(2 * out.shape[0] + stop - start, dtype=np.int32)
                    bigger[:total] = out[:total]
                    out = bigger
                for m in range(start, stop):
                    j = members[m]
                    dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
                    r2 = dx * dx + dy * dy + dz * dz
                    if r2 < rc2 and j != i:
                        if r2 < 1e-10:
                            clash_i, clash_j = i, j
                        out[total] = j
                        total += 1
        counts[i - begin] = total - before
    return counts, out[:total].copy(), clash_i, clash_j


def _neighbors_of(x: np.ndarray, n: int, cutoff: float, pool: Executor | None, threads: int) -> tuple:
    cells = _Cells(*_sort_into_cells(x, cutoff))
    edges = np.linspace(0, n, (threads if pool is not None and n > 500 else 1) + 1).astype(int)
    mapper = map if len(edges) == 2 else pool.map
    parts = list(mapper(lambda k: _search(x, cells, edges[k], edges[k + 1], cutoff), range(len(edges) - 1)))
    first = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.concatenate([part[0] for part in parts]), out=first[1:])
    clash = next(((i, j) for _, _, i, j in parts if i >= 0), None)
    return first, parts[0][1] if len(parts) == 1 else np.concatenate([part[1] for part in parts]), clash


def build_neighbors(atoms: Atoms, cutoff: float, pool: Executor | None = None, threads: int = 1) -> Neighbors:
    """All neighbours within ``cutoff`` (Angstrom), periodic images included; large searches are shared by ``pool``.

    Raises
    ------
    AceError
        If positions or cell are not finite, a periodic cell has no volume, or two atoms are at the same place.
    """
    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    cell, pbc = np.array(atoms.cell), np.asarray(atoms.pbc)
    if not np.isfinite(positions).all() or not np.isfinite(cell).all():
        raise NotFiniteError("positions or cell are not finite; check the structure")
    n = len(positions)
    if n == 0:
        raise AceError("the structure has no atoms")
    owner, x = np.arange(n), positions
    if pbc.any():
        full = complete_cell(cell)
        volume = abs(np.linalg.det(full))
        if volume < 1e-10 or not all(np.linalg.norm(cell[k]) > 0 for k in range(3) if pbc[k]):
            raise AceError("the cell of a periodic structure has no volume; set a cell or pbc=False")
        inverse = np.linalg.inv(full)
        frac = positions @ inverse
        wrapped = np.where(pbc, frac - np.floor(frac), frac)
        reach = cutoff * np.linalg.norm(inverse, axis=0)
        images = np.where(pbc, np.ceil(reach).astype(np.int64) + 1, 0).astype(np.int64)
        count = n * float(np.prod(1.0 + 2.0 * np.where(pbc, reach, 0.0)))
        if count > MAX_IMAGES and count > 1000 * n:
            raise AceError(
                f"{n} atoms in a cell of {volume:.3g} A^3 have about {count:.0e} images within {cutoff:g} A; "
                "check cell and cutoff"
            )
        ghost_owner, shift = _ghosts(wrapped, full, -reach - 1e-12, 1.0 + reach + 1e-12, images)
        home = positions + (wrapped - frac) @ full  # wrapping only shifts the frame of the ghosts
        x = np.concatenate([home, home[ghost_owner] + shift])
        owner = np.concatenate([owner, ghost_owner])
    first, neighbors, clash = _neighbors_of(x, n, float(cutoff), pool, threads)
    if clash:
        i, j = clash
        raise AceError(f"atoms {i} and {owner[j]} (or an image of it) are in the same place; remove one of them")
    return Neighbors(x, owner, first, neighbors)
