"""What `fix external` calls on every step: LAMMPS' atoms and neighbours to the engine, its results back."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aiida_aceal.common.errors import AceError

from .library import STYLE_ATOM, TYPE_VECTOR

if TYPE_CHECKING:
    from aiida_aceal.ace import AceModel

#: IDs of the fix and compute made by aceal-lmp
FIX_EXTERNAL = "aceal_pace"
GAMMA = "aceal_gamma"
_ERROR_ALL = 2


@dataclass
class GammaFix:
    """One ``fix ID all pair N pace/extrapolation gamma FLAG`` of the script."""

    identifier: str
    interval: int
    trigger: bool

    def due(self, step: int) -> bool:
        """ML-PACE evaluates gamma on the steps that are multiples of N, whatever step a run begins with."""
        return step % self.interval == 0


def fatal(library, message: str) -> None:
    """Print an error like LAMMPS (screen and log) and end the process; exceptions cannot pass through LAMMPS."""
    print(f"ERROR: {message}", file=sys.stderr, flush=True)
    library.flush_buffers()
    library.error(_ERROR_ALL, message)  # writes to the log, then exits with status 1
    os._exit(1)


class PaceCallback:
    """The engine behind `fix external`.

    Parameters
    ----------
    library
        ``lammps.lammps`` object.
    model
        Evaluator, with its active set if gamma is wanted.
    species
        Element index of the potential for each LAMMPS type, in the order of types.
    shift
        Energy of a free atom by element index that the potential file itself adds (E0 of ``.yace``), eV.
    """

    def __init__(self, library, model: AceModel, species: list[int], shift: np.ndarray) -> None:
        from . import neighbours

        self._kernels = neighbours
        self.library = library
        self.model = model
        self.shift = shift
        self.gamma_fixes: dict[str, GammaFix] = {}
        self._species_of_type = np.array([-1, *species], dtype=np.int32)
        self._function = ctypes.cast(library.lib.lammps_neighlist_element_neighbors, ctypes.c_void_p).value
        self._handle = ctypes.cast(library.lmp, ctypes.c_void_p).value
        self._words = np.zeros(3, dtype=np.int64)
        self._neighbors = np.empty(0, dtype=np.int32)
        self._owner = np.zeros(0, dtype=np.int32)
        self._tag_type = ctypes.c_int32 if library.extract_setting("tagint") == 4 else ctypes.c_int64
        pointers = ctypes.POINTER(ctypes.POINTER(ctypes.c_double))
        name = FIX_EXTERNAL.encode()
        energies = library.lib.lammps_fix_external_set_energy_peratom
        virials = library.lib.lammps_fix_external_set_virial_peratom
        virials.argtypes = [ctypes.c_void_p, ctypes.c_char_p, pointers]
        self._set_energies: Callable = lambda a: energies(
            library.lmp, name, a.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        )
        self._set_virials: Callable = lambda rows: virials(library.lmp, name, rows.ctypes.data_as(pointers))

    def __call__(self, _caller, step: int, n_local: int, _tags, _x, forces: np.ndarray) -> None:
        try:
            self._evaluate(step, n_local, forces)
        except AceError as error:
            fatal(self.library, f"{error} (step {step})")
        except BaseException as error:
            fatal(self.library, f"ACE evaluator failed on step {step}: {type(error).__name__}: {error}")

    def _evaluate(self, step: int, n_local: int, forces: np.ndarray) -> None:
        if n_local == 0:
            return
        library = self.library
        n_all = n_local + library.extract_setting("nghost")
        positions = self._array("x", (n_all, 3), ctypes.c_double, 2)
        tags = self._array("id", (n_all,), self._tag_type, 1)
        species = np.empty(n_all, dtype=np.int32)
        self._kernels.map_types(self._array("type", (n_all,), ctypes.c_int32, 1), self._species_of_type, species)
        first, neighbors = self._neighbor_list(n_local)

        due = [fix for fix in self.gamma_fixes.values() if fix.due(step)]
        want_gamma = any(fix.trigger for fix in due)
        result = self.model.compute(species, positions, first, neighbors, n_local, want_gamma=want_gamma)
        energies = result.energies
        if self.shift.any():
            energies = energies + self.shift[species[:n_local]]
        energy = energies.sum()
        self._return_forces(result.forces, tags, n_local, forces)
        if not (np.isfinite(energy) and np.isfinite(forces.sum())):
            self._report_nan(step, energies, forces, positions, tags, first, neighbors)

        library.fix_external_set_energy_global(FIX_EXTERNAL, float(energy))
        virial = -result.virial  # LAMMPS' virial is sum r f = -dE/dstrain
        library.fix_external_set_virial_global(FIX_EXTERNAL, virial.sum(0).tolist())
        self._set_energies(energies)
        rows = virial.ctypes.data + np.arange(n_local, dtype=np.uintp) * np.uintp(virial.strides[0])
        self._set_virials(rows)
        if due:
            self._publish(result.gamma if want_gamma else np.zeros(n_local), due, n_local)

    def _array(self, name: str, shape: tuple[int, ...], kind, pointers: int) -> np.ndarray:
        """View of a per-atom array of LAMMPS, ghosts included."""
        address = self.library.lib.lammps_extract_atom
        address.restype = ctypes.c_void_p
        value = address(self.library.lmp, name.encode())
        if not value:
            raise AceError(f"atoms have no '{name}': aceal-lmp needs atom IDs (remove 'atom_modify id no')")
        if pointers == 2:
            value = ctypes.cast(value, ctypes.POINTER(ctypes.c_void_p))[0]
        return np.ctypeslib.as_array(ctypes.cast(value, ctypes.POINTER(kind)), shape)

    def _neighbor_list(self, n_local: int) -> tuple[np.ndarray, np.ndarray]:
        index = self.library.find_pair_neighlist("zero")
        listed = self.library.get_neighlist_size(index) if index >= 0 else -1
        if listed < 0:
            raise AceError("no neighbor list of the pair style: use an ordinary 'run' or 'minimize'")
        first = np.empty(n_local + 1, dtype=np.int64)
        at = (self._function, self._handle, index, listed)
        total = self._kernels.count_neighbors(*at, first, self._words)
        if len(self._neighbors) < total:
            self._neighbors = np.empty(int(1.2 * total) + 16, dtype=np.int32)
        self._kernels.copy_neighbors(*at, first, self._neighbors, self._words)
        return first, self._neighbors

    def _return_forces(self, computed: np.ndarray, tags: np.ndarray, n_local: int, forces: np.ndarray) -> None:
        largest = int(tags.max())
        if len(self._owner) <= largest:
            self._owner = np.zeros(largest + 1, dtype=np.int32)
        lonely = self._kernels.fold_forces(computed, tags, self._owner, n_local, forces)
        if lonely:
            raise AceError(f"ghost of atom {lonely} has no owner: use one MPI rank and unique atom IDs")

    def _publish(self, gamma: np.ndarray, due: list[GammaFix], n_local: int) -> None:
        """Gamma into the fixes of the script and, the same numbers, where these fixes read them at the end of step."""
        self.library.numpy.extract_atom(f"d_{GAMMA}", nelem=n_local)[:n_local] = gamma
        for fix in due:
            vector = self.library.extract_fix(fix.identifier, STYLE_ATOM, TYPE_VECTOR)
            np.ctypeslib.as_array(vector, (n_local,))[:] = gamma

    def _report_nan(self, step, energies, forces, positions, tags, first, neighbors) -> None:
        n_local = len(energies)
        bad = np.flatnonzero(~(np.isfinite(energies) & np.isfinite(forces).all(1)))
        if len(bad) == 0:
            raise AceError("Non-numeric energy - simulation unstable: the sum of atomic energies overflows")
        atom = int(bad[0])
        near = neighbors[first[atom] : first[atom + 1]]
        where = "it has no neighbors"
        if not np.isfinite(positions[:n_local]).all():
            where = "atom coordinates are not finite"
        elif len(near):
            distances = np.linalg.norm(positions[near] - positions[atom], axis=1)
            k = int(distances.argmin())
            where = f"its nearest neighbor, atom {tags[near[k]]}, is at {distances[k]:.4g} Angstrom"
        raise AceError(f"Non-numeric forces - simulation unstable: {len(bad)} atoms, first atom {tags[atom]}; {where}")
