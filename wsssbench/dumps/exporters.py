"""Our maps as files that other repositories read: the dict of PSA. Label PNGs are `wsssbench.masks`."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.masks import resize_bilinear
from wsssbench.types import Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEW_NAME, OLD_NAME = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
PROTOCOL = 3  # of every Python 3


def to_psa_dict(maps: Maps, shape: tuple[int, int]) -> dict[int, NDArray[np.float32]]:
    """{class, 0-based: (H, W) float32} at the size of the image, as PSA, SEAM and MCTformer keep maps."""
    planes = resize_bilinear(maps.values, shape)
    return {int(k): np.ascontiguousarray(plane) for k, plane in zip(maps.classes, planes, strict=True)}


def write_psa_dict(path: Path | str, maps: Maps, shape: tuple[int, int]) -> None:
    """Write `to_psa_dict` as PSA does, for `numpy.load(path, allow_pickle=True).item()` of any numpy.

    numpy 2 would name its own module `numpy._core`, which numpy before 1.26 does not have; both know the old
    name. It stands once, at the begin of the pickle, which then refers back to it.
    """
    payload = pickle.dumps(np.array(to_psa_dict(maps, shape), dtype=object), protocol=PROTOCOL)
    buffer = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(buffer, header)
    buffer.write(payload.replace(NEW_NAME, OLD_NAME, 1))
    atomic_write_bytes(path, buffer.getvalue(), sync=False)
