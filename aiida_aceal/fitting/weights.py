"""Weights of the loss, with the meaning pacemaker's users know.

    loss = (1 - kappa) sum_n wE_n (dE_n / n_atoms)^2 + kappa sum_ni wF_ni |dF_ni|^2
           + virial sum_n wV_n |dV_n / n_atoms|^2

with sum wE = sum wF = sum wV = 1 (A. Bochkarev et al., Phys. Rev. Mater. 6, 013804 (2022), Sec. II D). Uniform: all wE
equal, all wF equal. Energy based: wE_n ~ 1 / (e_n + DE)^2 with e_n the energy per atom above the reference, wF_ni ~
wE_n / (|F_ni|^2 + DF^2); structures above DEup, or with a force above DFup, are left out; those below DElow share the
fraction wlow of both sums.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from aiida_aceal.common.errors import AceError

from .labels import LabelledSet, reference_sum
from .settings import WeightSettings

log = logging.getLogger(__name__)


@dataclass
class Weights:
    """Factors of the squared errors in the loss, kappa included.

    ``energy`` [M] for (dE / n_atoms)^2; ``forces``: list of [n] for |dF_i|^2 (None where there are no forces);
    ``virial`` [M] for |dV / n_atoms|^2. ``kappa`` is the one in force, ``dropped`` counts structures left out.
    """

    energy: np.ndarray
    forces: list[np.ndarray | None]
    virial: np.ndarray
    kappa: float
    dropped: int = 0


def above_reference(data: LabelledSet, mode: str, reference: Mapping[str, float]) -> np.ndarray:
    """Energy per atom [M] above the reference, eV/atom.

    ``lowest``: above the lowest cohesive energy per atom; ``cohesive``: above the lowest of the same composition;
    ``convex_hull``: above the lower convex hull of the compositions (one element: the lowest).
    """
    n = data.n_atoms
    e = (data.energies - reference_sum(data, reference)) / n
    if mode == "lowest":
        return e - e.min()
    x = np.round(data.counts / n[:, None], 10)
    compositions, which = np.unique(x, axis=0, return_inverse=True)
    which = which.ravel()
    lowest = np.full(len(compositions), np.inf)
    np.minimum.at(lowest, which, e)
    if mode == "convex_hull" and len(compositions) > 1:
        hull = np.empty_like(lowest)
        for k, target in enumerate(compositions):
            A = np.vstack([compositions.T, np.ones(len(compositions))])
            found = linprog(lowest, A_eq=A, b_eq=np.append(target, 1.0), bounds=(0, None), method="highs")
            hull[k] = min(lowest[k], found.fun) if found.success else lowest[k]
        lowest = hull
    return e - lowest[which]


def select_and_weigh(
    data: LabelledSet, settings: WeightSettings, reference: Mapping[str, float]
) -> tuple[LabelledSet, Weights]:
    """The structures that take part in the fit and their weights.

    Raises
    ------
    AceError
        If a limit leaves nothing to fit, or ``type: data`` finds no weights.
    """
    total = len(data)
    low = None
    if settings.type == "energy_based":
        e = above_reference(data, settings.energy, reference)
        largest = np.array([0.0 if f is None else np.linalg.norm(f, axis=1).max() for f in data.forces])
        keep = np.flatnonzero((e <= settings.DEup) & (largest <= settings.DFup))
        if len(keep) == 0:
            raise AceError(
                f"weights: no structure lies within DEup = {settings.DEup} eV/atom of the reference and has forces "
                f"below DFup = {settings.DFup} eV/A; raise these limits"
            )
        data, e = data.subset(keep), e[keep]
        wE = 1.0 / (e + settings.DE) ** 2
        wF = [None if f is None else w / ((f**2).sum(1) + settings.DF**2) for w, f in zip(wE, data.forces)]
        low = e <= settings.DElow if settings.wlow is not None else None
    elif settings.type == "data":
        wE, wF = _from_data(data)
    else:
        wE = np.ones(len(data))
        wF = [None if f is None else np.ones(len(f)) for f in data.forces]
    wV = np.where([v is not None for v in data.virials], wE, 0.0)
    wE, wF = _share(wE, wF, low, settings.wlow)
    kappa = _kappa(data, settings, reference)
    sumF = sum((float(w.sum()) for w in wF if w is not None), 0.0)
    if kappa > 0.0 and sumF == 0.0:
        log.warning("no structure has forces: energies alone are fitted")
        kappa = 0.0
    scale_f = kappa / sumF if sumF > 0.0 else 0.0
    weights = Weights(
        energy=wE * (1.0 - kappa) / max(wE.sum(), 1e-300),
        forces=[None if w is None else w * scale_f for w in wF],
        virial=wV * settings.virial / max(wV.sum(), 1e-300),
        kappa=kappa,
        dropped=total - len(data),
    )
    return data, weights


def _share(wE: np.ndarray, wF: list, low: np.ndarray | None, wlow: float | None) -> tuple[np.ndarray, list]:
    """Give the structures below DElow the fraction wlow of the energy weights, and of the force weights."""
    if low is None or low.all() or not low.any():
        return wE / wE.sum(), wF
    wE = wE / wE.sum()
    wE = np.where(low, wE * wlow / wE[low].sum(), wE * (1.0 - wlow) / wE[~low].sum())
    sums = np.array([0.0 if w is None else w.sum() for w in wF])
    if sums[low].sum() > 0.0 and sums[~low].sum() > 0.0:
        factor = np.where(low, wlow / sums[low].sum(), (1.0 - wlow) / sums[~low].sum())
        wF = [None if w is None else w * f for w, f in zip(wF, factor)]
    return wE, wF


def _kappa(data: LabelledSet, settings: WeightSettings, reference: Mapping[str, float]) -> float:
    if settings.kappa != "auto":
        return float(settings.kappa)
    e = (data.energies - reference_sum(data, reference)) / data.n_atoms
    f = [x for x in data.forces if x is not None]
    if not f:
        return 0.0
    var_e = float(np.var(e))
    var_f = float(np.mean((np.concatenate(f) ** 2).sum(1)))
    # both shares of the loss are equal when every prediction is the mean
    return var_e / (var_e + var_f) if var_e + var_f > 0.0 else 0.5


def _from_data(data: LabelledSet) -> tuple[np.ndarray, list]:
    """``energy_weight`` (info) and ``forces_weight`` (info: one number, or arrays: one for each atom)."""
    wE, wF = np.empty(len(data)), []
    for k, (atoms, name) in enumerate(zip(data.structures, data.names)):
        if "energy_weight" not in atoms.info:
            raise AceError(f"{name}: weights.type is data, but info has no energy_weight; add it or use uniform")
        wE[k] = float(atoms.info["energy_weight"])
        f = atoms.arrays.get("forces_weight", atoms.info.get("forces_weight", wE[k]))
        wF.append(None if data.forces[k] is None else np.broadcast_to(np.asarray(f, dtype=float), len(atoms)).copy())
        if not wE[k] >= 0.0 or (wF[k] is not None and not (wF[k] >= 0.0).all()):
            raise AceError(f"{name}: weights must not be negative or NaN; correct energy_weight and forces_weight")
    if not wE.any():
        raise AceError("weights: every energy_weight is zero; give at least one structure a weight")
    return wE, wF
