"""safetensors files, read without the package: eight bytes of length, a JSON header, raw little-endian data.

Everything the header claims is checked against the file before a tensor is made: types, sizes, and that the
tensors cover the data once, without overlap or gap, as the format demands.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from wsssbench.errors import BadData
from wsssbench.nets.tensor_bytes import byte_count, read_tensor

LENGTH_BYTES = 8
MOST_HEADER_BYTES = 2**24  # some hundred thousand tensors; the format allows 100 MB, JSON takes 20 times that
METADATA = "__metadata__"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
HINT = "fetch or save the file again"


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the data
    end: int


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name. Raises BadData with the place where the file is damaged or cut off."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        start = LENGTH_BYTES + length
        if length > MOST_HEADER_BYTES or start > size:
            raise _bad(path, f"its header claims {length} bytes of a file of {size}", "byte 0")
        header = _header(path, stream.read(length))
        entries = [_entry(path, name, value) for name, value in header.items() if name != METADATA]
        _check_cover(path, entries, size - start)
        state = {}
        for entry in entries:
            stream.seek(start + entry.begin)
            state[entry.name] = _tensor(stream, entry)
    return state


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise _bad(path, f"its header is not JSON ({error})", f"byte {LENGTH_BYTES}") from error
    if not isinstance(header, dict):
        raise _bad(path, "its header is no JSON object", f"byte {LENGTH_BYTES}")
    return header


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} stands twice")
        found[name] = value
    return found


def _entry(path: Path, name: str, value: Any) -> _Entry:
    """The checked entry of one tensor."""
    place = f"entry {name!r}"
    fields = value if isinstance(value, dict) else {}
    kind = fields.get("dtype")
    if not isinstance(kind, str) or kind not in DTYPES:
        raise _bad(path, f"the type {kind!r} is none of {', '.join(DTYPES)}", place)
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise _bad(path, "shape and data_offsets must be lists of whole numbers", place)
    entry = _Entry(name, DTYPES[kind], tuple(shape), *offsets)
    try:
        count = byte_count(entry.shape, entry.dtype)
    except ValueError as error:
        raise _bad(path, f"it has {error}", place) from error
    if entry.end - entry.begin != count:
        raise _bad(path, f"its shape needs {count} bytes, its offsets span {entry.end - entry.begin}", place)
    return entry


def _whole_numbers(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def _check_cover(path: Path, entries: list[_Entry], size: int) -> None:
    """The tensors must lie end to end from 0 to `size`."""
    reached = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        place = f"entry {entry.name!r}"
        if entry.begin < reached:
            raise _bad(path, f"it overlaps its neighbour: begins at {entry.begin}, before {reached}", place)
        if entry.begin > reached:
            raise _bad(path, f"{entry.begin - reached} bytes before it belong to no tensor", place)
        if entry.end > size:
            raise _bad(path, f"it ends at byte {entry.end} of {size} bytes of data", place)
        reached = entry.end
    if reached < size:
        raise _bad(path, f"{size - reached} bytes at the end belong to no tensor", f"data byte {reached}")


def _tensor(stream: Any, entry: _Entry) -> Tensor:
    if entry.dtype == torch.bool:  # a byte other than 0 and 1 must not become a bool as it is
        return read_tensor(stream, entry.shape, torch.uint8).bool()
    return read_tensor(stream, entry.shape, entry.dtype)


def _bad(path: Path, what: str, place: str) -> BadData:
    return BadData(f"this safetensors file is damaged: {what}", where=f"{path}, {place}", hint=HINT)
