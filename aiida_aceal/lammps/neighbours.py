"""Handing LAMMPS' neighbour list to the engine: compiled loops that call LAMMPS' C library interface.

Addresses come in as integers and are not compiled in, so that numba's cache on disk serves every process.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from aiida_aceal.common.kernels import njit

#: the two highest bits but one of a neighbour index hold the kind of special bond
_NEIGHMASK = 0x1FFFFFFF


@intrinsic
def _pointer(typingctx, address):
    """Integer address to void pointer."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def _element_neighbors(typingctx, function, handle, index, element, output):
    """Call ``lammps_neighlist_element_neighbors`` at an address; ``output`` is the address of three int64."""

    def codegen(context, builder, signature, arguments):
        function, handle, index, element, output = arguments
        pointer, integer = cgutils.voidptr_t, ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, integer, integer, pointer, pointer, pointer])
        callee = builder.inttoptr(function, kind.as_pointer())
        places = [
            builder.inttoptr(builder.add(output, ir.Constant(output.type, 8 * place)), pointer) for place in range(3)
        ]
        numbers = [builder.trunc(index, integer), builder.trunc(element, integer)]
        builder.call(callee, [builder.inttoptr(handle, pointer), *numbers, *places])
        return context.get_dummy_value()

    integers = (types.int64,) * 5
    return types.void(*integers), codegen


@njit(cache=True)
def count_neighbors(function, handle, index, n_listed, first, words):
    """Fill ``first`` (int64 [n_local + 1]) with offsets; return the number of neighbours.

    Atoms that are not in LAMMPS' list get none. ``words``: int64 [3], room for what LAMMPS returns.
    """
    first[:] = 0
    output = words.ctypes.data
    for element in range(n_listed):
        words[:] = 0
        _element_neighbors(function, handle, index, element, output)
        first[words[0] + 1] = words[1]
    for atom in range(first.shape[0] - 1):
        first[atom + 1] += first[atom]
    return first[-1]


@njit(cache=True)
def copy_neighbors(function, handle, index, n_listed, first, neighbors, words):
    """Fill ``neighbors`` (int32) at the offsets ``first``."""
    output = words.ctypes.data
    for element in range(n_listed):
        words[:] = 0
        _element_neighbors(function, handle, index, element, output)
        start = first[words[0]]
        source = carray(_pointer(words[2]), (words[1],), np.int32)
        for place in range(words[1]):
            neighbors[start + place] = source[place] & _NEIGHMASK


@njit(cache=True)
def fold_forces(forces, tags, owner, n_local, out):
    """Add the forces [n_all, 3] of local atoms and of their ghosts (same tag) to ``out`` [n_local, 3].

    ``owner``: int32 work array, longer than the largest tag. Returns the tag of a ghost whose owner is not in this
    process, or 0.
    """
    for atom in range(n_local):
        owner[tags[atom]] = atom
        for axis in range(3):
            out[atom, axis] = forces[atom, axis]
    for ghost in range(n_local, forces.shape[0]):
        atom = owner[tags[ghost]]
        if atom >= n_local or tags[atom] != tags[ghost]:
            return tags[ghost]
        for axis in range(3):
            out[atom, axis] += forces[ghost, axis]
    return 0


@njit(cache=True)
def map_types(kinds, species_of_type, species):
    """Species (int32 [n_all]) of atoms from their LAMMPS types (int32, 1-based)."""
    for atom in range(species.shape[0]):
        species[atom] = species_of_type[kinds[atom]]
