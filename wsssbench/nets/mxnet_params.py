"""MXNet's NDArray list files (`mx.nd.save`, suffix .params), read without MXNet; dense arrays only.

Layout, little-endian (apache/mxnet, src/ndarray/ndarray.cc and dmlc's serializer): uint64 0x112, uint64 0,
uint64 count and the arrays, uint64 count and the names (uint64 length and bytes each). An array begins with

- 0xF993fac9 (version 2) or 0xF993faca (3): int32 storage type, uint32 ndim, int64 sides;
- 0xF993fac8 (version 1): uint32 ndim, int64 sides;
- anything else: that number is ndim, and the sides are uint32 (the oldest form);

then follow the device (int32 type, int32 index), an int32 type flag and the values.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from wsssbench.errors import BadData

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE = 0
DEVICES = (1, 2, 3, 5)  # cpu, gpu, cpu_pinned, cpu_shared
DTYPES = dict(enumerate(map(np.dtype, ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8"))))  # by the type flag
MOST_DIMENSIONS = 32
MOST_ELEMENTS = 2**60  # strides of an empty array count its other sides and must fit 64 bits
HINT = "fetch the file again and compare its checksum; only mx.nd.save's dense arrays are read"


def read_mxnet_params(path: Path) -> dict[str, Tensor]:
    """Tensors by name as in the file, "arg:" and "aux:" included.

    Raises BadData with the byte and the entry where the file is damaged, cut off or not of this format.
    """
    with path.open("rb") as stream:
        reader = _Reader(path, stream)
        for what, wanted in (("the file's mark", LIST_MAGIC), ("the reserved word", 0)):
            found = reader.number("<Q", what)
            if found != wanted:
                raise reader.bad(f"{what} is {found}, not {wanted}")
        count = reader.number("<Q", "the number of arrays")
        arrays = []
        for index in range(count):  # no list is made from `count`: a false one runs into the file's end
            arrays.append(_array(reader, f"array {index + 1} of {count}"))
        names = _names(reader, count)
        if reader.left:
            raise reader.bad(f"{reader.left} bytes follow the last name")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """The bytes of a file, in order; every error says where."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream = path, stream
        self.left = os.fstat(stream.fileno()).st_size
        self.begin = 0  # of what was read last: the place that an error names

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes; raises BadData where the file holds fewer."""
        self.begin = self.stream.tell()
        data = self.stream.read(count) if count <= self.left else b""
        if len(data) < count:
            raise self.bad(f"the file ends within {what}: {count} bytes are needed, {self.left} are left")
        self.left -= count
        return data

    def numbers(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form), what))

    def number(self, form: str, what: str) -> int:
        return self.numbers(form, what)[0]

    def bad(self, what: str) -> BadData:
        return BadData(
            f"this MXNet file is damaged: {what}", where=f"{self.path}, byte {self.begin}", hint=HINT
        )


def _array(reader: _Reader, what: str) -> Tensor:
    shape = _shape(reader, what)
    device, _ = reader.numbers("<ii", f"the device of {what}")
    if device not in DEVICES:
        raise reader.bad(f"{what} lies on a device of the unknown type {device}")
    flag = reader.number("<i", f"the type of {what}")
    if flag not in DTYPES:
        raise reader.bad(f"{what} has the unknown type flag {flag}")
    if min(shape, default=0) < 0 or math.prod(max(side, 1) for side in shape) > MOST_ELEMENTS:
        raise reader.bad(f"{what} has the impossible shape {shape}")
    data = reader.take(math.prod(shape) * DTYPES[flag].itemsize, f"the values of {what}")
    return torch.from_numpy(np.frombuffer(bytearray(data), DTYPES[flag]).reshape(shape))


def _shape(reader: _Reader, what: str) -> tuple[int, ...]:
    magic = reader.number("<I", f"the mark of {what}")
    if magic in (V2, V3):
        storage = reader.number("<i", f"the storage type of {what}")
        if storage != DENSE:
            raise reader.bad(f"{what} has storage type {storage}; only dense arrays (0) are read")
    ndim = reader.number("<i", f"the dimensions of {what}") if magic in (V1, V2, V3) else magic
    if not 0 <= ndim <= MOST_DIMENSIONS:
        raise reader.bad(f"{what} has {ndim} dimensions")
    if ndim == 0 and magic != V3:  # version 3 alone has scalars; elsewhere this is "no array"
        raise reader.bad(f"{what} holds no array")
    form = "q" if magic in (V1, V2, V3) else "I"
    return reader.numbers(f"<{ndim}{form}", f"the shape of {what}")


def _names(reader: _Reader, arrays: int) -> list[str]:
    count = reader.number("<Q", "the number of names")
    if count != arrays:
        raise reader.bad(f"{arrays} arrays have {count} names")
    names: dict[str, None] = {}
    for index in range(count):
        what = f"name {index + 1} of {count}"
        data = reader.take(reader.number("<Q", what), what)
        try:
            name = data.decode()
        except UnicodeDecodeError as error:
            raise reader.bad(f"{what} is not a text") from error
        if name in names:
            raise reader.bad(f"two arrays have the name {name!r}")
        names[name] = None
    return list(names)
