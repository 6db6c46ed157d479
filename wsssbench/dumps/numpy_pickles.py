"""What numpy's pickles and .npy headers say, as inert stand-ins that become arrays only after every check.

numpy's own classes would be unsafe even alone: a forged dtype state makes numpy read bytes as pointers. So an
array is made here, of plain numbers or text, from bytes whose count has been compared with its shape.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.safe_pickle import Name, Names, Stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|U\d{1,3}")
DESCRIPTION = re.compile(r"([<>|=]?)([a-zA-Z]\d{0,3})")
CORES = ("numpy.core", "numpy._core")  # numpy 1 and numpy 2
MOST_DIMENSIONS = 32
MOST_ELEMENTS = 2**48  # an empty array's other sides count too
MOST_HEADER_BYTES = 10_000  # numpy's own limit
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}  # of the header's length, by the version of the format


def plain_values(code: str, order: str, data: bytes | bytearray) -> NDArray[Any]:
    """`data` as a flat array of dtype `code` ("f4", "U11"); ValueError where that is no plain type."""
    if not PLAIN_DTYPE.fullmatch(code):
        raise ValueError(f"values of type {code[:20]}")
    if order not in ("<", ">", "=", "|"):
        raise ValueError(f"byte order {order!r:.20}")
    if code == "b1":  # a byte other than 0 and 1 must not become a bool as it is
        return np.frombuffer(data, np.uint8).astype(bool)
    return np.frombuffer(data, np.dtype(order + code))


def checked_shape(shape: Any) -> tuple[int, ...]:
    """`shape` as a tuple; ValueError where no array can have it."""
    if not isinstance(shape, (tuple, list)) or len(shape) > MOST_DIMENSIONS:
        raise ValueError("a shape that is none")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError("a shape that is not of whole numbers")
    if math.prod(max(side, 1) for side in shape) > MOST_ELEMENTS:
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
        self.code = code if isinstance(code, str) else type(code).__name__

    def values(self, data: Any) -> NDArray[Any]:
        """`data`, bytes or the latin-1 text of Python 2, as a flat array of this type."""
        known = isinstance(self.state, tuple) and len(self.state) > 1
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, (bytes, bytearray)):
            raise ValueError(f"values of type {self.code[:20]}, not as bytes")
        return plain_values(self.code, self.state[1] if known else "=", raw)


class StoredArray(Stored):
    """Stands for numpy.ndarray; state (version, shape, dtype, is_fortran, bytes or list)."""

    def __init__(self, *_: Any) -> None: ...

    def array(self) -> NDArray[Any]:
        """The array of plain values; ValueError for objects, records and whatever does not add up."""
        shape, dtype, fortran, data = self._parts()
        return shaped(_dtype(dtype).values(data), shape, fortran)

    def item(self) -> Any:
        """The one object in an array of objects without axes."""
        shape, _, _, items = self._parts()
        if shape != () or not isinstance(items, list) or len(items) != 1:
            raise ValueError("more than one object")
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


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
    """What protocol 2 calls for bytes: the text's latin-1 code."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("text in a code other than latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """What protocol 2 calls for empty bytes; an argument would be a count, and a bomb."""
    return b""


def _empty_dict() -> dict[Any, Any]:
    """An OrderedDict, whose entries follow."""
    return {}


PLAIN_NAMES: Names = {
    ("_codecs", "encode"): Name(_latin1_bytes, copies=True),
    ("__builtin__", "bytes"): Name(_no_bytes),
    ("builtins", "bytes"): Name(_no_bytes),
    ("collections", "OrderedDict"): Name(_empty_dict),
}
NUMPY_NAMES: Names = {
    **PLAIN_NAMES,
    ("numpy", "ndarray"): Name(),
    ("numpy", "dtype"): Name(StoredDtype),
    **{(f"{core}.multiarray", "_reconstruct"): Name(StoredArray) for core in CORES},
    **{(f"{core}.multiarray", "scalar"): Name(StoredScalar) for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): Name(StoredBuffer) for core in CORES},
}


@dataclass(frozen=True)
class NpyHeader:
    """What an .npy file says of its array: shape, code ("f4", "O"), byte order, column order."""

    shape: tuple[int, ...]
    code: str
    order: str
    fortran: bool


def read_npy_header(stream: IO[bytes]) -> NpyHeader:
    """The header of an .npy file, versions 1 to 3; the stream then stands at the values.

    ValueError where it is damaged or describes records.
    """
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in LENGTH_BYTES:
        raise ValueError("no .npy header")
    size = LENGTH_BYTES[magic[6]]
    length = int.from_bytes(stream.read(size), "little")
    text = stream.read(min(length, MOST_HEADER_BYTES))
    if len(text) != length:
        raise ValueError("an .npy header that is cut off or too long")
    return _npy_header(re.sub(r"(\d)L", r"\1", text.decode("utf-8" if magic[6] == 3 else "latin1")))


def _npy_header(text: str) -> NpyHeader:
    try:
        found = ast.literal_eval(text.strip())
        description, fortran, shape = (found[key] for key in ("descr", "fortran_order", "shape"))
        match = DESCRIPTION.fullmatch(description)
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise ValueError("an .npy header that is damaged, or of records") from error
    if match is None or type(fortran) is not bool:
        raise ValueError("an .npy header of an unknown type")
    return NpyHeader(checked_shape(shape), match[2], match[1] or "=", fortran)
