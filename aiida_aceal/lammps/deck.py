"""The LAMMPS input of an exploration run: one deck for native LAMMPS with ML-PACE and for ``aceal-lmp``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.geometry import complete_cell
from ase.io.lammpsdata import write_lammps_data
from pydantic import model_validator

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.plausible import HOTTEST, LONGEST_STEP
from aiida_aceal.common.settings import Settings, setting

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

_THERMO = f"step time temp pe ke etotal press vol pxx pyy pzz pxy pxz pyz {MAX_GAMMA_COLUMN}"


class MDSettings(Settings):
    """Settings of one MD run with extrapolation grades."""

    heading = "One MD run"

    steps: int = setting(help="Number of MD steps, a multiple of gamma_interval.", ge=1)
    ensemble: Literal["nvt", "npt", "nve"] = setting("nvt", "Ensemble.")
    temperature_K: float = setting(300.0, "Temperature at the start.", unit="K", gt=0, le=HOTTEST)
    temperature_end_K: float | None = setting(
        None, "Temperature at the end (linear ramp); null: constant.", unit="K", gt=0, le=HOTTEST
    )
    pressure_bar: float = setting(0.0, "Pressure at the start (npt).", unit="bar")
    pressure_end_bar: float | None = setting(None, "Pressure at the end (linear ramp); null: constant.", unit="bar")
    timestep_ps: float = setting(0.001, "MD time step; usual: 0.0005 to 0.005.", unit="ps", gt=0, le=LONGEST_STEP)
    thermostat: Literal["nose-hoover", "langevin"] = setting(
        "nose-hoover", "nose-hoover (fix nvt, fix npt) or langevin (with nvt)."
    )
    thermostat_damping_ps: float | None = setting(
        None, "Damping time of the temperature; null: 100 time steps.", unit="ps", gt=0
    )
    barostat: Literal["iso", "aniso", "tri"] = setting(
        "iso", "Degrees of freedom of the cell in npt: iso, aniso (lengths), tri (lengths and angles)."
    )
    barostat_damping_ps: float | None = setting(
        None, "Damping time of the pressure; null: 1000 time steps.", unit="ps", gt=0
    )
    velocities: Literal["create", "keep"] = setting(
        "create", "create: drawn at temperature_K from the seed; keep: those of the structure."
    )
    seed: int = setting(1, "Seed of velocities and of the Langevin thermostat.", ge=1, le=MAX_SEED)
    gamma_interval: int = setting(
        10, "Number of steps between evaluations of gamma, at which frames are judged and the halt is checked.", ge=1
    )
    gamma_lo: float = setting(2.0, "Frames whose largest gamma is at least this are dumped.", gt=0)
    gamma_hi: float = setting(10.0, "The run ends when the largest gamma exceeds this.", gt=0)
    thermo_interval: int | None = setting(
        None, "Steps between lines of the log, a multiple of gamma_interval; null: gamma_interval.", ge=1
    )
    skin: float = setting(1.0, "Extra distance of the neighbour list.", unit="A", gt=0)
    max_wall_seconds: int | None = setting(None, "End the run in good order after this time.", unit="s", ge=1)

    @model_validator(mode="after")
    def _together(self) -> MDSettings:
        if self.gamma_lo >= self.gamma_hi:
            raise ValueError(f"gamma_lo ({self.gamma_lo:g}) must be below gamma_hi ({self.gamma_hi:g})")
        for name in ("steps", "thermo_interval"):
            value = getattr(self, name)
            if value is not None and value % self.gamma_interval:
                # LAMMPS prints the largest gamma with each line of the log, also with the last one
                raise ValueError(f"{name} ({value}) must be a multiple of gamma_interval ({self.gamma_interval})")
        if self.thermostat == "langevin" and self.ensemble != "nvt":
            raise ValueError(f"thermostat langevin requires ensemble nvt, not {self.ensemble}; use nose-hoover")
        return self


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
            f"{atoms.get_chemical_formula()} is periodic in a direction without a cell vector: set cell or pbc"
        )
    cell = complete_cell(atoms.cell.array)
    scaled = atoms.positions @ np.linalg.inv(cell)
    for axis in np.flatnonzero(absent):
        low, high = scaled[:, axis].min() - margin, scaled[:, axis].max() + margin
        atoms.positions -= low * cell[axis]
        cell[axis] *= high - low
    atoms.set_cell(cell)
