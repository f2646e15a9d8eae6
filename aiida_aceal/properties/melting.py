"""Melting temperature by coexistence: half of a long cell is molten, and the two phases find their temperature.

At zero pressure and without a thermostat the front between solid and liquid moves until its latent heat has brought the
cell to the melting temperature (Morris, Wang, Ho and Chan, Phys. Rev. B 49, 3109 (1994); here at constant pressure).
Where one phase is gone before that, the next attempt begins colder or hotter.

Which part is solid is seen from the order of its layers: the structure factor of slabs along the cell at the shortest
wave vectors of the crystal that lie in the plane of the front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_aceal.common.errors import AceError

from .crystal import cases, heights
from .engine import Relaxer, gamma_max
from .md import own_frame
from .settings import MeltingSettings
from .start import Start

NAME = "melting"
#: share of solid between which both phases are there
_BOTH = (0.1, 0.9)
#: a crystal heated quickly melts above its melting temperature; the first attempt begins below that
_OVERHEATED = 0.8
_BLOCKS, _SLABS = 5, 6
#: steps between two settings of cell and velocities; steps in which a pressure relaxes
_PACE, _RELAXATION = 10, 200


def structures(settings: MeltingSettings, start: Start, relaxer: Relaxer) -> list[Atoms]:
    """``start`` (the crystal), then frames ``RUN/NUMBER`` of each attempt by the engine of ``relaxer``, with labels.

    ``info["period"]`` holds the repeats of the conventional cell.

    :raises AceError: what is not finite; a crystal that does not melt below ``hottest_K``
    """
    cell = start.crystal.conventional
    return runs(settings, supercell(settings, cell), relaxer)


def supercell(settings: MeltingSettings, cell: Atoms) -> Atoms:
    """The conventional cell repeated to a bar along its third direction; ``info["period"]`` says how often."""
    high = heights(cell.cell[:])
    counts = np.ceil([settings.width, settings.width, max(settings.length, 2 * settings.width)] / high - 1e-6)
    counts = np.maximum(counts, [1, 1, _SLABS]).astype(int)
    bar = cell * tuple(int(n) for n in counts)
    bar.info["period"] = counts.tolist()
    return bar


def runs(settings: MeltingSettings, crystal: Atoms, relaxer: Relaxer) -> list[Atoms]:
    """As `structures`, from a bar of `supercell`."""
    order = Order(crystal)
    atoms = crystal.copy()
    atoms.calc = relaxer.engine.calculator()
    frames = [own_frame(NAME, "start", atoms, 0.0)]
    rng = np.random.default_rng(settings.seed)
    dynamics = Free(atoms, settings.timestep_ps)
    hot = _melt(settings, atoms, dynamics, order, rng)
    guess = settings.temperature_K or _OVERHEATED * hot
    half = atoms.copy()
    cold, warm = 0.0, np.inf
    for attempt in range(settings.attempts):
        atoms.set_cell(half.cell)
        atoms.positions[:] = half.positions
        found, solid = _coexist(settings, atoms, dynamics, order, rng, guess, attempt)
        frames += found
        if _both(solid):
            break
        cold, warm = (guess, warm) if solid[-1] > 0.5 else (cold, guess)
        guess = guess * 1.15 if warm == np.inf else (0.87 * guess if not cold else (cold + warm) / 2)
    for frame in frames:
        frame.info["period"] = crystal.info["period"]
    return frames


def _both(solid: Sequence[float]) -> bool:
    """Whether both phases were there to the end of an attempt: shares of solid of its frames."""
    return all(_BOTH[0] < float(np.mean(part)) < _BOTH[1] for part in (solid[len(solid) // 2 :], solid[-3:]))


class Free:
    """Velocity Verlet without thermostat, the three lengths of the cell coupled weakly to zero pressure.

    (Berendsen et al., J. Chem. Phys. 81, 3684 (1984).) The coupling takes the bulk modulus of the crystal: stiff and
    soft materials relax alike. It acts every ten steps, so that it costs a tenth of an evaluation.
    """

    def __init__(self, atoms: Atoms, timestep_ps: float) -> None:
        from ase.md.verlet import VelocityVerlet

        self._atoms = atoms
        self._dynamics = VelocityVerlet(atoms, timestep=timestep_ps * 1000 * units.fs)
        pressures = []
        for change in (-0.005, 0.005):
            work = atoms.copy()
            work.calc = atoms.calc
            work.set_cell(atoms.cell * (1 + change) ** (1 / 3), scale_atoms=True)
            pressures.append(-float(np.mean(work.get_stress()[:3])))
        modulus = max((pressures[0] - pressures[1]) / 0.01, 0.1 * units.GPa)
        self._rate = 1 / (_RELAXATION * 3 * modulus)

    def run(self, steps: int, after: Callable[[], None] = lambda: None) -> None:
        """Some steps; ``after`` is called every ten."""
        for done in range(0, steps, _PACE):
            count = min(_PACE, steps - done)
            self._dynamics.run(count)
            stress = self._atoms.get_stress(include_ideal_gas=True)[:3]
            scale = 1 - np.clip(count * self._rate * stress, -0.01, 0.01)
            self._atoms.set_cell(self._atoms.cell[:] * scale[:, None], scale_atoms=True)
            after()


def _heat(atoms: Atoms, which: np.ndarray, temperature: float, rng: np.random.Generator) -> None:
    """New velocities of some atoms from the distribution of a temperature."""
    momenta = atoms.get_momenta()
    masses = atoms.get_masses()[which][:, None]
    momenta[which] = rng.normal(size=(which.sum(), 3)) * np.sqrt(masses * units.kB * temperature)
    atoms.set_momenta(momenta - momenta.mean(axis=0))


def _rescale(atoms: Atoms, which: np.ndarray, temperature: float) -> None:
    momenta = atoms.get_momenta()
    kinetic = float(np.sum(momenta[which] ** 2 / (2 * atoms.get_masses()[which][:, None])))
    momenta[which] *= np.sqrt(1.5 * which.sum() * units.kB * temperature / max(kinetic, 1e-12))
    atoms.set_momenta(momenta - momenta.mean(axis=0))


def _two_temperatures(atoms: Atoms, hot: np.ndarray, temperature: float) -> None:
    _rescale(atoms, hot, temperature)
    _rescale(atoms, ~hot, 0.4 * temperature + 150.0)


def _melt(settings: MeltingSettings, atoms: Atoms, dynamics: Free, order: Order, rng: np.random.Generator) -> float:
    """Heat one half until it is molten, the other half staying cold; the temperature that it took, K."""
    hot = atoms.get_scaled_positions()[:, 2] >= 0.5
    temperature = 300.0
    _heat(atoms, hot, 2 * temperature, rng)
    _heat(atoms, ~hot, temperature, rng)
    while temperature < settings.hottest_K:
        dynamics.run(settings.heating_steps, lambda t=temperature: _two_temperatures(atoms, hot, t))
        _check(atoms, "heating")
        amplitudes = order.slabs(atoms)
        if np.mean(amplitudes[len(amplitudes) // 2 :] < 0.5) >= 0.8:
            return temperature
        temperature *= 1.15
    raise AceError(f"melting: the crystal did not melt up to {settings.hottest_K:g} K: raise melting.hottest_K")


def _coexist(
    settings: MeltingSettings, atoms: Atoms, dynamics: Free, order: Order, rng: np.random.Generator, guess: float,
    attempt: int,
) -> tuple[list[Atoms], list[float]]:  # fmt: skip
    """One attempt: both halves at one temperature, then free."""
    everything = np.ones(len(atoms), dtype=bool)
    _heat(atoms, everything, guess, rng)
    dynamics.run(settings.equilibration, lambda: _rescale(atoms, everything, guess))
    frames, solid = [], []
    for k in range(settings.steps // settings.interval):
        dynamics.run(settings.interval)
        _check(atoms, f"attempt {attempt}")
        frames.append(own_frame(NAME, f"{attempt}/{k}", atoms, (k + 1) * settings.interval * settings.timestep_ps))
        solid.append(order.solid(atoms))
        if k > 3 and not 0.05 < np.mean(solid[-3:]) < 0.95:  # one phase is gone
            break
    return frames, solid


def _check(atoms: Atoms, what: str) -> None:
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_potential_energy())):
        raise AceError(f"melting, {what}: positions or energy are not finite; use a shorter melting.timestep_ps")


class Order:
    """How crystalline the slabs of a bar are.

    For slab ``z`` with ``n`` atoms the amplitude is ``|sum_j exp(i k r_j)| / n``, mean over the shortest wave vectors
    ``k`` in the plane at which the perfect crystal has more than half of what it can have, divided by that of the
    crystal. It is 1 in the crystal, about 0.8 near melting, and about ``n**-0.5`` in the liquid.
    """

    def __init__(self, crystal: Atoms) -> None:
        na, nb, nc = crystal.info["period"]
        self._n = int(nc)
        plane = np.array(crystal.cell.reciprocal()[:2]) * [[na], [nb]]
        indices = np.array([(h, k) for h in range(0, 5) for k in range(-4, 5) if (h, k) > (0, 0)])
        lengths = np.linalg.norm(indices @ plane, axis=1)
        scaled = crystal.get_scaled_positions()[:, :2] * [na, nb]
        strength = np.abs(np.exp(2j * np.pi * scaled @ indices.T).mean(axis=0))
        strong = strength > 0.5
        if not strong.any():
            raise AceError("melting: the crystal has no strong reflection in the plane of the front")
        keep = strong & (lengths < lengths[strong].min() * 1.01)
        self._indices = indices[keep] * [na, nb]
        self._perfect = float(strength[keep].mean())

    def slabs(self, atoms: Atoms) -> np.ndarray:
        """Amplitudes of the slabs along the bar."""
        scaled = atoms.get_scaled_positions(wrap=False)
        waves = np.exp(2j * np.pi * scaled[:, :2] @ self._indices.T)
        where = np.floor(scaled[:, 2] * self._n).astype(int) % self._n
        made = np.zeros((self._n, waves.shape[1]), dtype=complex)
        np.add.at(made, where, waves)
        counts = np.maximum(np.bincount(where, minlength=self._n), 1)
        return np.asarray((np.abs(made) / counts[:, None]).mean(axis=1) / self._perfect)

    def solid(self, atoms: Atoms) -> float:
        """Share of slabs that are solid: amplitude above one half."""
        return float(np.mean(self.slabs(atoms) > 0.5))


def analyse(settings: MeltingSettings, frames: Sequence[Atoms]) -> dict[str, Any]:
    """Mean temperature of the second half of the last attempt; its error is that of block averages.

    :raises AceError: one phase was gone in the last attempt
    """
    found = cases(frames)
    order = Order(found["start"])
    last = max(int(case.split("/")[0]) for case in found if "/" in case)
    numbers = sorted(int(case.split("/")[1]) for case in found if case.startswith(f"{last}/"))
    run = [found[f"{last}/{k}"] for k in numbers]
    solid = np.array([order.solid(f) for f in run])
    temperatures = np.array([float(f.info["temperature_K"]) for f in run])
    late = slice(len(run) // 2, None)
    if not _both(solid.tolist()):
        left = "solid" if solid[-1] > 0.5 else "liquid"
        raise AceError(
            f"melting: one phase was gone ({left} is left) in each attempt, {last + 1} in all: give "
            "melting.temperature_K, a longer cell (melting.length), or raise melting.attempts"
        )
    blocks = [block.mean() for block in np.array_split(temperatures[late], _BLOCKS) if len(block)]
    return {
        "melting_temperature_K": float(temperatures[late].mean()),
        "error_K": float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else None,
        "solid_fraction": float(solid[late].mean()),
        "volume_A3_per_atom": float(np.mean([f.get_volume() / len(f) for f in run[late]])),
        "atoms": len(run[0]),
        "attempts": last + 1,
        "gamma_max": gamma_max(run),
        "curves": {
            "coexistence": {
                "time_ps": [float(f.info["time_ps"]) for f in run],
                "temperature_K": temperatures.tolist(),
                "solid_fraction": solid.tolist(),
            }
        },
    }
