"""The LAMMPS input of an exploration run: one deck for native LAMMPS with ML-PACE and for ``aceal-lmp``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.geometry import complete_cell
from ase.io.lammpsdata import write_lammps_data

from aiida_aceal.ace.errors import AceError

#: file names a deck uses
POTENTIAL_FILE = "potential.yaml"
ACTIVE_SET_FILE = "active_set.asi"
DATA_FILE = "structure.data"
EXTRAPOLATIVE_DUMP = "extrapolative.dump"
LAST_DUMP = "last.dump"
LAST_DATA = "last.data"
#: ID of the fix that carries gamma, and the thermo column of its maximum
GAMMA_FIX = "pace_gamma"
MAX_GAMMA_COLUMN = "c_max_pace_gamma"
#: LAMMPS takes no larger seed
MAX_SEED = 900_000_000

_CHOICES = {
    "ensemble": ("nvt", "npt", "nve"),
    "thermostat": ("nose-hoover", "langevin"),
    "barostat": ("iso", "aniso", "tri"),
    "velocities": ("create", "keep"),
}
_THERMO = f"step time temp pe ke etotal press vol pxx pyy pzz pxy pxz pyz {MAX_GAMMA_COLUMN}"


@dataclass(frozen=True)
class MDSettings:
    """Settings of one MD run with extrapolation grades.

    :ivar steps: number of MD steps; a multiple of ``gamma_interval``.
    :ivar ensemble: ``nvt``, ``npt`` or ``nve``.
    :ivar temperature_K: temperature at the start; ``temperature_end_K`` at the end (ramp), default: the same.
    :ivar pressure_bar: pressure at the start; ``pressure_end_bar`` at the end, default: the same (``npt``).
    :ivar timestep_ps: MD time step.
    :ivar thermostat: ``nose-hoover`` (``fix nvt``/``npt``) or ``langevin`` (with ``nvt``).
    :ivar thermostat_damping_ps: default 100 time steps.
    :ivar barostat: cell degrees of freedom of ``npt``: ``iso``, ``aniso`` (lengths), ``tri`` (lengths and angles).
    :ivar barostat_damping_ps: default 1000 time steps.
    :ivar velocities: ``create`` at ``temperature_K`` from ``seed``, or ``keep`` those of the structure.
    :ivar seed: seed of velocities and of the Langevin thermostat.
    :ivar gamma_interval: gamma is evaluated, frames are judged and the halt is checked every so many steps.
    :ivar gamma_lo: frames whose largest gamma is at least this are dumped.
    :ivar gamma_hi: the run ends when the largest gamma exceeds this.
    :ivar thermo_interval: steps between lines of the log, a multiple of ``gamma_interval``; default: the same.
    :ivar skin: extra neighbour distance, Angstrom.
    :ivar max_wall_seconds: end the run in good order after this time.
    """

    steps: int
    ensemble: str = "nvt"
    temperature_K: float = 300.0
    temperature_end_K: float | None = None
    pressure_bar: float = 0.0
    pressure_end_bar: float | None = None
    timestep_ps: float = 0.001
    thermostat: str = "nose-hoover"
    thermostat_damping_ps: float | None = None
    barostat: str = "iso"
    barostat_damping_ps: float | None = None
    velocities: str = "create"
    seed: int = 1
    gamma_interval: int = 10
    gamma_lo: float = 2.0
    gamma_hi: float = 10.0
    thermo_interval: int | None = None
    skin: float = 1.0
    max_wall_seconds: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise AceError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in ("steps", "seed", "gamma_interval"):
            _check_integer(name, getattr(self, name))
        for name in ("thermo_interval", "max_wall_seconds"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name))
        if self.seed > MAX_SEED:
            raise AceError(f"seed must be at most {MAX_SEED} for LAMMPS, not {self.seed}")
        for name in ("temperature_K", "timestep_ps", "gamma_lo", "gamma_hi", "skin"):
            _check_positive(name, getattr(self, name))
        for name in ("temperature_end_K", "thermostat_damping_ps", "barostat_damping_ps"):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        for name in ("pressure_bar", "pressure_end_bar"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name))
        if self.gamma_lo >= self.gamma_hi:
            raise AceError(f"gamma_lo ({self.gamma_lo}) must be below gamma_hi ({self.gamma_hi})")
        for name in ("steps", "thermo_interval"):
            value = getattr(self, name)
            if value is not None and value % self.gamma_interval:
                # LAMMPS prints the largest gamma with each line of the log, also with the last one
                raise AceError(f"{name} ({value}) must be a multiple of gamma_interval ({self.gamma_interval})")
        if self.thermostat == "langevin" and self.ensemble != "nvt":
            raise AceError(f"thermostat langevin goes with ensemble nvt, not {self.ensemble}; use nose-hoover")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MDSettings:
        """Settings from plain values.

        :raises AceError: for unknown or missing keys and bad values
        """
        known = [item.name for item in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
                raise AceError(f"unknown MD setting '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        if "steps" not in values:
            raise AceError("MD setting 'steps' (number of MD steps) is missing")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, all keys."""
        return asdict(self)


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise AceError(f"{name} must be a finite number, not {value!r}")


