"""Eight float32 numbers that compiled code keeps in one vector register.

The compiler does not reliably turn eight scalar sums into vector instructions, so the loops of `kernels` and
`mean_field_kernels` say it: they load, multiply-add and store `Lanes`. Only these few operations on 2-D
float32 arrays live here; each is an expression of the compiler's own vector type, for whatever processor it
compiles for. `row` and `c` count from 0 and are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 8  # lanes; rows of channels are padded to a multiple of it
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
# Multiplication and addition may become one instruction; nothing may change the order of sums.
CONTRACT = ("contract",)
LOG2_E, LN2_HIGH, LN2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
EXP_SERIES = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)


def operation(make: Callable[..., Any]) -> Callable[..., Any]:
    """numba's intrinsic: a call becomes the instructions that `make` returns code for."""
    return cast("Callable[..., Any]", intrinsic(make))


class Lanes(types.Type):
    """numba's type of such a vector."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


LANES = Lanes()


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


def _place(context: Any, builder: Any, kinds: Any, place: Any, below: int = 0) -> Any:
    """The address of array[row + below, c], as that of a vector; `place` is (array, row, c)."""
    rows = context.make_array(kinds[0])(context, builder, place[0])
    row, c = (
        context.cast(builder, x, kind, types.int64) for x, kind in zip(place[1:], kinds[1:], strict=True)
    )
    width = cgutils.unpack_tuple(builder, rows.shape, 2)[1]  # type: ignore[no-untyped-call]
    at = builder.add(builder.mul(builder.add(row, row.type(below)), width), c)
    return builder.bitcast(builder.gep(rows.data, [at]), VECTOR.as_pointer())


def _all(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [float(np.float32(value))] * WIDTH)


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    order = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), lanes)
    return builder.shuffle_vector(a, b, order)


@operation
def zeros(typing: Any) -> Any:
    """Eight zeros."""
    return LANES(), lambda context, builder, signature, args: _all(0.0)


@operation
def load(typing: Any, array: Any, row: Any, c: Any) -> Any:
    """array[row, c : c + 8]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, signature.args, args), align=4)

    return LANES(array, row, c), code


@operation
def store(typing: Any, lanes: Any, array: Any, row: Any, c: Any) -> Any:
    """array[row, c : c + 8] = lanes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[0], _place(context, builder, signature.args[1:], args[1:]), align=4)
        return context.get_dummy_value()

    return types.none(lanes, array, row, c), code


@operation
def madd(typing: Any, total: Any, factor: Any, lanes: Any) -> Any:
    """total + factor * lanes, `factor` one float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        none = ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(none, args[1], ir.Constant(ir.IntType(32), 0))
        factors = _shuffle(builder, first, none, [0] * WIDTH)
        return builder.fadd(args[0], builder.fmul(factors, args[2], flags=CONTRACT), flags=CONTRACT)

    return LANES(total, types.float32, lanes), code


@operation
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of a and b, lane by lane."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return LANES(a, b), code


@operation
def quotient(typing: Any, a: Any, b: Any) -> Any:
    """a / b, lane by lane."""
    return LANES(a, b), lambda context, builder, signature, args: builder.fdiv(*args)


@operation
def exp(typing: Any, x: Any) -> Any:
    """e^x for x <= 0, lane by lane: 2^n times Cephes' polynomial for the rest, to 1e-7."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def madd(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=CONTRACT), c, flags=CONTRACT)

        x = builder.select(builder.fcmp_ordered(">", args[0], _all(-87.0)), args[0], _all(-87.0))
        integers = ir.VectorType(ir.IntType(32), WIDTH)
        nearest = builder.fptosi(madd(x, _all(LOG2_E), _all(-0.5)), integers)  # cuts off, and x <= 0
        whole = builder.sitofp(nearest, VECTOR)
        rest = madd(whole, _all(-LN2_LOW), madd(whole, _all(-LN2_HIGH), x))
        series = _all(EXP_SERIES[0])
        for factor in EXP_SERIES[1:]:
            series = madd(series, rest, _all(factor))
        series = builder.fadd(madd(builder.fmul(series, rest), rest, rest), _all(1.0))
        biased = builder.add(nearest, ir.Constant(integers, [127] * WIDTH))
        power = builder.shl(biased, ir.Constant(integers, [23] * WIDTH))
        return builder.fmul(series, builder.bitcast(power, VECTOR))

    return LANES(x), code


@operation
def transpose(typing: Any, source: Any, row: Any, c: Any, target: Any, to_row: Any, to_c: Any) -> Any:
    """target[to_row + i, to_c + j] = source[row + j, c + i] for all i, j < 8."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        lanes = [
            builder.load(_place(context, builder, kinds[:3], args[:3], i), align=4) for i in range(WIDTH)
        ]
        for step in (1, 2, 4):  # swap the off-diagonal blocks of every square of 2 * step
            low = [k + WIDTH - step if k & step else k for k in range(WIDTH)]
            high = [k + WIDTH if k & step else k + step for k in range(WIDTH)]
            for i in (i for i in range(WIDTH) if not i & step):
                a, b = lanes[i], lanes[i + step]
                lanes[i], lanes[i + step] = _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)
        for i, vector in enumerate(lanes):
            builder.store(vector, _place(context, builder, kinds[3:], args[3:], i), align=4)
        return context.get_dummy_value()

    return types.none(source, row, c, target, to_row, to_c), code
