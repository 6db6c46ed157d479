"""What numpy's pickles say, as inert stand-ins that become arrays only after every check.

numpy's own classes would be unsafe even alone: a forged dtype state makes numpy read bytes as pointers. So an
array is made here, of plain numbers or text, from bytes whose count has been compared with its shape.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.safe_pickle import Names, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN_DTYPE = re.compile(r"[<>|=](b1|[iu][1248]|f[248]|U\d{1,3})")
CORES = ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
MOST_DIMENSIONS = 32
MOST_SIDE = 2**48


def raw_bytes(data: Any) -> bytes | bytearray | memoryview:
    """`data`, which pickles before protocol 3 have as latin-1 text; ValueError where it is something else."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, (bytes, bytearray, memoryview)):
        raise ValueError(f"values as a {type(data).__name__}, not as bytes")
    return raw


def plain_values(dtype: str, data: Any) -> NDArray[Any]:
    """`data` as a flat array of the type "<f4" or alike; ValueError where that is not a plain type."""
    if not PLAIN_DTYPE.fullmatch(dtype):
        raise ValueError(f"values of type {dtype[1:21]}")
    if dtype.endswith("b1"):  # a byte other than 0 and 1 must not become a bool as it is
        return np.frombuffer(raw_bytes(data), np.uint8).astype(bool)
    return np.frombuffer(raw_bytes(data), np.dtype(dtype))


def checked_shape(shape: Any) -> tuple[int, ...]:
    """`shape` as a tuple; ValueError where no array can have it."""
    if not isinstance(shape, (tuple, list)) or len(shape) > MOST_DIMENSIONS:
        raise ValueError("a shape that is none")
    if not all(type(side) is int and 0 <= side < MOST_SIDE for side in shape):
        raise ValueError("an impossible shape")
    return tuple(shape)


def shaped(flat: NDArray[Any], shape: Any, fortran: Any) -> NDArray[Any]:
    """`flat` in its shape; ValueError unless it has exactly as many values."""
    sides = checked_shape(shape)
    if math.prod(sides) != flat.size:
        raise ValueError(f"{flat.size} values for the shape {sides}")
    return flat.reshape(sides, order="F" if fortran else "C")


def _values(dtype: Any, data: Any) -> NDArray[Any]:
    """`data` as a flat array of a stored type, of which only code and byte order are looked at."""
    if not isinstance(dtype, Stored) or dtype.make is not _dtype:
        raise ValueError(f"values of type {type(dtype).__name__}")
    return plain_values(dtype.value(), data)


def _dtype(state: Any, code: Any, *_: Any) -> str:
    """ "<f4" of the arguments (code, ...) and the state (version, byte order, ...) of numpy.dtype."""
    order = "=" if state is None else state[1]
    if not isinstance(order, str) or not isinstance(code, str):
        raise ValueError("values of type unknown")
    return order + code


def _array(state: Any, *_: Any) -> NDArray[Any]:
    """The array of plain values; ValueError for objects, records and whatever does not add up."""
    _, shape, dtype, fortran, data = state
    return shaped(_values(dtype, data), shape, fortran)


def _buffer(_: Any, data: Any, dtype: Any, shape: Any, order: Any, *_more: Any) -> NDArray[Any]:
    """The same as pickle protocol 5 has it."""
    return shaped(_values(dtype, data), shape, order == "F")


def _scalar(_: Any, dtype: Any, data: Any) -> Any:
    """The number or text as Python has it."""
    [value] = _values(dtype, data).tolist()
    return value


def only_object(stored: Any) -> Any:
    """The one object in a stored array of objects without axes; ValueError for anything else."""
    if not isinstance(stored, Stored) or stored.make is not _array:
        raise ValueError(f"a {type(stored).__name__} in the place of an array")
    state = stored.state if isinstance(stored.state, tuple) else ()
    if len(state) != 5 or state[1] != () or not isinstance(state[4], list) or len(state[4]) != 1:
        raise ValueError("an array of objects, not one dict")
    return state[4][0]


def _latin1_text(text: Any, encoding: Any) -> str:
    """What protocol 2 calls for bytes: left as text, since a pickle can ask for the same ever again."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("text in a code other than latin1")
    return text


NUMPY_NAMES: Names = {
    ("_codecs", "encode"): _latin1_text,
    ("__builtin__", "bytes"): lambda: b"",  # an argument would be a count, and a bomb
    ("builtins", "bytes"): lambda: b"",
    ("collections", "OrderedDict"): dict,  # its entries follow
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): partial(Stored, _dtype),
    **{(f"{core}.multiarray", "_reconstruct"): partial(Stored, _array) for core in CORES},
    **{(f"{core}.multiarray", "scalar"): partial(Stored, _scalar) for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): partial(Stored, _buffer) for core in CORES},
}
