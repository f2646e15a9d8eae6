"""Phonons by finite displacements, with phonopy: bands, density of states, thermal properties, thermal expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_aceal.common.errors import AceError

from .crystal import cases, centring, named, need, repeats
from .engine import Relaxer, energy, forces, gamma_max, largest_force
from .settings import PhononSettings
from .start import Start

NAME = "phonon"
#: phonopy's kJ/mol -> eV
_PER_MOL = units.kJ / units.mol


def structures(settings: PhononSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """Conventional cell (``0/cell``) and displaced supercells (``0/d0``, ``0/d1``, ...); other volumes as ``1/...``.

    Volume 0 is the relaxed one. Of the others the positions and the shape of the cell are relaxed.
    """
    need("phonopy")
    need("seekpath")
    conventional = start.crystal.conventional
    frames = _displaced(settings, conventional, "0/")
    if settings.quasi_harmonic:
        factors = 1.0 + np.linspace(-settings.volume_range, settings.volume_range, settings.volumes)
        for k, factor in enumerate(f for f in factors if abs(f - 1.0) > 1e-9):
            atoms = conventional.copy()
            atoms.set_cell(atoms.cell * factor ** (1 / 3), scale_atoms=True)
            atoms = relaxer.crystal(atoms, f"volume {factor:.3f}", constant_volume=True)
            frames += _displaced(settings, atoms, f"{k + 1}/")
    return frames


def _phonopy(settings: PhononSettings, cell: Atoms) -> Any:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    unit = PhonopyAtoms(
        symbols=cell.get_chemical_symbols(), cell=cell.cell[:], scaled_positions=cell.get_scaled_positions()
    )
    matrix = np.diag(repeats(cell.cell, settings.supercell_length))
    found = Phonopy(unit, supercell_matrix=matrix, primitive_matrix=centring(cell), symprec=1e-4)
    found.generate_displacements(distance=settings.displacement)
    return found


def _displaced(settings: PhononSettings, cell: Atoms, prefix: str) -> list[Atoms]:
    frames = [named(cell, NAME, f"{prefix}cell")]
    for k, made in enumerate(_phonopy(settings, cell).supercells_with_displacements):
        atoms = Atoms(made.symbols, cell=made.cell, scaled_positions=made.scaled_positions, pbc=True)
        frames.append(named(atoms, NAME, f"{prefix}d{k}"))
    return frames


def analyse(settings: PhononSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Numbers and curves from labelled structures.

    Thermal properties need real frequencies: with imaginary ones they are ``{error}``.
    """
    need("phonopy")
    volumes = sorted({int(str(f.info["case"]).split("/")[0]) for f in frames})
    models = {k: _model(settings, cases(frames, f"{k}/")) for k in volumes}
    phonons = models[0]
    numbers, curves = _spectrum(settings, phonons)
    cell = cases(frames, "0/")["cell"]
    numbers["supercell_atoms"] = len(phonons.supercell)
    numbers["max_force_eV_per_A"] = largest_force([cell])
    numbers["thermal"] = _thermal(settings, phonons, numbers)
    if settings.quasi_harmonic:
        try:
            numbers["quasi_harmonic"] = _quasi_harmonic(settings, frames, models)
        except AceError as error:
            numbers["quasi_harmonic"] = {"error": str(error)}
    return {**numbers, "gamma_max": gamma_max(frames), "curves": curves}


def _model(settings: PhononSettings, found: dict[str, Atoms]) -> Any:
    phonons = _phonopy(settings, found["cell"])
    wanted = phonons.supercells_with_displacements
    sets = []
    for k, made in enumerate(wanted):
        atoms = found.get(f"d{k}")
        if atoms is None or len(atoms) != len(made):
            raise AceError(
                f"displaced supercell {k} of {len(wanted)} is missing or of another size: settings of the phonons "
                "must be those that the structures were made with"
            )
        apart = atoms.positions - made.scaled_positions @ made.cell
        apart -= np.rint(apart @ np.linalg.inv(made.cell)) @ made.cell
        if np.abs(apart).max() > 1e-4:
            raise AceError(f"displaced supercell {k} is not that of these settings (positions differ)")
        sets.append(forces(atoms))
    phonons.forces = np.array(sets)
    phonons.produce_force_constants()
    phonons.symmetrize_force_constants()
    return phonons


