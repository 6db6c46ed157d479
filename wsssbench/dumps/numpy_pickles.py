"""What numpy's pickles say, as inert stand-ins that become arrays only after every check.

numpy's own classes would be unsafe even alone: a forged dtype state makes numpy read bytes as pointers. So an
array is made here, of plain numbers or text, from bytes whose count has been compared with its shape.
"""

from __future__ import annotations

import math
import re
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
    """`data` as a flat array of the type "<f4" or alike; ValueError where that is no plain type."""
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


class StoredDtype(Stored):
    """Stands for numpy.dtype; args (code, ...), state (version, byte order, ...)."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def values(self, data: Any) -> NDArray[Any]:
        """`data` as a flat array of this type."""
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "="
        if not isinstance(order, str) or not isinstance(self.code, str):
            raise ValueError("values of type unknown")
        return plain_values(order + self.code, data)


class StoredArray(Stored):
    """Stands for numpy.ndarray; state (version, shape, dtype, is_fortran, bytes or list)."""

    def __init__(self, *_: Any) -> None: ...

    def value(self) -> NDArray[Any]:
        """The array of plain values; ValueError for objects, records and whatever does not add up."""
        shape, dtype, fortran, data = self._parts()
        return shaped(_dtype(dtype).values(data), shape, fortran)

    def item(self) -> Any:
        """The one object in an array of objects without axes."""
        shape, _, _, items = self._parts()
        if shape != () or not isinstance(items, list) or len(items) != 1:
            raise ValueError("an array of objects, not one dict")
        return items[0]

    def _parts(self) -> tuple[Any, Any, Any, Any]:
        """Shape, dtype, column order and data."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without its state")
        return self.state[1:]


class StoredBuffer(StoredArray):
    """An array as pickle protocol 5 has it: bytes, dtype, shape, order."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> None:
        self.state = (1, shape, dtype, order == "F", data)


class StoredScalar(Stored):
    """Stands for numpy's scalar."""

    def __init__(self, dtype: Any, data: Any) -> None:
        self.dtype, self.data = dtype, data

    def value(self) -> Any:
        """The number or text as Python has it."""
        [value] = _dtype(self.dtype).values(self.data).tolist()
        return value


def _dtype(value: Any) -> StoredDtype:
    if not isinstance(value, StoredDtype):
        raise ValueError(f"values of type {type(value).__name__}")
    return value


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
    ("numpy", "dtype"): StoredDtype,
    **{(f"{core}.multiarray", "_reconstruct"): StoredArray for core in CORES},
    **{(f"{core}.multiarray", "scalar"): StoredScalar for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): StoredBuffer for core in CORES},
}
