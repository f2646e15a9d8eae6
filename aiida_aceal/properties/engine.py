"""What computes: labels of structures, and relaxations with ASE's optimisers.

Units: eV, eV/Angstrom, eV/Angstrom^3 (Voigt xx, yy, zz, yz, xz, xy, positive under tension).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from aiida_aceal.common.errors import AceError

from .settings import RelaxationSettings


class Engine:
    """An ASE calculator that labels and relaxes.

    :param make: returns a new calculator; each structure gets its own unless ``shared``
    :param shared: one calculator for all, where no result can depend on an earlier one (an ACE, say)
    :param name: for messages and reports
    """

    def __init__(self, make: Callable[[], Any], name: str = "engine", shared: bool = False) -> None:
        self.name = name
        self._make, self._one = make, make() if shared else None

    def calculator(self) -> Any:
        """A calculator to work with."""
        return self._make() if self._one is None else self._one

    def label(self, frames: Iterable[Atoms]) -> list[Atoms]:
        """Copies with energy, forces, stress (periodic ones, where the calculator knows it) and ``info["gamma_max"]``.

        Frames that stand for a failure (``info["error"]``) and trajectories (``info["own"]``) stay as they are.

        :raises AceError: the calculator fails, or gives what is not finite; the message names the structure
        """
        return [f if {"error", "own"} & set(f.info) else self._labelled(f) for f in frames]

    def _labelled(self, atoms: Atoms) -> Atoms:
        from aiida_aceal.labels.calculators import compute_labels

        work, calculator = atoms.copy(), self.calculator()
        work.set_constraint()
        try:
            results = compute_labels(work, calculator)
        except Exception as error:  # whatever a calculator of others raises
            words = str(error) if isinstance(error, AceError) else f"{type(error).__name__}: {error}"
            raise AceError(f"{self.name}, structure {atoms.info.get('case', '')}: {words}") from error
        if "gamma_max" in calculator.results:
            work.info["gamma_max"] = float(calculator.results["gamma_max"])
        work.calc = SinglePointCalculator(work, **results)
        return work


class Relaxer:
    """Relaxations with an engine.

    :raises AceError: (all methods) no convergence, or the calculator fails; the message says what was relaxed
    """

    def __init__(self, engine: Engine, settings: RelaxationSettings | None = None) -> None:
        self.engine, self.settings = engine, settings or RelaxationSettings()

    def crystal(self, atoms: Atoms, what: str = "", constant_volume: bool = False) -> Atoms:
        """Cell and positions of a crystal; its space group stays as it is."""
        from ase.constraints import FixSymmetry
        from ase.filters import FrechetCellFilter

        work = atoms.copy()
        work.set_constraint(FixSymmetry(work, symprec=1e-3, verbose=False))
        # with a constraint, ASE's filter asks for positions and cell that follow it
        return self._run(work, FrechetCellFilter(work, constant_volume=constant_volume), self.settings.fmax, what)

    def positions(self, atoms: Atoms, what: str = "", fmax: float | None = None, constraint: Any = None) -> Atoms:
        """Positions in a fixed cell.

        :param fmax: eV/Angstrom; default that of the settings
        """
        work = atoms.copy()
        work.set_constraint(constraint)
        return self._run(work, work, self.settings.fmax if fmax is None else fmax, what)

    def _run(self, work: Atoms, target: Any, fmax: float, what: str) -> Atoms:
        from ase.optimize import LBFGS

        work.calc = self.engine.calculator()
        place = f"relaxation of {what or work.get_chemical_formula()} with {self.engine.name}"
        volume = work.get_volume() if work.cell.rank == 3 else 0.0
        try:
            optimiser = LBFGS(target, logfile=None)
            converged = optimiser.run(fmax=fmax, steps=self.settings.max_steps)
            forces = np.array(target.get_forces())
        except Exception as error:
            raise AceError(f"{place}: {type(error).__name__}: {error}") from error
        if not np.isfinite(work.positions).all() or not np.isfinite(forces).all():
            raise AceError(f"{place}: forces or positions are not finite")
        largest = float(np.linalg.norm(forces, axis=1).max())
        if not converged:
            raise AceError(
                f"{place} did not converge in {self.settings.max_steps} steps (largest force {largest:.2g} eV/A, "
                f"wanted {fmax:g}): raise relaxation.max_steps or relaxation.fmax, or the phase is not stable"
            )
        if volume and not 0.3 < work.get_volume() / volume < 3.0:
            ratio = work.get_volume() / volume
            raise AceError(f"{place}: the volume changed by a factor {ratio:.2g}: there is no such phase")
        relaxed = work.copy()
        relaxed.set_constraint()
        return relaxed


class Fixed(Relaxer):
    """Stands in for a relaxer and leaves all structures as they are: what depends on no engine."""

    def __init__(self) -> None:
        super().__init__(Engine(_nobody, "nobody"))

    def crystal(self, atoms: Atoms, what: str = "", constant_volume: bool = False) -> Atoms:
        """A copy."""
        return atoms.copy()

    def positions(self, atoms: Atoms, what: str = "", fmax: float | None = None, constraint: Any = None) -> Atoms:
        """A copy."""
        return atoms.copy()


def _nobody() -> Any:
    raise AceError("structures are taken as they are: nobody computes")


def energy(atoms: Atoms) -> float:
    """Stored energy, eV."""
    return float(_result(atoms, "energy"))


def forces(atoms: Atoms) -> np.ndarray:
    """Stored forces [n, 3], eV/Angstrom."""
    return np.asarray(_result(atoms, "forces"), dtype=float)


def stress(atoms: Atoms) -> np.ndarray:
    """Stored stress [6], eV/Angstrom^3."""
    return np.asarray(_result(atoms, "stress"), dtype=float)


def _result(atoms: Atoms, name: str) -> Any:
    value = (getattr(atoms.calc, "results", None) or {}).get(name)
    if value is None:
        reason = atoms.info.get("unlabelled", f"label it, with {name}")
        raise AceError(f"structure {atoms.info.get('case', '')} has no {name}: {reason}")
    return value


def gamma_max(frames: Sequence[Atoms]) -> float | None:
    """Largest grade of structures, None where none was computed."""
    found = [float(f.info["gamma_max"]) for f in frames if "gamma_max" in f.info]
    return max(found) if found else None


def largest_force(frames: Sequence[Atoms]) -> float:
    """Largest force on any atom, eV/Angstrom: zero in minima of the engine that labelled them."""
    return max(float(np.linalg.norm(forces(f), axis=1).max()) for f in frames)
