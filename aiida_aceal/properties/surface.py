"""Surfaces: relaxed energies of low-index slabs, and the generalised stacking fault of fcc and hcp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_aceal.common.errors import AceError

from .crystal import Crystal, cases, named
from .engine import Relaxer, energy, gamma_max, largest_force
from .settings import SurfaceSettings
from .start import Start

NAME = "surface"
_CUBIC = ((1, 0, 0), (1, 1, 0), (1, 1, 1))
_HEXAGONAL = ((0, 0, 1), (1, 0, 0), (1, 1, 0))
_J_PER_M2 = units.J / 1e20  # in eV/Angstrom^2


def structures(settings: SurfaceSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``bulk``; relaxed slabs ``slab/HKL``; for fcc and hcp ``fault/NUMBER`` along the stacking fault."""
    found = start.crystal
    frames = [named(found.primitive, NAME, "bulk")]
    hexagonal = 143 <= found.number <= 194
    for plane in settings.planes or (_HEXAGONAL if hexagonal else _CUBIC):
        case = f"slab/{plane_name(plane)}"
        try:
            atoms = slab(found, plane, settings.thickness, settings.vacuum)
        except AceError as error:
            frames.append(_failed(found.primitive, case, error))
            continue
        try:
            frames.append(named(relaxer.positions(atoms, f"surface {plane}", settings.fmax), NAME, case))
        except AceError as error:
            frames.append(_failed(atoms, case, error))
    if settings.stacking_fault and found.prototype in ("fcc", "hcp"):
        try:
            frames += _fault(settings, found, relaxer)
        except AceError as error:
            frames.append(_failed(found.primitive, "fault/0", error))
    return frames


def _failed(atoms: Atoms, case: str, error: AceError) -> Atoms:
    frame = named(atoms, NAME, case)
    frame.info["error"] = str(error)
    return frame


def plane_name(plane: Sequence[int]) -> str:
    """``111``, ``1-10``."""
    return "".join(str(index) for index in plane)


def slab(crystal: Crystal, plane: Sequence[int], thickness: float, vacuum: float) -> Atoms:
    """A slab of whole primitive cells, third axis along its normal.

    :param plane: Miller indices in the conventional cell
    :param thickness: at least, Angstrom
    :raises AceError: (0, 0, 0)
    """
    from ase.build import surface

    if not any(plane):
        raise AceError("the plane (0, 0, 0) does not exist")
    normal = np.asarray(plane) @ np.linalg.inv(crystal.conventional.cell[:]).T
    primitive = crystal.primitive
    indices = primitive.cell[:] @ normal  # the same planes in the primitive cell, which makes the smallest slab
    # lattices of centred cells: whole numbers after a factor of 2 or 3 at most
    scaled = next(k for k in (1, 2, 3, 6) if np.allclose(k * indices, np.rint(k * indices), atol=1e-3))
    whole = np.rint(scaled * indices).astype(int)
    whole //= np.gcd.reduce(whole)
    spacing = 1.0 / np.linalg.norm(whole @ np.linalg.inv(primitive.cell[:]).T)
    layers = max(1, int(np.ceil(thickness / spacing - 1e-6)))
    made = surface(primitive, tuple(int(k) for k in whole), layers, vacuum=vacuum / 2, periodic=True)
    # ASE leans the third axis where the stacking leans: upright, the vacuum is the same everywhere
    area = np.cross(made.cell[0], made.cell[1])
    height = float(made.cell[2] @ area / np.linalg.norm(area))
    made.set_cell([made.cell[0], made.cell[1], area / np.linalg.norm(area) * height])
    made.wrap()
    return made


def _fault(settings: SurfaceSettings, crystal: Crystal, relaxer: Relaxer) -> list[Atoms]:
    """Close-packed layers in a periodic cell whose third axis is displaced: one fault in each cell."""
    from ase.constraints import FixedLine

    hexagonal = crystal.prototype == "hcp"
    cell = crystal.conventional.cell[:]
    a = float(np.linalg.norm(cell[0])) / (1.0 if hexagonal else np.sqrt(2.0))
    spacing = float(cell[2, 2]) / 2 if hexagonal else float(cell[0, 0]) / np.sqrt(3.0)
    period = 2 if hexagonal else 3
    layers = period * max(2, int(np.ceil(settings.thickness / (period * spacing))))
    step = np.array([a / 2, a / (2 * np.sqrt(3.0)), 0.0])  # from A to B, a partial Burgers vector
    frames = []
    for k, share in enumerate(np.linspace(0.0, 1.0, settings.fault_points)):
        places = [step * (layer % period) + [0.0, 0.0, spacing * layer] for layer in range(layers)]
        # after ABC the next layer goes from A to B; after AB it goes from A to C, the other way
        shift = step * share * (-1.0 if hexagonal else 1.0)
        atoms = Atoms(
            [crystal.primitive.symbols[0]] * layers,
            positions=places,
            cell=[[a, 0, 0], [a / 2, a * np.sqrt(3.0) / 2, 0], [*shift[:2], spacing * layers]],
            pbc=True,
        )
        across = FixedLine(list(range(layers)), [0, 0, 1])
        relaxed = relaxer.positions(atoms, f"stacking fault at {share:.2f}", settings.fmax, across)
        frames.append(named(relaxed, NAME, f"fault/{k}"))
    return frames


def analyse(settings: SurfaceSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Energy of each surface (mean of both sides of the slab), and ``stacking_fault``."""
    found = cases(frames)
    per_atom = energy(found["bulk"]) / len(found["bulk"])
    result: dict[str, Any] = {}
    for case, atoms in found.items():
        if not case.startswith("slab/"):
            continue
        if "error" in atoms.info:
            result[case[5:]] = {"error": str(atoms.info["error"])}
            continue
        area = float(np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1])))
        try:
            excess = energy(atoms) - len(atoms) * per_atom
        except AceError as error:
            result[case[5:]] = {"error": str(error)}
            continue
        result[case[5:]] = {
            "energy_J_per_m2": float(excess / (2 * area) / _J_PER_M2),
            "atoms": len(atoms),
            "max_force_eV_per_A": largest_force([atoms]),
            "gamma_max": gamma_max([atoms]),
        }
    if any(case.startswith("fault/") for case in found):
        result["stacking_fault"] = _fault_energies(cases(frames, "fault/"))
    good = [data for data in result.values() if "error" not in data]
    if not good:
        raise AceError("; ".join(f"{case}: {data['error']}" for case, data in result.items()))
    return result


def _fault_energies(found: dict[str, Atoms]) -> dict[str, Any]:
    images = [found[key] for key in sorted(found, key=int)]
    failed = next((str(f.info["error"]) for f in images if "error" in f.info), None)
    if failed:
        return {"error": failed}
    area = float(np.linalg.norm(np.cross(images[0].cell[0], images[0].cell[1])))
    try:
        energies = [energy(f) for f in images]
    except AceError as error:
        return {"error": str(error)}
    curve = (np.array(energies) - energies[0]) / area / _J_PER_M2 * 1e3
    return {
        "intrinsic_mJ_per_m2": float(curve[-1]),
        "unstable_mJ_per_m2": float(curve.max()),
        "gamma_max": gamma_max(images),
        "curves": {"displacement": np.linspace(0, 1, len(images)).tolist(), "energy_mJ_per_m2": curve.tolist()},
    }
