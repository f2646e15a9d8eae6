"""Equation of state: energies at several volumes of each phase, fitted by the third-order Birch-Murnaghan equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_aceal.common.errors import AceError

from .crystal import cases, named, repeats
from .engine import Relaxer, energy, forces, gamma_max
from .settings import EosSettings
from .start import Start

NAME = "eos"
#: largest scatter of energies about the equation of state, as a share of what they span; EMT has 1e-5, GFN1-xTB 7e-4,
#: pw.x at 18 Ry 0.02, and with a mesh of k-points that changes 0.17
_SCATTER = 0.03


def structures(settings: EosSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """Every phase at ``points`` volumes, case ``PHASE/NUMBER``; where that fails ``PHASE`` with ``info["error"]``.

    Positions and the shape of the cell are relaxed at constant volume, in the phase's symmetry.
    """
    frames = []
    factors = 1.0 + np.linspace(-settings.volume_range, settings.volume_range, settings.points)
    for name, given in start.given.items():
        try:
            if name in start.errors:
                raise AceError(start.errors[name])
            for k, factor in enumerate(factors):
                atoms = start.phases[name].primitive.copy()
                atoms.set_cell(atoms.cell * factor ** (1 / 3), scale_atoms=True)
                atoms = atoms * repeats(atoms.cell, settings.cell_length)
                atoms = relaxer.crystal(atoms, f"{name} at volume {factor:.3f}", constant_volume=True)
                frames.append(named(atoms, NAME, f"{name}/{k}"))
        except AceError as error:
            frames = [f for f in frames if not f.info["case"].startswith(f"{name}/")]
            frames.append(named(given.primitive, NAME, name))
            frames[-1].info["error"] = str(error)
    return frames


def analyse(settings: EosSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Numbers of each phase from its labelled structures; ``{error}`` for a phase that has no minimum in the range.

    Bulk modulus and derivative: F. Birch, Phys. Rev. 71, 809 (1947), fitted by ASE.
    """
    phases = dict.fromkeys(str(f.info["case"]).split("/")[0] for f in frames)
    result: dict[str, Any] = {}
    for name in phases:
        failed = next((f for f in frames if f.info["case"] == name and "error" in f.info), None)
        if failed is not None:
            result[name] = {"error": str(failed.info["error"])}
            continue
        try:
            result[name] = _phase(name, list(cases(frames, f"{name}/").values()))
        except AceError as error:
            result[name] = {"error": str(error)}
    good = [numbers for numbers in result.values() if "error" not in numbers]
    compositions = {numbers["formula"] for numbers in good}
    for numbers in good:
        same = [other["energy_eV_per_atom"] for other in good if other["formula"] == numbers["formula"]]
        numbers["energy_above_lowest_eV_per_atom"] = numbers["energy_eV_per_atom"] - min(same)
    if not good:
        raise AceError("; ".join(str(numbers["error"]) for numbers in result.values()))
    if len(compositions) == 1:
        for numbers in good:
            del numbers["formula"]
    return result


def _phase(name: str, frames: Sequence[Atoms]) -> dict[str, Any]:
    from ase.eos import EquationOfState

    frames = sorted(frames, key=lambda f: f.get_volume())
    n = len(frames[0])
    volumes = np.array([f.get_volume() / n for f in frames])
    energies = np.array([energy(f) / n for f in frames])
    lowest = int(np.argmin(energies))
    if lowest in (0, len(frames) - 1):
        raise AceError(
            f"{name}: the energy has no minimum between {volumes[0]:.4g} and {volumes[-1]:.4g} A^3 per atom, it is "
            f"lowest at the {'small' if lowest == 0 else 'large'} end: raise eos.volume_range"
        )
    try:
        fit = EquationOfState(volumes, energies - energies[lowest], eos="birchmurnaghan")
        volume, lowest_energy, modulus = fit.fit(warn=False)
    except (RuntimeError, ValueError) as error:
        raise AceError(f"{name}: no equation of state fits the energies ({error})") from error
    left = fit.func(volumes, *fit.eos_parameters) + energies[lowest] - energies
    scatter, span = 1e3 * float(np.sqrt(np.mean(left**2))), 1e3 * float(np.ptp(energies))
    if scatter > _SCATTER * span:
        raise AceError(
            f"{name}: the energies scatter by {scatter:.2g} meV per atom about an equation of state, of the {span:.2g} "
            "that they span: its numbers would be noise. Does the mesh of k-points or the basis change from volume to "
            "volume? Choose another kpoints_distance, a higher cutoff, or a larger eos.volume_range"
        )
    if not (np.isfinite([volume, modulus]).all() and modulus > 0):
        raise AceError(f"{name}: the fitted bulk modulus is {modulus / units.GPa:.4g} GPa: no stable equation of state")
    return {
        "formula": frames[0].get_chemical_formula(empirical=True),
        "volume_A3_per_atom": float(volume),
        "energy_eV_per_atom": float(lowest_energy + energies[lowest]),
        "bulk_modulus_GPa": float(modulus / units.GPa),
        "bulk_modulus_derivative": float(fit.eos_parameters[2]),
        "fit_rmse_meV_per_atom": scatter,
        "max_force_eV_per_A": max(float(np.abs(forces(f)).max()) for f in frames),
        "gamma_max": gamma_max(frames),
        "curves": {"volume_A3_per_atom": volumes.tolist(), "energy_eV_per_atom": energies.tolist()},
    }