def _spectrum(settings: PhononSettings, phonons: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    phonons.auto_band_structure(npoints=settings.band_points)
    bands = phonons.get_band_structure_dict()
    phonons.run_mesh(settings.mesh_length)
    phonons.run_total_dos()
    dos = phonons.get_total_dos_dict()
    mesh = phonons.get_mesh_dict()
    path = np.concatenate([np.ravel(part) for part in bands["frequencies"]])
    everywhere = np.concatenate([path, np.ravel(mesh["frequencies"])])
    weights = np.repeat(mesh["weights"], mesh["frequencies"].shape[1])
    below = np.ravel(mesh["frequencies"]) < settings.imaginary_below
    numbers = {
        "max_frequency_THz": float(everywhere.max()),
        "min_frequency_THz": float(everywhere.min()),
        "mean_frequency_THz": float(np.average(np.ravel(mesh["frequencies"]), weights=weights)),
        "imaginary": bool(everywhere.min() < settings.imaginary_below),
        "imaginary_share": float(weights[below].sum() / weights.sum()),
    }
    curves = {
        "bands": {
            "labels": list(phonons.band_structure.labels or []),
            "connected": [bool(x) for x in phonons.band_structure.path_connections],
            "distances": [np.asarray(part).tolist() for part in bands["distances"]],
            "frequencies_THz": [np.asarray(part).tolist() for part in bands["frequencies"]],
        },
        "dos": {
            "frequency_THz": dos["frequency_points"].tolist(),
            "states_per_THz": dos["total_dos"].tolist(),
        },
    }
    return numbers, curves


def _thermal(settings: PhononSettings, phonons: Any, numbers: dict[str, Any]) -> dict[str, Any]:
    """Harmonic free energy, entropy and heat capacity, by temperature (``"300K"``)."""
    if numbers["imaginary"]:
        return {
            "error": f"imaginary modes (down to {numbers['min_frequency_THz']:.3g} THz): the phase is not stable, "
            "or the supercell or the relaxation is too coarse"
        }
    found = _temperatures(phonons, settings.temperatures)
    n = len(phonons.primitive)
    return {
        f"{temperature:g}K": {
            "free_energy_eV_per_atom": float(free * _PER_MOL / n),
            "entropy_kB_per_atom": float(entropy * _PER_MOL / 1000 / units.kB / n),
            "heat_capacity_kB_per_atom": float(capacity * _PER_MOL / 1000 / units.kB / n),
        }
        for temperature, free, entropy, capacity in zip(
            settings.temperatures, found["free_energy"], found["entropy"], found["heat_capacity"]
        )
    }


def _temperatures(phonons: Any, temperatures: Sequence[float]) -> dict[str, np.ndarray]:
    phonons.run_thermal_properties(temperatures=list(temperatures), cutoff_frequency=1e-3)
    return phonons.get_thermal_properties_dict()


def _quasi_harmonic(settings: PhononSettings, frames: Sequence[Atoms], models: dict[int, Any]) -> dict[str, Any]:
    """Volume, expansion and bulk modulus at the temperatures."""
    from phonopy import PhonopyQHA

    # phonopy takes derivatives over the grid of temperatures, so that it must go beyond those that are wanted
    grid = np.arange(0.0, max(settings.temperatures) + 21.0, 10.0)
    rows = []
    for k, phonons in models.items():
        lowest = float(phonons.get_mesh_dict()["frequencies"].min()) if k == 0 else _lowest(settings, phonons)
        cell = cases(frames, f"{k}/")["cell"]
        if lowest < settings.imaginary_below:
            raise AceError(f"imaginary modes ({lowest:.3g} THz) at {cell.get_volume() / len(cell):.4g} A^3 per atom")
        n = len(phonons.primitive)
        found = _temperatures(phonons, grid)
        rows.append((cell.get_volume() / len(cell) * n, energy(cell) / len(cell) * n, found, n))
    rows.sort(key=lambda row: row[0])
    try:
        made = PhonopyQHA(
            volumes=[row[0] for row in rows],
            electronic_energies=[row[1] for row in rows],
            temperatures=grid,
            free_energy=np.array([row[2]["free_energy"] for row in rows]).T,
            cv=np.array([row[2]["heat_capacity"] for row in rows]).T,
            entropy=np.array([row[2]["entropy"] for row in rows]).T,
        )
    except Exception as error:  # its fits give up in many ways
        raise AceError(f"no quasi-harmonic equation of state ({type(error).__name__}: {error})") from error
    known = grid[: len(made.volume_temperature)]
    return {
        f"{temperature:g}K": {
            "volume_A3_per_atom": float(np.interp(temperature, known, made.volume_temperature) / rows[0][3]),
            "volumetric_expansion_per_MK": float(1e6 * np.interp(temperature, known, made.thermal_expansion)),
            "bulk_modulus_GPa": float(np.interp(temperature, known, made.bulk_modulus_temperature)),
        }
        for temperature in settings.temperatures
    }


def _lowest(settings: PhononSettings, phonons: Any) -> float:
    phonons.run_mesh(settings.mesh_length)
    return float(phonons.get_mesh_dict()["frequencies"].min())
