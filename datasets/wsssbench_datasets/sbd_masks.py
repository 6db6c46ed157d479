"""Class masks of the Semantic Boundaries Dataset as it is distributed: benchmark_RELEASE/dataset/cls/*.mat.

A file is of MATLAB's version 5 and holds a struct `GTcls` whose field `Segmentation` is (H, W) uint8, 0..20.
It is read by scipy. How much a file unpacks to is found out first: a few bytes can claim any size.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData
from wsssbench.files.image_files import RESTORE, FileFault
from wsssbench_datasets.image_names import read_small_file

if TYPE_CHECKING:
    from wsssbench.types import Mask

MOST_BYTES, MOST_UNPACKED = 2**22, 2**26  # of a file: the largest of SBD has 30 kB, and unpacks to 1 MB
HEAD, PACKED = 128, 15  # bytes before the first element; the type of one that is compressed


def read_sbd_mask(path: Path) -> Mask:
    """(H, W) uint8 as stored under GTcls.Segmentation; FileFault for a missing, damaged or other file."""
    if not path.is_file():
        raise FileFault("missing mask", "this mask is missing, or no plain file", path, RESTORE)
    import io

    from scipy.io import loadmat  # late: opening a data set needs none of it

    try:
        data = read_small_file(path, MOST_BYTES, "mask")
        _check_unpacked(data)
        found = loadmat(io.BytesIO(data), variable_names=["GTcls"])
        mask: Mask = found["GTcls"]["Segmentation"].item()
    except BadData as error:
        raise FileFault("damaged mask", error.what, path, RESTORE) from error
    except Exception as error:  # at a garbled file scipy raises nearly anything
        what = "this mask is damaged, or no class mask of SBD: no GTcls.Segmentation in it can be read"
        raise FileFault("damaged mask", what, path, RESTORE) from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8:
        raise FileFault("mask mode", "GTcls.Segmentation is not (H, W) of 8 bits", path, RESTORE)
    return mask


def _check_unpacked(data: bytes) -> None:
    """BadData where a compressed element unpacks to more than a mask can have."""
    order = "<" if data[HEAD - 2 : HEAD] == b"IM" else ">"
    start = HEAD
    while start + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        if kind == PACKED:
            inflate = zlib.decompressobj()
            inflate.decompress(data[start + 8 : start + 8 + size], MOST_UNPACKED)
            if inflate.unconsumed_tail:
                raise BadData("this is too large for a mask")
        start += 8 + size
