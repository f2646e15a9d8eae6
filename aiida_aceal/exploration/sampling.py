"""Snapshots of a short molecular dynamics run with the reference method itself, for fixed hold-out sets.

What a potential visits in a heated run is neither a rattled crystal nor random: a fair test set comes from the
reference method's own dynamics. The labels come free of charge, as the run computes them anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.errors import AceError, NotFiniteError


def sample_md(
    atoms: Atoms,
    calculator: Any,
    temperature: tuple[float, float],
    steps: int,
    interval: int,
    rng: np.random.Generator,
    timestep: float = 0.002,
    friction: float = 10.0,
    labels: Callable[[Atoms, Any], dict[str, Any]] | None = None,
) -> Iterator[Atoms]:
    """Labelled snapshots of Langevin dynamics at constant volume, the temperature ramped linearly.

    :param temperature: K at the first and at the last step
    :param interval: steps between two snapshots; the start is none
    :param timestep: ps
    :param friction: 1/ps
    :param labels: labels of the present structure; default: energy, forces and, for a periodic cell, stress
    :raises AceError: impossible settings, or energies that are not finite
    """
    from ase.md.langevin import Langevin

    low, high = (float(value) for value in temperature)
    if not (low >= 0 and high >= 0 and np.isfinite([low, high]).all()):
        raise AceError(f"temperature: {temperature} are not temperatures in K")
    if steps < 1 or interval < 1 or interval > steps:
        raise AceError(
            f"steps {steps}, interval {interval}: both must be positive, and the interval no longer than the run"
        )
    if not timestep > 0 or not friction > 0:
        raise AceError(f"timestep {timestep} (ps) and friction {friction} (1/ps) must be positive")
    work = atoms.copy()
    work.calc = calculator
    # twice the temperature: half of it goes into the potential energy of the crystal
    speeds = np.sqrt(2 * low * units.kB / work.get_masses())[:, None]
    work.set_velocities(rng.normal(size=(len(work), 3)) * speeds)
    momenta = work.get_momenta()
    work.set_momenta(momenta - momenta.mean(axis=0))
    dynamics = Langevin(
        work,
        timestep * 1000 * units.fs,
        temperature_K=low,
        friction=friction / (1000 * units.fs),
        fixcm=False,
        rng=rng,
    )
    for done in range(interval, steps + 1, interval):
        for step in range(done - interval, done):
            dynamics.set_temperature(temperature_K=low + (high - low) * step / max(1, steps - 1))
            dynamics.run(1)
        found = labels(work, work.calc) if labels is not None else _labels(work)
        if not np.isfinite(found["energy"]) or not np.isfinite(found["forces"]).all():
            raise NotFiniteError(f"step {done}: energy or forces are not finite; use a shorter timestep")
        snapshot = Atoms(numbers=work.numbers, positions=work.positions, cell=work.cell, pbc=work.pbc)
        snapshot.info.update({"step": done, "temperature": round(float(work.get_temperature()), 3)})
        snapshot.calc = SinglePointCalculator(snapshot, **found)
        yield snapshot


def _labels(atoms: Atoms) -> dict[str, Any]:
    found = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces()}
    if atoms.cell.rank == 3 and atoms.pbc.all() and "stress" in atoms.calc.implemented_properties:
        found["stress"] = atoms.get_stress()
    return found
