"""Derivatives beyond forces: tangents (`jvp`) along positions, strain and coefficients, and gradients by coefficients.

E = sum_i s_i F(rho_i1, ..., rho_iP) + core, rho_ip = sum_k c_pk B_ik, s_i the switch of the core. The gradient of
forces contracted with a direction u is the tangent of the energy's gradient along -u, so B and its tangent dB are all
that is needed (Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), eqs. 3-8).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase import Atoms

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.kernels import njit

from .design import design_arrays, tangent_rows
from .embedding import embed2, switch_value
from .kernels import ZBL
from .neighborhood import core_pair, gather, places
from .neighbors import build_neighbors

if TYPE_CHECKING:
    from .model import AceModel


class Tangent(NamedTuple):
    """Directional derivatives: ``energy`` eV, ``energies`` [n], and along coefficients alone ``forces`` [n, 3] eV/A and
    ``virial`` [6] (dE/dstrain: xx, yy, zz, xy, xz, yz); None where positions or the cell change as well.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray | None
    virial: np.ndarray | None


class _State(NamedTuple):
    """One structure at hand: neighbours, species, and per species ids, B, dB [n, K] and the core's switch."""

    nb: object
    own: np.ndarray
    parts: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]
    switch: np.ndarray
    switch_tangent: np.ndarray
    core_tangent: np.ndarray


@njit(cache=True)
def core_switch(sp, atoms, species, x, owner, first, neighbors, u, strain, weight, s, ds, dcore, gradient, virial):
    """Switch of the core of the listed atoms (one species).

    Writes s [n], its tangent ds [n] along displacements u [n_own, 3] and strain [6], the tangent dcore [n] of the core
    energy with its switch, and adds sum_i weight_i ds_i/dx_j to gradient [n_own, 3] and virial [6].
    """
    S = sp.rcut.shape[0]
    jmax = places(first, atoms, S)
    jidx = np.empty(jmax, dtype=np.int64)
    geo = np.empty((5, jmax))
    seg = np.zeros(S + 1, dtype=np.int64)
    slope, pair = np.zeros(jmax), np.zeros(jmax)
    for t in range(atoms.shape[0]):
        i = atoms[t]
        n = gather(sp, i, species, x, first, neighbors, jidx, geo, seg)
        core, gap, star, delta = 0.0, 1e300, -1, 0.0
        slope[:n] = 0.0
        pair[:n] = 0.0
        for c in range(S):
            for k in range(seg[c], seg[c + 1]):
                if jidx[k] < 0:
                    break
                if geo[3, k] < sp.core_cut[c]:
                    e, pair[k] = core_pair(sp, c, geo[3, k])
                    core += e
                if geo[3, k] - sp.inner_shift[c] < gap:
                    gap, star, delta = geo[3, k] - sp.inner_shift[c], k, sp.inner_delta[c]
        if sp.inner_type == ZBL:
            s[t] = 1.0
            if star >= 0:
                s[t], d = switch_value(delta - gap, delta, delta)
                slope[star] = -d
        else:
            s[t], d = switch_value(core, sp.rho_core_cut, sp.drho_core_cut)
            for k in range(n):
                slope[k] = d * pair[k]
        ds[t] = 0.0
        tangent = 0.0
        for k in range(n):
            j = jidx[k]
            if j < 0 or (slope[k] == 0.0 and pair[k] == 0.0):
                continue
            j = owner[j]
            ux, uy, uz, r = geo[0, k], geo[1, k], geo[2, k], geo[3, k]
            dr = ux * (u[j, 0] - u[i, 0]) + uy * (u[j, 1] - u[i, 1]) + uz * (u[j, 2] - u[i, 2])
            dr += r * (ux * ux * strain[0] + uy * uy * strain[1] + uz * uz * strain[2])
            dr += r * (ux * uy * strain[3] + ux * uz * strain[4] + uy * uz * strain[5])
            ds[t] += slope[k] * dr
            tangent += pair[k] * dr
            g = weight[t] * slope[k]
            for d3 in range(3):
                gradient[j, d3] += g * geo[d3, k]
                gradient[i, d3] -= g * geo[d3, k]
            g *= r
            virial[0] += g * ux * ux
            virial[1] += g * uy * uy
            virial[2] += g * uz * uz
            virial[3] += g * ux * uy
            virial[4] += g * ux * uz
            virial[5] += g * uy * uz
        dcore[t] = (1.0 - s[t]) * tangent - ds[t] * core if sp.inner_type == ZBL else tangent


