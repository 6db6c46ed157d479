"""Tensors from the raw bytes of an open file, never larger than what the file still holds.

For formats that store little-endian data back to back; what a format's numbers mean stays in its own reader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import BinaryIO

import torch
from torch import Tensor

MOST_DIMENSIONS = 32
MOST_ELEMENTS = 2**62  # strides of an empty tensor count its other sides and must fit 64 bits


def byte_count(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of a dense tensor; raises ValueError for a shape that no tensor can have."""
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"{len(shape)} dimensions")
    if any(side < 0 for side in shape) or math.prod(max(side, 1) for side in shape) > MOST_ELEMENTS:
        raise ValueError(f"the impossible shape {tuple(shape)}")
    return math.prod(shape) * dtype.itemsize


def read_tensor(stream: BinaryIO, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The tensor that starts at the stream's place; the caller has checked that its bytes are there.

    Raises ValueError where the file ends before them after all.
    """
    count = byte_count(shape, dtype)
    if not count:
        return torch.empty(tuple(shape), dtype=dtype)
    data = bytearray(count)
    if stream.readinto(data) != count:  # type: ignore[attr-defined]
        raise ValueError("the file became shorter while it was read")
    return torch.frombuffer(data, dtype=dtype).reshape(tuple(shape))
