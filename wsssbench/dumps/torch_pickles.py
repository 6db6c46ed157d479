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
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from wsssbench.dumps.numpy_pickles import NUMPY_NAMES, checked_shape, plain_values
from wsssbench.dumps.safe_pickle import Name, Names, Stored, load_pickle

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
BFLOAT = "bfloat16"
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": BFLOAT,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
STORAGE_NAMES: Names = {
    (module, name): Name(value=code) for name, code in STORAGES.items() for module in ("torch", "torch.cuda")
}


class Storage(Stored):
    """The flat memory under tensors; `data` follows later in the file."""

    def __init__(self, code: str, count: Any) -> None:
        if type(count) is not int or count < 0:
            raise ValueError("a storage of an impossible size")
        self.code, self.count, self.data = code, count, b""

    @property
    def itemsize(self) -> int:
        return 2 if self.code == BFLOAT else int(self.code[1:])

    def flat(self) -> NDArray[Any]:
        """The values; bfloat16 as float32."""
        if len(self.data) != self.count * self.itemsize:
            raise ValueError("a storage without its data")
        if self.code == BFLOAT:  # the upper half of a float32
            return (plain_values("u2", "<", self.data).astype("<u4") << 16).view("<f4")
        return plain_values(self.code, "<", self.data)


class StoredTensor(Stored):
    """Stands for a tensor: a view of a storage."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, Storage):
            raise ValueError("a tensor without a storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self) -> NDArray[Any]:
        """The tensor as a new array; ValueError where it reaches beyond its storage or repeats it."""
        flat, sides = self.storage.flat(), checked_shape(self.size)
        strides, (offset,) = checked_shape(self.stride), checked_shape((self.offset,))
        if len(strides) != len(sides) or math.prod(sides) > flat.size:
            raise ValueError(f"a tensor of the shape {sides} over {flat.size} values")
        if not math.prod(sides):
            return np.zeros(sides, flat.dtype)
        last = offset + sum((side - 1) * stride for side, stride in zip(sides, strides, strict=True))
        if last >= flat.size:
            raise ValueError("a tensor that reaches beyond its storage")
        steps = [stride * flat.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(flat[offset:], sides, steps, writeable=False).copy()


def torch_names(where: object) -> Names:
    """The names that an .npy file with tensors in it needs: numpy's, and torch's for whole storages."""

    def inner_storage(data: Any) -> Storage:
        raw = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(raw, (bytes, bytearray)):
            raise ValueError("a storage that is no bytes")
        found = read_torch(bytes(raw), where)
        if not isinstance(found, Storage):
            raise ValueError(f"a {type(found).__name__} in the place of a storage")
        return found

    load = Name(inner_storage, copies=True)
    return {**NUMPY_NAMES, **TENSOR_NAMES, ("torch.storage", "_load_from_bytes"): load}


TENSOR_NAMES: Names = {("torch._utils", "_rebuild_tensor_v2"): Name(StoredTensor), **STORAGE_NAMES}
# in a torch file storages are persistent ids, so that it cannot hold another torch file: no endless nesting
FILE_NAMES: Names = {**NUMPY_NAMES, **TENSOR_NAMES}


def is_legacy_torch(begin: bytes) -> bool:
    """Whether a file begins with torch's magic number, pickled."""
    return begin[2:14] == b"\x8a\n" + MAGIC.to_bytes(10, "little")


def read_torch(data: bytes, where: object) -> Any:
    """What torch.save wrote, tensors as `StoredTensor`; ValueError if damaged, BadData for code."""
    if data[:2] == b"PK":
        return _read_archive(data, where)
    return _read_legacy(io.BytesIO(data), where)


def _read_legacy(stream: IO[bytes], where: object) -> Any:
    magic, version, system = (load_pickle(stream, where, {}) for _ in range(3))
    if (magic, version) != (MAGIC, VERSION) or not isinstance(system, dict):
        raise ValueError("this is not what torch.save writes")
    if system.get("little_endian") is not True:
        raise ValueError("tensors in big-endian order")
    storages: dict[Any, Storage] = {}
    persistent = functools.partial(_legacy_storage, storages)
    found = load_pickle(stream, where, FILE_NAMES, persistent=persistent)
    for key in load_pickle(stream, where, {}):
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or int.from_bytes(stream.read(8), "little") != storage.count:
            raise ValueError("a storage that no tensor asks for, or of another size")
        storage.data = stream.read(storage.count * storage.itemsize)
        if len(storage.data) != storage.count * storage.itemsize:
            raise ValueError("the file ends within a tensor")
    return found


def _legacy_storage(storages: dict[Any, Storage], id: Any) -> Storage:
    """The storage of ("storage", type, key, place, count, None); the same for the same key."""
    storage, key, view = _named_storage(id, 6)
    if view is not None:
        raise ValueError("a view of a storage")
    return storages.setdefault(key, storage)


def _named_storage(id: Any, length: int) -> tuple[Storage, str, Any]:
    if not isinstance(id, tuple) or len(id) != length or id[0] != "storage":
        raise ValueError("a persistent id that names no storage")
    kind, key, count = id[1], id[2], id[4]
    if not isinstance(kind, Name) or kind.value not in STORAGES.values() or not isinstance(key, str):
        raise ValueError("a persistent id of an unknown storage")
    return Storage(kind.value, count), key, id[5] if length > 5 else None


def _read_archive(data: bytes, where: object) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if any(m.compress_type != zipfile.ZIP_STORED for m in members.values()):
            raise ValueError("compressed members, which torch.save does not write")
        if sum(m.file_size for m in archive.infolist()) > len(data):
            raise ValueError("its members claim more bytes than it has")
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        root = pickles[0].removesuffix("/data.pkl")
        if f"{root}/byteorder" in members and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("tensors in big-endian order")
        storages: dict[str, Storage] = {}
        persistent = functools.partial(_archive_storage, archive, members, root, storages)
        stream = io.BytesIO(archive.read(pickles[0]))
        return load_pickle(stream, where, FILE_NAMES, persistent=persistent)


def _archive_storage(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    root: str,
    storages: dict[str, Storage],
    id: Any,
) -> Storage:
    """The storage of ("storage", type, key, place, count), read from the member data/<key>."""
    storage, key, _ = _named_storage(id, 5)
    if key not in storages:
        member = members.get(f"{root}/data/{key}")
        if member is None or member.file_size != storage.count * storage.itemsize:
            raise ValueError("a storage that the archive lacks, or of another size")
        storage.data = archive.read(member)
        storages[key] = storage
    return storages[key]
