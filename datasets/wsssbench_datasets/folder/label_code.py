"""What the pixels of a mask file mean: indices or colours -> labels 0..K and 255, merges included.

The code comes from dataset.toml (`folder_code`). A value that has no meaning is an error and never becomes
background by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.files.image_files import (
    LOSSLESS,
    FileFault,
    check_colours,
    is_scaled_grey,
    opened,
    palette_of,
    row_blocks,
    size_fault,
)
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.files.label_png import plain_picture
from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as Pil

    from wsssbench.types import Mask

INDEX_MODES = ("P", "L", "1", "I;16", "I")
COLOUR_MODES = ("P", "L", "RGB", "RGBA")
MOST_INDEX = 65535
SHOWN = 3


@dataclass(frozen=True)
class LabelCode:
    """Which label a value in a mask file has; a value is an index, or 65536 r + 256 g + b of a colour."""

    colours: bool
    labels: Mapping[int, int]  # value -> 0..K, or 255 = ignore
    other: int | None = None  # label of the values that are not listed; None: they are errors

    @property
    def is_plain(self) -> bool:
        """Whether a value is a class index, 255 alone is ignored, and nothing else is listed."""
        own = {value: label for value, label in self.labels.items() if value != IGNORE}
        indices = not self.colours and self.other is None and self.labels.get(IGNORE) == IGNORE
        return indices and all(value == label for value, label in own.items())

    def plain(self) -> list[Any]:
        """The code as JSON values: equal code, equal list."""
        return [self.colours, sorted(map(list, self.labels.items())), self.other]

    def read(
        self, path: Path, size: tuple[int, int] | None = None, palettes: LabelPalettes | None = None
    ) -> Mask:
        """(H, W) uint8 labels of the file at `path`.

        FileFault for a missing or damaged file, a picture of the wrong kind, a value that means nothing, a
        size other than `size` (H, W), and indices that `palettes` prove to be renumbered.
        """
        pixels = self._pixels(path, palettes)
        if size is not None and pixels.shape[:2] != size:
            raise size_fault(pixels.shape, size, path)
        labels = np.empty(pixels.shape[:2], np.uint8)
        for rows in row_blocks(pixels.shape):
            labels[rows] = self._labels(_packed(pixels[rows]) if self.colours else pixels[rows], path)
        return labels

    def _pixels(self, path: Path, palettes: LabelPalettes | None) -> NDArray[Any]:
        """(H, W) indices, or (H, W, 4) uint8 colours."""
        plain = plain_picture(path)
        if plain is None or self.colours:
            with opened(path, "mask", LOSSLESS) as picture:
                self._check_mode(picture.mode, path)
                if self.colours:
                    return _colours(picture, path)
                plain = _indices(picture, path), palette_of(picture)
        indices, palette = plain
        return palettes.labels(indices, palette, path) if palettes and palette else indices

    def _check_mode(self, mode: str, path: Path) -> None:
        if self.colours and mode not in COLOUR_MODES:
            raise FileFault("mask mode", f"a mask of mode {mode}, not of colours", path, "save it as RGB PNG")
        if not self.colours and mode not in INDEX_MODES:
            hint = "say in dataset.toml what the colours mean: palette, or colours under [labels]"
            raise FileFault("mask mode", f"a mask of mode {mode}, not of class indices", path, hint)

    def _labels(self, values: NDArray[Any], path: Path) -> Mask:
        if values.dtype.itemsize == 1:  # 256 values stand for many pixels
            place = values.astype(np.uint8)
            of_byte, fits_byte = self._meaning(np.arange(256))
            labels, fits = of_byte[place], fits_byte[place]
        else:
            labels, fits = self._meaning(values)
        if not fits.all():
            if self.other is None:
                raise self._unknown(np.unique(values[~fits]).tolist(), path)
            labels[~fits] = self.other
        return labels

    def _meaning(self, values: NDArray[Any]) -> tuple[Mask, NDArray[np.bool_]]:
        """The label of each value, and whether it is listed."""
        known = np.array(sorted(self.labels), np.int64)
        means = np.array([self.labels[value] for value in known.tolist()], np.uint8)
        at = np.searchsorted(known, values).clip(max=len(known) - 1)
        return means[at], known[at] == values

    def _unknown(self, values: Sequence[int], path: Path) -> FileFault:
        shown = ", ".join(value_text(value, self.colours) for value in values[:SHOWN])
        more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
        kind = "colour" if self.colours else "value"
        listed = ", ".join(value_text(value, self.colours) for value in sorted(self.labels)[:12])
        hint = f"known: {listed}{', ...' if len(self.labels) > 12 else ''}; see labels, palette and ignore"
        return FileFault(
            "mask values", f"a mask with the {kind} {shown}{more}, not in dataset.toml", path, hint
        )


def _indices(picture: Pil.Image, path: Path) -> NDArray[Any]:
    """(H, W) values."""
    if is_scaled_grey(picture):
        what = "a grey mask of 2 or 4 bits, whose values are spread over 0..255"
        raise FileFault("mask mode", what, path, "save it with 8 bits, or as a palette PNG")
    values = np.asarray(picture)
    if values.ndim != 2 or (values.size and (int(values.min()) < 0 or int(values.max()) > MOST_INDEX)):
        raise ValueError("indices outside 0..65535")
    return values.astype(np.uint8) if values.dtype == bool else values  # of 1 bit: 0 and 1


def _colours(picture: Pil.Image, path: Path) -> NDArray[Any]:
    """(H, W, 4) uint8, RGB and no transparency."""
    check_colours(picture, "mask", path)
    pixels = np.asarray(picture.convert("RGBA"))
    if (pixels[..., 3] != 255).any():
        raise FileFault("mask mode", "a mask with transparent pixels", path, "save it as RGB PNG")
    return pixels


def _packed(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) int64 values of colours."""
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    return red * 65536 + green * 256 + blue


def value_text(value: int, colours: bool) -> str:
    return f"#{value:06x}" if colours else str(value)
