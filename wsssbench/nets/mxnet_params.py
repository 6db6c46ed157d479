"""MXNet's NDArray list files (`mx.nd.save`, suffix .params), read without MXNet; dense arrays only.

Layout, little-endian (apache/mxnet, src/ndarray/ndarray.cc and dmlc's serializer): uint64 0x112, uint64 0,
uint64 count and the arrays, uint64 count and the names (uint64 length and bytes each). An array begins with

- 0xF993fac9 (version 2) or 0xF993faca (3): int32 storage type, uint32 ndim, int64 sides;
- 0xF993fac8 (version 1): uint32 ndim, int64 sides;
- anything else: that number is ndim, and the sides are uint32 (the oldest form);

then follow the device (int32 type, int32 index), an int32 type flag and the values.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from wsssbench.errors import BadData
from wsssbench.nets.tensor_bytes import MOST_DIMENSIONS, byte_count, read_tensor

LIST_MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE = 0
DEVICES = (1, 2, 3, 5)  # cpu, gpu, cpu_pinned, cpu_shared
DTYPES = dict(
    enumerate(
        (torch.float32, torch.float64, torch.float16, torch.uint8, torch.int32, torch.int8, torch.int64)
    )
)
HINT = "fetch the file again and compare its checksum; only mx.nd.save's dense arrays are read"


def read_mxnet_params(path: Path) -> dict[str, Tensor]:
    """Tensors by name as in the file, "arg:" and "aux:" included.

    Raises BadData with the byte and the entry where the file is damaged, cut off or not of this format.
    """
    with path.open("rb") as stream:
        reader = _Reader(path, stream)
        reader.expect("the file's mark", reader.unsigned64("the file's mark"), LIST_MAGIC)
        reader.expect("the reserved word", reader.unsigned64("the reserved word"), 0)
        count = reader.unsigned64("the number of arrays")
        arrays = []
        for index in range(count):  # no list is made from `count`: a false one runs into the file's end
            arrays.append(_array(reader, f"array {index + 1} of {count}"))
        names = _names(reader, count)
        if reader.left:
            raise reader.bad(f"{reader.left} bytes follow the last name")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """Numbers and tensors from a file, in order; every error says where."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path, self.stream, self.place = path, stream, 0
        self.left = os.fstat(stream.fileno()).st_size
        self.begin = 0  # of what was read last: the place that an error names

    def take(self, count: int, what: str) -> None:
        """Note that `count` bytes are read next; raises BadData where the file holds fewer."""
        self.begin = self.place
        if count > self.left:
            raise self.bad(f"the file ends within {what}: {count} bytes are needed, {self.left} are left")
        self.place, self.left = self.place + count, self.left - count

    def numbers(self, form: str, what: str) -> tuple[int, ...]:
        self.take(struct.calcsize(form), what)
        return struct.unpack(form, self.stream.read(struct.calcsize(form)))

    def unsigned64(self, what: str) -> int:
        return self.numbers("<Q", what)[0]

    def integer(self, what: str) -> int:
        return self.numbers("<i", what)[0]

    def expect(self, what: str, found: int, wanted: int) -> None:
        if found != wanted:
            raise self.bad(f"{what} is {found}, not {wanted}")

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype, what: str) -> Tensor:
        try:
            count = byte_count(shape, dtype)
        except ValueError as error:
            raise self.bad(f"{what} has {error}") from error
        self.take(count, f"the values of {what}")
        return read_tensor(self.stream, shape, dtype)

    def text(self, what: str) -> str:
        length = self.unsigned64(what)
        self.take(length, what)
        try:
            return self.stream.read(length).decode()
        except UnicodeDecodeError as error:
            raise self.bad(f"{what} is no text") from error

    def bad(self, what: str) -> BadData:
        return BadData(
            f"this MXNet file is damaged: {what}", where=f"{self.path}, byte {self.begin}", hint=HINT
        )


def _array(reader: _Reader, what: str) -> Tensor:
    shape = _shape(reader, what)
    device, _ = reader.numbers("<ii", f"the device of {what}")
    if device not in DEVICES:
        raise reader.bad(f"{what} lies on a device of the unknown type {device}")
    flag = reader.integer(f"the type of {what}")
    if flag not in DTYPES:
        raise reader.bad(f"{what} has the unknown type flag {flag}")
    return reader.tensor(shape, DTYPES[flag], what)


def _shape(reader: _Reader, what: str) -> tuple[int, ...]:
    (magic,) = reader.numbers("<I", f"the mark of {what}")
    if magic in (V2, V3):
        storage = reader.integer(f"the storage type of {what}")
        if storage != DENSE:
            raise reader.bad(f"{what} has storage type {storage}; only dense arrays (0) are read")
    ndim = reader.integer(f"the dimensions of {what}") if magic in (V1, V2, V3) else magic
    if not 0 <= ndim <= MOST_DIMENSIONS:
        raise reader.bad(f"{what} has {ndim} dimensions")
    if ndim == 0 and magic != V3:  # version 3 alone has scalars; elsewhere this is "no array"
        raise reader.bad(f"{what} holds no array")
    form = "q" if magic in (V1, V2, V3) else "I"
    return reader.numbers(f"<{ndim}{form}", f"the shape of {what}")


def _names(reader: _Reader, arrays: int) -> list[str]:
    count = reader.unsigned64("the number of names")
    if count != arrays:
        raise reader.bad(f"{arrays} arrays have {count} names")
    names: dict[str, None] = {}
    for index in range(count):
        name = reader.text(f"name {index + 1} of {count}")
        if name in names:
            raise reader.bad(f"two arrays have the name {name!r}")
        names[name] = None
    return list(names)
