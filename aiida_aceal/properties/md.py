"""Molecular dynamics with the engine itself: energy drift, radial distribution, mobility, thermal expansion.

The same integrators (ASE) drive every engine, so that differences are those of the forces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.errors import AceError

from .crystal import cases, heights, named, repeats
from .engine import Relaxer, gamma_max
from .settings import MdSettings
from .start import Start

NAME = "md"
_BLOCKS = 5


def structures(settings: MdSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``start``, frames ``nve/NUMBER`` and ``npt/NUMBER`` of runs by the engine of ``relaxer``, with their labels.

    Equilibration by stochastic velocity rescaling (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007)); NPT
    by Martyna, Tobias and Klein (J. Chem. Phys. 101, 4177 (1994)), isotropic, at zero pressure.

    :raises AceError: forces or energies that are not finite, atoms that fly apart
    """
    cell = start.crystal.conventional
    return runs(settings, cell * repeats(cell.cell, settings.cell_length), relaxer)


def runs(settings: MdSettings, crystal: Atoms, relaxer: Relaxer) -> list[Atoms]:
    """As `structures`, from a supercell."""
    from ase.md.bussi import Bussi
    from ase.md.nose_hoover_chain import IsotropicMTKNPT
    from ase.md.verlet import VelocityVerlet

    atoms = crystal.copy()
    atoms.calc = relaxer.engine.calculator()
    frames = [own_frame(NAME, "start", atoms, 0.0)]
    rng = np.random.default_rng(settings.seed)
    # twice the temperature: half of it goes into the potential energy of the crystal
    speeds = np.sqrt(2 * settings.temperature_K * units.kB / atoms.get_masses())[:, None]
    atoms.set_velocities(rng.normal(size=(len(atoms), 3)) * speeds)
    momenta = atoms.get_momenta()
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    step = settings.timestep_ps * 1000 * units.fs
    with_heat = {"temperature_K": settings.temperature_K, "timestep": step}
    Bussi(atoms, taut=50 * step, rng=rng, **with_heat).run(settings.equilibration)
    frames += _sampled(settings, VelocityVerlet(atoms, timestep=step), atoms, "nve")
    if settings.npt:
        barostat = IsotropicMTKNPT(atoms, pressure_au=0.0, tdamp=50 * step, pdamp=500 * step, **with_heat)
        barostat.run(settings.equilibration)
        frames += _sampled(settings, barostat, atoms, "npt")
    return frames


def _sampled(settings: MdSettings, dynamics: Any, atoms: Atoms, word: str) -> list[Atoms]:
    frames = []
    volume = atoms.get_volume()
    for k in range(settings.steps // settings.interval):
        dynamics.run(settings.interval)
        frames.append(own_frame(NAME, f"{word}/{k}", atoms, (k + 1) * settings.interval * settings.timestep_ps))
        if not 0.5 < atoms.get_volume() / volume < 2.0:
            raise AceError(f"md, {word}: the volume changed by a factor {atoms.get_volume() / volume:.2g}")
    return frames


def own_frame(property_name: str, case: str, atoms: Atoms, time: float) -> Atoms:
    """A frame of an engine's own dynamics with its labels: ``info`` has ``own``, ``time_ps``, temperature and energy.

    :param time: ps
    :raises AceError: energy or forces are not finite
    """
    frame = named(atoms, property_name, case)
    results = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces()}
    total = float(atoms.get_total_energy())
    if not (np.isfinite(total) and np.isfinite(results["forces"]).all()):
        raise AceError(
            f"{property_name}, {case}: energy or forces are not finite; use a shorter {property_name}.timestep_ps"
        )
    frame.info.update(
        own=True, time_ps=time, total_energy_eV=total, temperature_K=float(atoms.get_temperature())
    )  # fmt: skip
    if "gamma_max" in atoms.calc.results:
        frame.info["gamma_max"] = float(atoms.calc.results["gamma_max"])
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def analyse(settings: MdSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Numbers of the runs; errors of means are those of block averages."""
    found = cases(frames)
    at_rest = found["start"].get_volume() / len(found["start"])
    nve = _run(found, "nve")
    n = len(nve[0])
    times = np.array([float(f.info["time_ps"]) for f in nve])
    totals = np.array([float(f.info["total_energy_eV"]) for f in nve]) / n
    distances, rdf = _rdf(settings, nve)
    apart = np.array([f.positions - f.positions.mean(axis=0) for f in nve])
    squared = ((apart - apart[0]) ** 2).sum(axis=2).mean(axis=1)
    result: dict[str, Any] = {
        "atoms": n,
        "temperature_K": float(np.mean([float(f.info["temperature_K"]) for f in nve])),
        "drift_meV_per_atom_per_ps": float(np.polyfit(times, totals, 1)[0] * 1e3),
        "energy_fluctuation_meV_per_atom": float(np.std(totals) * 1e3),
        "mean_square_displacement_A2": float(squared[len(squared) // 2 :].mean()),
        "gamma_max": gamma_max(nve),
        "curves": {
            "rdf": {"distance_A": distances.tolist(), "g": rdf.tolist()},
            "msd": {"time_ps": (times - times[0]).tolist(), "A2": squared.tolist()},
            "total_energy_eV_per_atom": totals.tolist(),
        },
    }
    if settings.npt:
        npt = _run(found, "npt")
        volumes = np.array([f.get_volume() / n for f in npt])
        mean, error = _mean(volumes)
        result["npt"] = {
            "temperature_K": float(np.mean([float(f.info["temperature_K"]) for f in npt])),
            "volume_A3_per_atom": mean,
            "volume_error_A3_per_atom": error,
            "linear_expansion_percent": float(100 * ((mean / at_rest) ** (1 / 3) - 1)),
            "gamma_max": gamma_max(npt),
        }
    return result


def _run(found: dict[str, Atoms], word: str) -> list[Atoms]:
    numbers = sorted(int(case.split("/")[1]) for case in found if case.startswith(f"{word}/"))
    if len(numbers) < 3:
        raise AceError(f"md: {len(numbers)} frames of {word} are too few: raise md.steps or lower md.interval")
    return [found[f"{word}/{k}"] for k in numbers]


def _rdf(settings: MdSettings, frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Radial distribution over all pairs, to half the height of the cell."""
    from ase.geometry.rdf import get_rdf

    longest = 0.499 * float(heights(frames[0].cell[:]).min())
    found = [get_rdf(f, longest, settings.bins) for f in frames]
    return np.asarray(found[0][1]), np.mean([rdf for rdf, _ in found], axis=0)


def _mean(values: np.ndarray) -> tuple[float, float | None]:
    blocks = [block.mean() for block in np.array_split(values, _BLOCKS) if len(block)]
    error = float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) == _BLOCKS else None
    return float(values.mean()), error
