"""Elastic constants from the stresses of strained cells, by as few strains as the symmetry allows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_aceal.common.errors import AceError

from .crystal import cases, named, point_group, repeats
from .engine import Relaxer, gamma_max, largest_force, stress
from .settings import ElasticSettings
from .start import Start

NAME = "elastic"
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def structures(settings: ElasticSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """The relaxed cell (``cell``) and strained ones with relaxed positions (``e1+``, ``e1-``, ``e4+``, ...)."""
    found = start.crystal
    cell = found.primitive * repeats(found.primitive.cell, settings.cell_length)
    frames = [named(cell, NAME, "cell")]
    for j in needed_strains(invariants(found.rotations)):
        for sign, word in ((1, "+"), (-1, "-")):
            atoms = cell.copy()
            atoms.set_cell(atoms.cell @ (np.eye(3) + _strain(j, sign * settings.strain)), scale_atoms=True)
            case = f"e{j + 1}{word}"
            frames.append(named(relaxer.positions(atoms, f"strain {case}"), NAME, case))
    return frames


def analyse(settings: ElasticSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Elastic constants in Voigt order of the standard conventional cell, from labelled structures.

    Central differences of stresses; least squares for the tensors that the point group allows. Born stability as all
    eigenvalues positive (F. Mouhat, F.-X. Coudert, Phys. Rev. B 90, 224104 (2014)); averages of Voigt, Reuss, Hill.
    """
    found = cases(frames)
    cell = found["cell"]
    basis = invariants(point_group(cell))
    rows, values = [], []
    for case in (c[:-1] for c in found if c.endswith("+")):
        j = int(case[1]) - 1
        plus, minus = found[f"{case}+"], found[f"{case}-"]
        amplitude = _amplitude(cell, plus, j) - _amplitude(cell, minus, j)
        rows.append(basis[:, :, j].T)
        values.append((stress(plus) - stress(minus)) / amplitude)
    matrix, measured = np.concatenate(rows), np.concatenate(values)
    coefficients, _, rank, _ = np.linalg.lstsq(matrix, measured, rcond=1e-8)
    if rank < len(basis):
        raise AceError(f"the strains {', '.join(found)} determine {rank} of {len(basis)} elastic constants")
    tensor = np.einsum("k,kij->ij", coefficients, basis) / units.GPa
    left = float(np.abs(matrix @ coefficients - measured).max() / units.GPa)
    eigenvalues = np.linalg.eigvalsh(tensor)
    return {
        "C_GPa": tensor.tolist(),
        "independent_GPa": {f"C{i + 1}{j + 1}": float(tensor[i, j]) for i, j in independent(basis)},
        "born_stable": bool(eigenvalues[0] > 0),
        "smallest_eigenvalue_GPa": float(eigenvalues[0]),
        **_averages(tensor),
        "max_misfit_GPa": left,
        "residual_pressure_GPa": float(-stress(cell)[:3].mean() / units.GPa),
        "max_force_eV_per_A": largest_force(list(found.values())),
        "gamma_max": gamma_max(frames),
    }


def _averages(c: np.ndarray) -> dict[str, float | None]:
    """Bulk and shear modulus of a polycrystal; null where the crystal is not stable."""
    bulk_v = (c[:3, :3].sum()) / 9
    shear_v = (np.trace(c[:3, :3]) - (c[0, 1] + c[0, 2] + c[1, 2]) + 3 * np.trace(c[3:, 3:])) / 15
    if np.linalg.eigvalsh(c)[0] <= 0:
        return {"bulk_modulus_voigt_GPa": float(bulk_v), "shear_modulus_voigt_GPa": float(shear_v),
                "bulk_modulus_hill_GPa": None, "shear_modulus_hill_GPa": None}  # fmt: skip
    s = np.linalg.inv(c)
    bulk_r = 1 / s[:3, :3].sum()
    shear_r = 15 / (4 * np.trace(s[:3, :3]) - 4 * (s[0, 1] + s[0, 2] + s[1, 2]) + 3 * np.trace(s[3:, 3:]))
    return {
        "bulk_modulus_voigt_GPa": float(bulk_v),
        "shear_modulus_voigt_GPa": float(shear_v),
        "bulk_modulus_hill_GPa": float((bulk_v + bulk_r) / 2),
        "shear_modulus_hill_GPa": float((shear_v + shear_r) / 2),
    }


def _strain(j: int, amplitude: float) -> np.ndarray:
    """Strain tensor [3, 3] of one engineering strain (shear components are twice the tensor's)."""
    tensor = np.zeros((3, 3))
    a, b = VOIGT[j]
    tensor[a, b] += amplitude / 2
    tensor[b, a] += amplitude / 2
    return tensor


def _amplitude(cell: Atoms, strained: Atoms, j: int) -> float:
    tensor = np.linalg.solve(np.asarray(cell.cell), np.asarray(strained.cell)) - np.eye(3)
    a, b = VOIGT[j]
    return float(tensor[a, b] + tensor[b, a]) if a != b else float(tensor[a, a])


def invariants(rotations: np.ndarray) -> np.ndarray:
    """Basis [k, 6, 6] of the elastic tensors that a point group [m, 3, 3] leaves as they are."""
    averages = []
    for p, q in combinations_with_replacement(range(6), 2):
        tensor = np.zeros((3, 3, 3, 3))
        for (a, b), (c, d) in ((VOIGT[p], VOIGT[q]), (VOIGT[q], VOIGT[p])):
            for i, j in {(a, b), (b, a)}:
                for k, l in {(c, d), (d, c)}:
                    tensor[i, j, k, l] = 1.0
        r = rotations
        mean = np.einsum("mai,mbj,mck,mdl,ijkl->abcd", r, r, r, r, tensor, optimize=True) / len(r)
        averages.append([[mean[(*VOIGT[i], *VOIGT[j])] for j in range(6)] for i in range(6)])
    _, values, vectors = np.linalg.svd(np.array(averages).reshape(21, 36))
    return vectors[: int(np.sum(values > 1e-8 * values[0]))].reshape(-1, 6, 6)


def needed_strains(basis: np.ndarray) -> list[int]:
    """Fewest of the six strains (0 to 5) whose stresses determine all independent constants, taken greedily."""
    chosen: list[int] = []
    rank = 0
    while rank < len(basis):
        ranks = [
            np.linalg.matrix_rank(np.concatenate([basis[:, :, k] for k in (*chosen, j)], axis=1), tol=1e-8)
            for j in range(6)
        ]
        chosen.append(int(np.argmax(ranks)))
        rank = max(ranks)
    return sorted(chosen)


def independent(basis: np.ndarray) -> list[tuple[int, int]]:
    """Places (i, j) of the first elements that determine the tensor: (0, 0), (0, 1), (3, 3) for cubic crystals."""
    chosen: list[tuple[int, int]] = []
    for i, j in combinations_with_replacement(range(6), 2):
        columns = np.array([basis[:, a, b] for a, b in (*chosen, (i, j))])
        if np.linalg.matrix_rank(columns, tol=1e-8) > len(chosen):
            chosen.append((i, j))
    return chosen
