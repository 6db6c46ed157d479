"""Label maps as other programs draw them: class indices in one channel, or the colours of the VOC palette.

A picture holds numbers of classes either way; which numbers a data set knows is checked by the caller.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData
from wsssbench.files.image_files import check_colours, opened, row_blocks
from wsssbench.files.label_palette import by_colours
from wsssbench.files.label_png import SIGNATURE
from wsssbench.masks import AGAIN, read_indices, voc_palette

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

HINT = "save class indices (mode P or L), or the exact colours of the VOC palette"
FOREIGN = 256  # stands for the index of a colour that VOC's palette lacks


@dataclass(frozen=True)
class Picture:
    """A PNG of which the header has been read."""

    path: Path
    coloured: bool
    palette: bool = False


def is_png_file(path: Path) -> bool:
    """Whether the file at `path` begins like a PNG, whatever its name; not where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def picture_at(path: Path) -> Picture:
    """What kind of PNG this is; FileFault for one that is damaged or claims too much."""
    with opened(path, "mask", ["PNG"], hint=AGAIN) as picture:
        return Picture(path, picture.mode in ("RGB", "RGBA"), picture.mode == "P")


def read_colours(path: Path | str) -> Mask:
    """(H, W) uint8 labels of a PNG by its VOC colours; BadData for a colour that is not in the palette, for
    transparency and for more than 8 bits a channel."""
    with opened(path, "mask", ["PNG"], hint=AGAIN) as picture:
        check_colours(picture, "mask", path)
        pixels = np.asarray(picture.convert("RGBA"))
    if (pixels[..., 3] != 255).any():
        raise BadData("a label map with transparent pixels", where=path, hint=HINT)
    labels = np.empty(pixels.shape[:2], np.uint8)
    for rows in row_blocks(pixels.shape):
        labels[rows] = _labels_of_rows(pixels[rows], path)
    return labels


def read_palette_colours(path: Path | str) -> Mask:
    """(H, W) uint8 labels of a palette PNG by its colours, whatever its indices."""
    return by_colours(*read_indices(path), path)


def _labels_of_rows(pixels: NDArray[np.uint8], where: object) -> Mask:
    codes = _codes(pixels)
    indices = _indices_of_codes()[codes]
    foreign = indices == FOREIGN
    if foreign.any():
        values, counts = np.unique(codes[foreign], return_counts=True)
        code, count = int(values[counts.argmax()]), int(counts.max())
        colour = (code >> 16, code >> 8 & 255, code & 255)
        more = f", and {len(values) - 1} other colours neither" if len(values) > 1 else ""
        what = f"the colour {colour} of {count} pixels is not in the VOC palette{more}"
        raise BadData(what, where=where, hint=HINT)
    return indices.astype(np.uint8)


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One number per colour, 65536 r + 256 g + b."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red * np.uint32(65536) + green * np.uint32(256) + blue


@functools.cache
def _indices_of_codes() -> NDArray[np.uint16]:
    """(2**24,) uint16: the index in VOC's palette of each colour, or FOREIGN."""
    table = np.full(2**24, FOREIGN, np.uint16)
    table[_codes(voc_palette())] = np.arange(256)
    return table