def _check_positive(name: str, value: Any) -> None:
    _check_number(name, value)
    if value <= 0:
        raise AceError(f"{name} must be positive, not {value!r}")


def _check_integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AceError(f"{name} must be a positive integer, not {value!r}")


def write_md_deck(
    settings: MDSettings,
    elements: Sequence[str],
    pbc: Sequence[bool] = (True, True, True),
    potential_file: str = POTENTIAL_FILE,
    active_set_file: str = ACTIVE_SET_FILE,
    data_file: str = DATA_FILE,
) -> str:
    """LAMMPS input for ``settings``.

    Writes, beside the log: ``extrapolative.dump`` (frames from ``gamma_lo`` on), ``last.dump`` (last frame with
    velocities and gamma) and ``last.data``.

    :param elements: element of each LAMMPS type, in the order of :func:`write_data`
    :param pbc: periodic directions; the others are shrink-wrapped, never smaller than the cell
    :raises AceError: for a barostat without three periodic directions
    """
    s = settings
    if s.ensemble == "npt" and not all(pbc):
        raise AceError("ensemble npt needs a structure that is periodic in all three directions; use nvt")
    n = s.gamma_interval
    names = " ".join(elements)
    lines = [
        "# written by aiida-aceal for LAMMPS with ML-PACE, and for aceal-lmp",
        "units metal",
        "atom_style atomic",
        f"boundary {' '.join('p' if periodic else 'm' for periodic in pbc)}",
        "box tilt large",
        f"read_data {data_file}",
        *(["change_box all triclinic"] if s.ensemble == "npt" and s.barostat == "tri" else []),
        "pair_style pace/extrapolation",
        f"pair_coeff * * {potential_file} {active_set_file} {names}",
        f"neighbor {s.skin:.10g} bin",
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {s.timestep_ps:.10g}",
        "",
        f"fix {GAMMA_FIX} all pair {n} pace/extrapolation gamma 1",
        f"compute max_pace_gamma all reduce max f_{GAMMA_FIX}",
        "variable max_pace_gamma equal c_max_pace_gamma",
        f'variable dump_skip equal "c_max_pace_gamma < {s.gamma_lo:.10g}"',
        f"dump extrapolative all custom {n} {EXTRAPOLATIVE_DUMP} id type element x y z f_{GAMMA_FIX}",
        f"dump_modify extrapolative element {names} sort id format float %.12g skip v_dump_skip",
        f"fix extreme all halt {n} v_max_pace_gamma > {s.gamma_hi:.10g} error continue message yes",
        "",
    ]
    if s.velocities == "create":
        lines.append(f"velocity all create {s.temperature_K:.10g} {s.seed} mom yes rot no dist gaussian")
    lines += _integrator(s)
    lines += [
        f"thermo {s.thermo_interval or n}",
        f"thermo_style custom {_THERMO}",
        "thermo_modify format float %.10g lost error flush yes",
    ]
    if s.max_wall_seconds is not None:
        minutes, seconds = divmod(s.max_wall_seconds, 60)
        lines.append(f"timer timeout {minutes // 60}:{minutes % 60:02d}:{seconds:02d} every {n}")
    columns = f"id type element x y z vx vy vz f_{GAMMA_FIX}"
    lines += [
        f"run {s.steps}",
        "",
        f"write_dump all custom {LAST_DUMP} {columns} modify element {names} sort id format float %.12g",
        f"write_data {LAST_DATA} nocoeff",
    ]
    return "\n".join(lines) + "\n"


