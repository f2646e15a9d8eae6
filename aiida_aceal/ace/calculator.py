"""ASE calculator of an ACE potential."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from .model import AceModel, Grader
from .potential import AcePotential


class AceCalculator(Calculator):
    """Energy, atomic energies, forces, stress and, with an active set, the extrapolation grade of each atom.

    Parameters
    ----------
    potential
        `AceModel`, `AcePotential` or the path of a potential file.
    active_set
        Object with ``kind`` and ``grade`` (for example `aiida_aceal.uncertainty.ActiveSet`); then ``results`` has
        ``gamma`` [n], ``gamma_max`` and, if the set knows it, ``emptiness`` [n].
    reference_energies
        Add the reference energies of the potential, so that energies compare with those of the labels.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (ASE's form)

    def __init__(
        self,
        potential: AceModel | AcePotential | str | Path,
        active_set: Grader | None = None,
        threads: int | None = None,
        reference_energies: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.model = potential if isinstance(potential, AceModel) else AceModel(potential, threads=threads)
        if active_set is not None:
            self.model.active_set = active_set
        self.offsets = dict(self.model.potential.reference_energies) if reference_energies else {}

    def calculate(
        self, atoms: Atoms | None = None, properties: list[str] | None = None, system_changes: list[str] = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        want_gamma = self.model.active_set is not None
        result = self.model.evaluate(self.atoms, gamma=want_gamma)
        offsets = np.array([self.offsets.get(s, 0.0) for s in self.atoms.get_chemical_symbols()])
        energies = result.energies + offsets
        self.results = {
            "energy": float(energies.sum()),
            "free_energy": float(energies.sum()),
            "energies": energies,
            "forces": result.forces,
        }
        if self.atoms.cell.rank == 3:
            self.results["stress"] = result.stress
        if want_gamma:
            self.results["gamma"] = result.gamma
            self.results["gamma_max"] = float(result.gamma.max())
            if result.emptiness is not None:
                self.results["emptiness"] = result.emptiness
