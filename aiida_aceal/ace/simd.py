"""A vector of eight doubles for numba kernels.

LLVM vectorises long plain loops well, but not the short fixed ones of the product stage and the tables: there the
kernels say what they mean. The vectors become AVX-512, AVX2, NEON or SSE registers, whatever the machine has.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

WIDTH = 8


class Vector(types.Type):
    """Numba type of eight doubles in registers; lives only inside kernels."""

    def __init__(self) -> None:
        super().__init__(name="aceal.Vector8")


vector = Vector()
_IR = ir.VectorType(ir.DoubleType(), WIDTH)
_FLAGS = ("nsz", "arcp", "contract", "reassoc")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type) -> None:
        super().__init__(dmm, fe_type, _IR)


def _pointer(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), _IR.as_pointer())


@intrinsic
def vload(typingctx, array, offset):
    """Eight doubles of a C-contiguous array, from the flat index ``offset`` on."""

    def codegen(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]))
        value.align = 8
        return value

    return vector(array, types.intp), codegen


@intrinsic
def vstore(typingctx, array, offset, value):
    """Write eight doubles to a C-contiguous array, from the flat index ``offset`` on."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1])).align = 8
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(_IR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), mask)


@intrinsic
def vsplat(typingctx, scalar):
    """Eight copies of a double."""

    def codegen(context, builder, signature, args):
        return _splat(builder, args[0])

    return vector(types.float64), codegen


@intrinsic
def vadd(typingctx, a, b):
    """a + b"""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], args[1], flags=_FLAGS)

    return vector(vector, vector), codegen


@intrinsic
def vmul(typingctx, a, b):
    """a b"""

    def codegen(context, builder, signature, args):
        return builder.fmul(args[0], args[1], flags=_FLAGS)

    return vector(vector, vector), codegen


@intrinsic
def vfma(typingctx, a, b, c):
    """a b + c, fused where the machine can."""

    def codegen(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[1], flags=_FLAGS), args[2], flags=_FLAGS)

    return vector(vector, vector, vector), codegen


@intrinsic
def vsum(typingctx, a):
    """Sum of the eight doubles."""

    def codegen(context, builder, signature, args):
        value, width = args[0], WIDTH
        while width > 1:  # fold halves
            half = width // 2
            index = ir.VectorType(ir.IntType(32), half)
            low = builder.shuffle_vector(value, value, ir.Constant(index, list(range(half))))
            high = builder.shuffle_vector(value, value, ir.Constant(index, list(range(half, width))))
            value, width = builder.fadd(low, high, flags=_FLAGS), half
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float64(vector), codegen


@intrinsic
def vtranspose_store(typingctx, array, offset, stride, a, b, c, d, e, f, g, h):
    """Write the transpose of the 8 x 8 block with rows a..h: row k of the result at ``offset + k stride``."""

    def codegen(context, builder, signature, args):
        rows = list(args[3:])
        index = ir.VectorType(ir.IntType(32), WIDTH)

        def shuffle(x, y, pattern):
            return builder.shuffle_vector(x, y, ir.Constant(index, pattern))

        # three rounds of interleaving: pairs at distance 1, 2 and 4
        for step in (1, 2, 4):
            low = [k % (2 * step) < step for k in range(WIDTH)]
            first = [k if low[k] else WIDTH + k - step for k in range(WIDTH)]
            second = [k + step if low[k] else WIDTH + k for k in range(WIDTH)]
            new = list(rows)
            for k in range(WIDTH):
                if k % (2 * step) < step:
                    new[k] = shuffle(rows[k], rows[k + step], first)
                    new[k + step] = shuffle(rows[k], rows[k + step], second)
            rows = new
        for k, row in enumerate(rows):
            at = builder.add(args[1], builder.mul(args[2], ir.Constant(args[2].type, k)))
            builder.store(row, _pointer(context, builder, signature.args[0], args[0], at)).align = 8
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, *[vector] * WIDTH), codegen
