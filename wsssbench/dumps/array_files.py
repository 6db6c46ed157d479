"""Files of arrays, recognised by content: .npy, with an object in it or not, .npz and what torch.save wrote.

What comes out is a bare array, or a dict whose values `settled` turns into arrays one by one, so that nobody
pays for what nobody asks for. What the arrays mean is said in `formats`. Never numpy.load(allow_pickle=True).
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from wsssbench.dumps.numpy_pickles import only_object, plain_values, shaped
from wsssbench.dumps.safe_pickle import load_pickle, settled
from wsssbench.dumps.torch_pickles import is_legacy_torch, read_torch, torch_names
from wsssbench.errors import BadData
from wsssbench.files.atomic import read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

NPY, ZIP = npy.MAGIC_PREFIX, b"PK\x03\x04"
NPY_HEADERS = {  # of version 3, which differs in the names of records alone, numpy's reader is private
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): npy.read_array_header_2_0,
}
PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
OTHERS = {  # how files begin that people take for dumps
    b"\xff\xd8\xff": "a JPEG, which changes label values",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"RIFF": "a WebP",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "compressed by gzip",
    b"\x78\x9c": "compressed by zlib",
    b"\x78\x5e": "compressed by zlib",
    b"7z": "a 7z archive",
}
MOST_FILE_BYTES = 2**31  # logits of 81 classes at 2048 x 2048 pixels have 1.4e9
MOST_UNPACKED_BYTES = 2**30  # of a compressed .npz, of which a MB can claim a GB
HINT = "write the file again; .npy, .npz, pickles, torch.save's files and PNG are read"


def read_arrays(path: Path, hint: str = HINT) -> NDArray[Any] | dict[Any, Any]:
    """`parse_arrays` of the file at `path`; BadData too where it cannot be read or is too large."""
    return parse_arrays(read_bytes(path, MOST_FILE_BYTES, hint), path, hint)


def parse_arrays(data: bytes, where: object, hint: str = HINT) -> NDArray[Any] | dict[Any, Any]:
    """The array, or the dict, in the bytes of a file; values of a dict as they are stored (see `settled`).

    numpy's scalars among the keys become numbers. BadData, with the file's name, for a file that is damaged,
    of no known kind, needs code to be loaded, or holds anything but an array or a dict; `hint` is the next
    step that it gives.
    """
    try:
        found = settled(_parsed(data, where, hint))
        return _with_plain_keys(found) if isinstance(found, dict) else _array_alone(found)
    except BadData:
        raise
    except Exception as error:  # at a garbled file zipfile and its like raise nearly anything
        raise BadData(f"cannot read this file ({_reason(error)})", where=where, hint=hint) from error


def _parsed(data: bytes, where: object, hint: str) -> Any:
    if data[:6] == NPY:
        return _parse_npy(data, where, hint)
    if data[:4] == ZIP and _is_npz(data):
        return _parse_npz(data, where)
    if data[:4] == ZIP or is_legacy_torch(data[:16]):
        return read_torch(data, where)
    if data[:2] in PICKLES:
        return load_pickle(io.BytesIO(data), where, torch_names(where), hint=hint)
    raise ValueError(_unknown(data))


def _unknown(data: bytes) -> str:
    """What a file of no known kind is, as far as its begin tells."""
    if not data:
        return "it is empty"
    known = next((what for begin, what in OTHERS.items() if data.startswith(begin)), "")
    return f"it is {known}" if known else f"it begins with {data[:8]!r}, like none"


def _reason(error: Exception) -> str:
    """What a reader said; of what Python says about its own types, that there is damage."""
    if type(error) not in (ValueError, zipfile.BadZipFile):
        return "it is damaged, or its parts do not fit together"
    return str(error).partition("\n")[0][:160]


def read_npz(path: Path | str) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name, of which no more is unpacked than the file can honestly hold.

    BadData for a file that is missing, damaged, or anything but an .npz of plain arrays.
    """
    found = read_arrays(Path(path))
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise BadData("this is no .npz file of plain arrays", where=path, hint=HINT)
    return found


def kind_of(value: Any) -> str:
    """What a value is, in words: for errors."""
    words = {"NoneType": "nothing", "int": "a number", "float": "a number", "bool": "a flag", "str": "text"}
    name = type(value).__name__
    return words.get(name, f"a {name}")


def _with_plain_keys(found: dict[Any, Any]) -> dict[Any, Any]:
    plain = {settled(key): value for key, value in found.items()}
    if len(plain) != len(found):
        raise ValueError("a key that stands twice")
    return plain


def _array_alone(found: Any) -> NDArray[Any]:
    if not hasattr(found, "dtype"):
        raise ValueError(f"it holds {kind_of(found)}, not an array or a dict")
    array: NDArray[Any] = found
    return array


def _parse_npy(data: bytes, where: object, hint: str, member: str = "") -> Any:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in NPY_HEADERS:
        raise ValueError(f"an .npy file of version {version[0]}")
    shape, fortran, dtype = NPY_HEADERS[version](stream)
    if dtype.hasobject and member:
        raise ValueError(f"{member} holds objects")
    if dtype.hasobject:
        return only_object(load_pickle(stream, where, torch_names(where), hint=hint))
    start, count = stream.tell(), math.prod(shape) * dtype.itemsize
    if not 0 <= count <= len(data) - start:
        raise ValueError(f"the file ends early: its shape {shape} needs {count} bytes")
    return shaped(plain_values(dtype.str, memoryview(data)[start : start + count]), shape, fortran)


def _is_npz(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _parse_npz(data: bytes, where: object) -> dict[str, Any]:
    """Arrays by name; objects among them are refused, as numpy does by default."""
    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_UNPACKED_BYTES:
            raise ValueError("its arrays claim more than 1 GiB")
        for member in members:
            with archive.open(member) as stream:
                content = stream.read(member.file_size)  # no more than that of a bomb
            arrays[member.filename.removesuffix(".npy")] = _parse_npy(content, where, HINT, member.filename)
    return arrays
