"""Messages between a run and its sandbox: a JSON header and numpy arrays, length first, over a pipe.

Neither side can make the other execute anything: no pickles, no objects. What the messages mean is not known
here.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from wsssbench.types import KINDS, Maps, Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays: TypeAlias = Mapping[str, NDArray[Any]]

SIZES = struct.Struct(">IQ")  # bytes of the header, bytes of the arrays
LONGEST_HEADER, LONGEST_BODY = 1 << 26, 1 << 36  # more is no message


def send(pipe: IO[bytes], header: Mapping[str, Any], arrays: Arrays | None = None) -> None:
    """Write one message. Raises OSError where nobody reads."""
    text, body = json.dumps(header).encode(), b""
    if arrays:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its flag allow_pickle is no name of ours
        body = buffer.getvalue()
    pipe.write(SIZES.pack(len(text), len(body)) + text)
    pipe.write(body)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The next message. Raises EOFError at the end of the pipe, ValueError for what is no message."""
    head, body = SIZES.unpack(_exactly(pipe, SIZES.size))
    if head > LONGEST_HEADER or body > LONGEST_BODY:
        raise ValueError("a message of impossible length")
    header = json.loads(_exactly(pipe, head))
    if not isinstance(header, dict):
        raise ValueError("a message without a header")
    if not body:
        return header, {}
    with np.load(io.BytesIO(_exactly(pipe, body)), allow_pickle=False) as found:
        return header, {name: found[name] for name in found.files}


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    parts, left = [], count
    while left:
        part = pipe.read(min(left, 1 << 24))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def packed_outputs(outputs: Sequence[Outputs]) -> dict[str, NDArray[Any]]:
    """Outputs as arrays by name, exactly as they are: `2.maps.values`, `2.labels`."""
    arrays = {}
    for n, one in enumerate(outputs):
        for kind in KINDS:
            value = getattr(one, kind)
            if isinstance(value, Maps):
                arrays[f"{n}.maps.classes"] = np.asarray(value.classes)
                arrays[f"{n}.maps.values"] = np.asarray(value.values)
            elif value is not None:
                arrays[f"{n}.{kind}"] = np.asarray(value)
    return arrays


def unpacked_outputs(arrays: Arrays, count: int) -> list[Outputs]:
    """What `packed_outputs` packed, of `count` images. Raises KeyError where half of a map is missing."""
    found = []
    for n in range(count):
        kinds: dict[str, Any] = {kind: arrays.get(f"{n}.{kind}") for kind in KINDS if kind != "maps"}
        if f"{n}.maps.values" in arrays:
            kinds["maps"] = Maps(arrays[f"{n}.maps.classes"], arrays[f"{n}.maps.values"])
        found.append(Outputs(**kinds))
    return found