def jvp(
    model: AceModel,
    atoms: Atoms,
    positions: np.ndarray | None = None,
    strain: np.ndarray | None = None,
    coefficients: Mapping[str, np.ndarray] | None = None,
) -> Tangent:
    """See `AceModel.jvp`."""
    state = _state(model, atoms, positions, strain)
    moved = positions is not None or strain is not None
    n = len(atoms)
    energies, weights = np.zeros(n), np.zeros((n, max(model.n_functions.values(), default=0)))
    push = np.zeros(n)
    given = _checked(model, coefficients)
    for s, ids, B, dB in state.parts:
        value, first, second, c = _embedding(model, s, B)
        dc = given.get(model.elements[s])
        drho = dB @ c.T + (B @ dc.T if dc is not None else 0.0)
        energies[ids] = state.switch[ids] * (first * drho).sum(1) + state.switch_tangent[ids] * value
        energies[ids] += state.core_tangent[ids]
        if not moved and dc is not None:
            push[ids] = (first * drho).sum(1)
            weights[ids, : B.shape[1]] = state.switch[ids, None] * (first @ dc + (second * drho) @ c)
    if moved:
        return Tangent(float(energies.sum()), energies, None, None)
    gradient, virial = model.projection_gradient(atoms, weights)
    for s, ids, *_ in state.parts:
        _core(model, s, ids, state, np.zeros((n, 3)), np.zeros(6), push[ids], gradient, virial)
    return Tangent(float(energies.sum()), energies, -gradient, virial)


def coefficient_gradient(
    model: AceModel,
    atoms: Atoms,
    energy: float | np.ndarray = 1.0,
    forces: np.ndarray | None = None,
    virial: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """See `AceModel.coefficient_gradient`."""
    along = None if forces is None else -np.asarray(forces, dtype=float)
    state = _state(model, atoms, along, virial)
    weight = np.broadcast_to(np.asarray(energy, dtype=float), (len(atoms),))
    gradient = {el: np.zeros_like(model.potential.coefficients(el)) for el in model.elements}
    for s, ids, B, dB in state.parts:
        _, first, second, c = _embedding(model, s, B)
        switch, tangent = state.switch[ids, None], state.switch_tangent[ids, None]
        on_B = (weight[ids, None] * switch + tangent) * first + switch * second * (dB @ c.T)
        gradient[model.elements[s]] = on_B.T @ B + (switch * first).T @ dB
    return gradient


def _state(model: AceModel, atoms: Atoms, positions: np.ndarray | None, strain: np.ndarray | None) -> _State:
    """B and its tangent along displacements and strain for all atoms."""
    model._require_basis()
    n = len(atoms)
    u = np.zeros((n, 3)) if positions is None else np.ascontiguousarray(positions, dtype=float)
    e = np.zeros(6) if strain is None else np.ascontiguousarray(strain, dtype=float)
    if u.shape != (n, 3) or e.shape != (6,):
        raise AceError(f"directions: positions need shape ({n}, 3), strain (6,); found {u.shape} and {e.shape}")
    nb = build_neighbors(atoms, model.cutoff)
    own = model.species_of(atoms)
    state = _State(nb, own, [], np.ones(n), np.zeros(n), np.zeros(n))
    for s in np.unique(own):
        ids = np.flatnonzero(own == s)
        sp = model.species[s]
        B, dB = np.zeros((2, len(ids), sp.arrays.n_functions))
        if sp.arrays.n_functions:
            tangent_rows(
                sp.arrays, design_arrays(sp), ids, own[nb.owner], nb.positions, nb.owner, nb.first, nb.neighbors,
                u, e, B, dB,
            )  # fmt: skip
        state.parts.append((int(s), ids, B, dB))
        _core(model, s, ids, state, u, e, np.zeros(len(ids)), np.zeros((n, 3)), np.zeros(6))
    return state


def _core(model: AceModel, s: int, ids, state: _State, u, strain, weight, gradient, virial) -> None:
    nb = state.nb
    out = np.ones(len(ids)), np.zeros(len(ids)), np.zeros(len(ids))
    core_switch(
        model.species[s].arrays, ids, state.own[nb.owner], nb.positions, nb.owner, nb.first, nb.neighbors, u, strain,
        weight, *out, gradient, virial,
    )  # fmt: skip
    for target, values in zip((state.switch, state.switch_tangent, state.core_tangent), out):
        target[ids] = values


def _embedding(model: AceModel, s: int, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """F [n], its first and second derivatives by the densities [n, P], and the coefficients [P, K]."""
    sp = model.species[s].arrays
    c = model.potential.coefficients(model.elements[s])
    rho = B @ c.T
    value, first, second = _embed_all(sp.embedding, sp.emb_w, sp.emb_m, rho)
    return value.sum(1), first, second, c


@njit(cache=True)
def _embed_all(kind, w, m, rho):
    """w F and its derivatives for densities [n, P]: [3, n, P]."""
    out = np.empty((3, *rho.shape))
    for i in range(rho.shape[0]):
        for p in range(rho.shape[1]):
            out[0, i, p], out[1, i, p], out[2, i, p] = embed2(kind, m[p], rho[i, p])
            out[:, i, p] *= w[p]
    return out


def _checked(model: AceModel, coefficients: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    out = {}
    for el, value in (coefficients or {}).items():
        if el not in model.elements:
            raise AceError(f"coefficients of {el}: the potential knows {', '.join(model.elements)}")
        out[el] = np.asarray(value, dtype=float)
        if out[el].shape != (shape := model.potential.coefficients(el).shape):
            raise AceError(f"coefficients of {el}: shape {out[el].shape}, the potential has {shape}")
    return out