def _integrator(s: MDSettings) -> list[str]:
    start = s.temperature_K
    end = start if s.temperature_end_K is None else s.temperature_end_K
    damping = s.thermostat_damping_ps or 100 * s.timestep_ps
    temperature = f"{start:.10g} {end:.10g} {damping:.10g}"
    if s.ensemble == "nve":
        return ["fix md all nve"]
    if s.thermostat == "langevin":
        return ["fix md all nve", f"fix bath all langevin {temperature} {s.seed} zero yes"]
    if s.ensemble == "nvt":
        return [f"fix md all nvt temp {temperature}"]
    last = s.pressure_bar if s.pressure_end_bar is None else s.pressure_end_bar
    slow = s.barostat_damping_ps or 1000 * s.timestep_ps
    return [f"fix md all npt temp {temperature} {s.barostat} {s.pressure_bar:.10g} {last:.10g} {slow:.10g}"]


def write_data(
    atoms: Atoms,
    elements: Sequence[str],
    stream,
    masses: Mapping[str, float] | None = None,
    velocities: bool = False,
) -> Prism:
    """Write a structure as LAMMPS data file (``units metal``, ``atom_style atomic``).

    LAMMPS wants the cell as a lower triangle: cell, positions and velocities are rotated together. Directions without
    a cell vector get a box around the atoms. IDs follow the order of the atoms.

    :param elements: element of each LAMMPS type; may hold more than the structure has
    :param stream: text file to write to
    :param masses: element -> g/mol; default: the masses of ``atoms``
    :param velocities: write them too
    :returns: the rotation (``vector_to_ase`` goes back)
    :raises AceError: for elements that are not in ``elements``, coordinates that are not finite, or a skew along a
        direction that is not periodic
    """
    symbols = np.array(atoms.get_chemical_symbols())
    if missing := sorted(set(symbols) - set(elements)):
        raise AceError(
            f"{missing[0]} of {atoms.get_chemical_formula()} is not among the elements {', '.join(elements)}"
        )
    if not len(atoms):
        raise AceError("a structure without atoms cannot be run")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise AceError(f"positions or cell of {atoms.get_chemical_formula()} are not finite numbers")
    # a plain copy: arrays such as 'type' would change what ASE writes
    plain = Atoms(symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, masses=atoms.get_masses())
    if masses is not None:
        plain.set_masses([masses.get(symbol, mass) for symbol, mass in zip(symbols, plain.get_masses())])
    if velocities:
        plain.set_momenta(plain.get_masses()[:, None] * atoms.get_velocities())
    _fill_cell(plain)
    plain.wrap()
    prism = Prism(plain.cell.array, pbc=plain.pbc)
    _, _, _, xy, xz, yz = prism.get_lammps_prism()
    for tilt, axis in ((xy, 1), (xz, 2), (yz, 2)):
        if abs(tilt) > 1e-10 and not plain.pbc[axis]:
            raise AceError(
                f"the cell of {atoms.get_chemical_formula()} is skewed along direction {'xyz'[axis]}, which is not "
                "periodic: LAMMPS cannot run this; make the cell vector orthogonal to the others"
            )
    write_lammps_data(
        stream, plain, specorder=list(elements), prismobj=prism, masses=True, velocities=velocities, units="metal"
    )
    return prism


def _fill_cell(atoms: Atoms, margin: float = 1.0) -> None:
    """Cell vectors where there are none: around the atoms, with a margin in Angstrom; shifts the atoms into it."""
    absent = ~atoms.cell.any(1)
    if not absent.any():
        return
    if (absent & atoms.pbc).any():
        raise AceError(
            f"{atoms.get_chemical_formula()} is periodic in a direction without cell vector: set cell or pbc"
        )
    cell = complete_cell(atoms.cell.array)
    scaled = atoms.positions @ np.linalg.inv(cell)
    for axis in np.flatnonzero(absent):
        low, high = scaled[:, axis].min() - margin, scaled[:, axis].max() + margin
        atoms.positions -= low * cell[axis]
        cell[axis] *= high - low
    atoms.set_cell(cell)
