"""Small pictures as data URIs: thumbnails, masks with flat colours, wrong pixels, heat maps.

PIL and numpy on arrays; which images and whose masks is the gallery's choice.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from PIL import Image as Pil

from wsssbench.masks import VOID_COLOUR, voc_palette
from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Image, Maps, Mask

SIDE_PX = 160  # longest side of a thumbnail
STRIPE_PX = 3  # of the marks on wrong pixels: black and white, to be seen on any colour
LEVELS = 24  # of a heat map


def thumb_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(width, height) of the thumbnail of an (H, W, ...) picture; small ones keep their size."""
    scale = min(1.0, SIDE_PX / max(shape[:2]))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def photo_uri(image: Image) -> str:
    """The (H, W, 3) image as a small JPEG."""
    small = Pil.fromarray(image).resize(thumb_size(image.shape), Pil.Resampling.LANCZOS)
    return _uri(small, "JPEG", quality=82, optimize=True)


def png_uri(picture: Image) -> str:
    """The (H, W, 3) picture as PNG, pixel by pixel."""
    return _uri(Pil.fromarray(picture), "PNG")


def labels_uri(labels: Mask) -> str:
    """(H, W) labels in the VOC palette; background is transparent, 255 light grey."""
    small = _nearest(labels)
    values, index = np.unique(small, return_inverse=True)
    colours = voc_palette().copy()
    colours[IGNORE] = VOID_COLOUR
    return _palette_uri(index.reshape(small.shape), colours[values], np.where(values == 0, 0, 255))


def wrong_pixels(gold: Mask, labels: Mask) -> NDArray[np.bool_]:
    """(H, W) where the label is not the truth; void truth is never wrong."""
    wrong: NDArray[np.bool_] = (gold != labels) & (gold != IGNORE)
    return wrong


def wrong_uri(wrong: NDArray[np.bool_]) -> str:
    """Black and white stripes on wrong pixels, the rest transparent."""
    small = _nearest(wrong.astype(np.uint8))
    row, column = np.indices(small.shape)
    stripes = 1 + (row + column) // STRIPE_PX % 2
    return _palette_uri(
        small * stripes, np.array([(0, 0, 0), (0, 0, 0), (255, 255, 255)]), np.array([0, 255, 255])
    )


def heat_uri(maps: Maps) -> str:
    """The largest map of each pixel at native stride, dark blue (0) to yellow (1)."""
    values = np.asarray(maps.values, np.float32)
    plane = values.max(0) if len(values) else np.zeros((2, 2), np.float32)
    index = np.rint(np.clip(np.nan_to_num(plane), 0, 1) * (LEVELS - 1)).astype(np.int64)
    colours = colormaps["cividis"](np.linspace(0, 1, LEVELS))[:, :3] * 255
    picture = _palette(index, np.rint(colours), np.full(LEVELS, 255))
    return _uri(picture if max(index.shape) <= SIDE_PX else picture.resize(thumb_size(index.shape)), "PNG")


def _nearest(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = Pil.fromarray(labels).resize(thumb_size(labels.shape), Pil.Resampling.NEAREST)
    return np.asarray(small)


def _palette(index: NDArray[Any], colours: NDArray[Any], alpha: NDArray[Any]) -> Pil.Image:
    picture = Pil.fromarray(index.astype(np.uint8))
    picture.putpalette(colours.astype(np.uint8).tobytes())
    picture.info["transparency"] = alpha.astype(np.uint8).tobytes()
    return picture


def _palette_uri(index: NDArray[Any], colours: NDArray[Any], alpha: NDArray[Any]) -> str:
    return _uri(_palette(index, colours, alpha), "PNG")


def _uri(picture: Pil.Image, kind: str, **how: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **({"optimize": True} | how))
    return data_uri(buffer.getvalue(), kind.lower())


def data_uri(content: bytes, kind: str) -> str:
    """A picture of the kind "png" or "jpeg" as an address that holds all of it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
