"""Label maps as other programs draw them: class indices in one channel, or the colours of the VOC palette.

A picture holds numbers of classes either way; which numbers a data set knows is checked by the caller.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData
from wsssbench.files.image_files import MOST_PIXELS, check_colours, opened, row_blocks
from wsssbench.files.label_palette import by_colours
from wsssbench.masks import read_indices, read_labels, voc_palette

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.files.label_palette import LabelPalettes
    from wsssbench.types import Mask

PNG = b"\x89PNG\r\n\x1a\n"
COLOURED, PALETTE = (2, 6), 3  # colour types of PNG: RGB and RGBA; indices into a palette
HINT = "save class indices (mode P or L), or the exact colours of the VOC palette"


def is_png(data: bytes) -> bool:
    """Whether a file begins like a PNG."""
    return data[:8] == PNG


def is_png_file(path: Path) -> bool:
    """Whether the file at `path` begins like a PNG, whatever its name; not where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return is_png(stream.read(8))
    except OSError:
        return False


def png_header(data: bytes, where: object) -> tuple[tuple[int, int], int]:
    """((H, W), colour type) of a PNG, from its first bytes; BadData where it is none or claims too much."""
    if not is_png(data) or data[12:16] != b"IHDR" or len(data) < 26:
        raise BadData("this is no PNG, or a damaged one", where=where, hint="write the file again")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    if width * height > MOST_PIXELS:
        raise BadData(f"a picture of {width} x {height} pixels is no label map", where=where)
    return (height, width), data[25]


def read_picture(path: Path | str, palettes: LabelPalettes | None = None) -> Mask:
    """(H, W) uint8 labels of a PNG: its indices, or the inverse of its VOC colours.

    `palettes`, where given, sees to indices that a program has renumbered. BadData names a file that is no
    PNG, is damaged, or has a colour that is not in the palette.
    """
    try:
        with Path(path).open("rb") as stream:
            begin = stream.read(32)
    except OSError as error:
        raise BadData(f"this file cannot be read ({error.strerror or error})", where=path) from error
    _, colour = png_header(begin, path)
    return _labels_of_colours(path) if colour in COLOURED else read_labels(path, palettes)


def read_palette_colours(path: Path | str) -> Mask:
    """(H, W) uint8 labels of a palette PNG by its colours, whatever its indices."""
    return by_colours(*read_indices(path), path)


def _labels_of_colours(path: Path | str) -> Mask:
    with opened(path, "mask", ["PNG"], hint="write the file again") as picture:
        check_colours(picture, "mask", path)
        pixels = np.asarray(picture.convert("RGBA"))
    if (pixels[..., 3] != 255).any():
        raise BadData("a label map with transparent pixels", where=path, hint=HINT)
    return colours_to_labels(pixels[..., :3], path)


def colours_to_labels(pixels: NDArray[np.uint8], where: object) -> Mask:
    """(H, W, 3) RGB -> (H, W) uint8 indices in the VOC palette; BadData for a colour that is not in it."""
    labels = np.empty(pixels.shape[:2], np.uint8)
    for rows in row_blocks(pixels.shape):
        labels[rows] = _labels_of_rows(pixels[rows], where)
    return labels


def _labels_of_rows(pixels: NDArray[np.uint8], where: object) -> Mask:
    codes, known = _codes(pixels), _palette_codes()
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    labels: Mask = order[place].astype(np.uint8)
    foreign = known[labels] != codes
    if foreign.any():
        values, counts = np.unique(codes[foreign], return_counts=True)
        code, count = int(values[counts.argmax()]), int(counts.max())
        colour = (code >> 16, code >> 8 & 255, code & 255)
        more = f", and {len(values) - 1} other colours neither" if len(values) > 1 else ""
        what = f"the colour {colour} of {count} pixels is not in the VOC palette{more}"
        raise BadData(what, where=where, hint=HINT)
    return labels


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """One number per colour."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red * np.uint32(65536) + green * np.uint32(256) + blue


@functools.cache
def _palette_codes() -> NDArray[np.uint32]:
    return _codes(voc_palette())
