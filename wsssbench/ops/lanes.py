"""Eight float32 numbers that compiled code keeps in one vector register.

Sums over the corners of a lattice go along rows of 8 to 48 channels, which are too short for the vectors
that the compiler makes of a plain loop: mining then takes 2.7 times as long, a CRF of 21 labels 1.5 times.
So the loops of `kernels` and `mean_field_kernels` load, multiply-add, store and transpose `Lanes`. Only these
operations on 2-D float32 arrays live here; each is an expression of the compiler's own vector type, for
whatever processor it compiles for. `row` and `c` count from 0 and are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 8  # lanes; rows of channels are padded to a multiple of it
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
# Multiplication and addition may become one instruction; nothing may change the order of sums.
CONTRACT = ("contract",)


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


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    order = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), lanes)
    return builder.shuffle_vector(a, b, order)


@operation
def zeros(typing: Any) -> Any:
    """Eight zeros."""
    return LANES(), lambda context, builder, signature, args: ir.Constant(VECTOR, [0.0] * WIDTH)


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
