"""What torch.save writes, read without torch: tensors become numpy arrays, and no code in the file runs.

Two layouts: the old one (a magic number, pickles one after another, then the raw storages), which torch also
puts inside other pickles, such as the dict of an .npy file; and the zip archive of torch 1.6 and later, whose
members are stored without compression. Little-endian data on any device; dense, unquantised tensors.
"""

from __future__ import annotations

import functools
import io
import math
import zipfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.numpy_pickles import NUMPY_NAMES, checked_shape, plain_values, raw_bytes
from wsssbench.dumps.safe_pickle import Names, Stored, load_pickle
from wsssbench.files.archives import check_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
BFLOAT = "bfloat16"
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<b1",
}


class Storage:
    """The flat memory under tensors; `data` follows later in the file."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.data = dtype, b""
        self.size = count * (2 if dtype == BFLOAT else int(dtype[2:]))

    def flat(self) -> NDArray[Any]:
        """The values; bfloat16 as float32."""
        if len(self.data) != self.size:
            raise ValueError("a storage without its data, or of another size")
        if self.dtype == BFLOAT:  # the upper half of a float32
            return (plain_values("<u2", self.data).astype("<u4") << 16).view("<f4")
        return plain_values(self.dtype, self.data)


def _tensor(_: Any, storage: Any, offset: Any, size: Any, stride: Any, *_more: Any) -> NDArray[Any]:
    """A view of a storage as an array; ValueError where it reaches beyond its storage or repeats it."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    flat, sides = storage.flat(), checked_shape(size)
    if math.prod(sides) > flat.size:
        raise ValueError(f"a tensor of the shape {sides} over {flat.size} values")
    start, *steps = (n * flat.itemsize for n in checked_shape((offset,)) + checked_shape(stride))
    return np.ndarray(sides, flat.dtype, flat, start, steps)  # numpy compares them with the memory


def torch_names(where: object) -> Names:
    """The names that an .npy file with tensors in it needs: numpy's, and torch's for whole storages."""

    @functools.cache  # a few bytes of pickle could else copy the same megabytes again and again
    def inner_storage(data: Any) -> Storage:
        found = read_torch(bytes(raw_bytes(data)), where)
        if not isinstance(found, Storage):
            raise ValueError(f"a {type(found).__name__} in the place of a storage")
        return found

    return {**FILE_NAMES, ("torch.storage", "_load_from_bytes"): inner_storage}


# in a torch file storages are persistent ids, so that it cannot hold another torch file: no endless nesting
FILE_NAMES: Names = {
    **NUMPY_NAMES,
    ("torch._utils", "_rebuild_tensor_v2"): functools.partial(Stored, _tensor),
    **{(module, name): dtype for name, dtype in STORAGES.items() for module in ("torch", "torch.cuda")},
}


def is_legacy_torch(begin: bytes) -> bool:
    """Whether a file begins with torch's magic number, pickled."""
    return begin[2:14] == b"\x8a\n" + MAGIC.to_bytes(10, "little")


def read_torch(data: bytes, where: object) -> Any:
    """What torch.save wrote, tensors as stand-ins; ValueError if damaged, BadData for code."""
    storages: dict[str, Storage] = {}
    load = functools.partial(
        load_pickle, where=where, names=FILE_NAMES, persistent=functools.partial(_storage, storages)
    )
    read = _read_archive if data[:2] == b"PK" else _read_legacy
    return read(io.BytesIO(data), load, storages)


def _storage(storages: dict[str, Storage], id: Any) -> Storage:
    """The storage of ("storage", type, key, place, count) or, of old, (..., None); one for a key."""
    if not isinstance(id, tuple) or len(id) not in (5, 6) or id[0] != "storage":
        raise ValueError("a persistent id that names no storage")
    _, dtype, key, _, count, *view = id
    if dtype not in STORAGES.values() or not isinstance(key, str) or type(count) is not int or count < 0:
        raise ValueError("a persistent id of an unknown storage")
    if view not in ([], [None]):
        raise ValueError("a view of a storage")
    return storages.setdefault(key, Storage(dtype, count))


def _read_legacy(stream: IO[bytes], load: Callable[[IO[bytes]], Any], storages: dict[str, Storage]) -> Any:
    magic, version, system = (load(stream) for _ in range(3))
    if (magic, version) != (MAGIC, VERSION) or not isinstance(system, dict):
        raise ValueError("this is not what torch.save writes")
    if system.get("little_endian") is not True:
        raise ValueError("tensors in big-endian order")
    found = load(stream)
    for key in load(stream):
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise ValueError("a storage that no tensor asks for")
        stream.read(8)  # the number of values, which the pickle gives too
        storage.data = stream.read(storage.size)
        if len(storage.data) != storage.size:
            raise ValueError("the file ends within a tensor")
    return found


def _read_archive(stream: IO[bytes], load: Callable[[IO[bytes]], Any], storages: dict[str, Storage]) -> Any:
    with zipfile.ZipFile(stream) as archive:
        check_stored(archive, stream.seek(0, io.SEEK_END))
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        root = pickles[0].removesuffix("/data.pkl")
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("tensors in big-endian order")
        found = load(io.BytesIO(archive.read(pickles[0])))
        for key, storage in storages.items():
            storage.data = archive.read(f"{root}/data/{key}")
    return found
