"""Pictures on disk, opened in one place by one rule, whoever wrote them: photographs and label maps alike.

The content of a file says what it is, never its name. Only formats that Pillow decodes itself are tried: for
others (EPS) it would start a program. What a pixel means is the caller's business; nothing is written here.

The rule for photographs: pixels as they are stored. EXIF orientation is not applied, since masks are drawn in
the stored orientation. Grey, palette, CMYK and YCbCr become RGB, transparency is left out, of several
pictures in a file the first counts. More than 8 bits a channel, other colour spaces and more than MOST_PIXELS
pixels are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pil
from PIL import ImageOps, UnidentifiedImageError

from wsssbench.errors import BadData

if TYPE_CHECKING:
    from wsssbench.types import Image

PHOTOGRAPHS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
LOSSLESS = ("PNG", "BMP", "TIFF")  # what a label map can be
MOST_PIXELS = 64_000_000  # 10,000 x 6,400: less than 1 GB while it is decoded; a few bytes can claim any size
BLOCK_PIXELS = 2**21  # that are worked on at once
COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # modes that become RGB without loss
DEEP = ("16", "32", "12")  # in Pillow's names of raw modes: bits a channel that 8 cannot hold
SCALED_GREY = ("L;2", "L;4")  # Pillow spreads these over 0..255, so that an index would become another
OTHER_KINDS = {  # first bytes, or those from the fifth on
    b"gif8": "a GIF",
    b"ftypheic": "a HEIC",
    b"ftypavif": "an AVIF",
    b"%pdf": "a PDF",
    b"<svg": "an SVG",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"version https://": "a pointer of Git LFS",
}
ORIENTATION, UPRIGHT = 0x0112, 1  # the EXIF tag, and its value for a picture stored as it is shown
RESTORE = "restore this file; wsssbench prepare lists all"


class FileFault(BadData):
    """A file that cannot be used; `kind` is the group it is counted in."""

    def __init__(self, kind: str, what: str, where: object, hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.kind = kind


@contextmanager
def opened(
    path: Path | str, noun: str, formats: Sequence[str] = PHOTOGRAPHS, hint: str = RESTORE
) -> Iterator[Pil.Image]:
    """The picture at `path`, its header read, its size checked; pixels are decoded by whoever wants them.

    FileFault, which calls the file a `noun`, for one that is missing, of none of `formats`, too large, or
    fails in any way inside the `with` block.
    """
    if not Path(path).is_file():  # a pipe would be waited for, for ever
        raise FileFault(f"missing {noun}", f"this {noun} is missing, or no plain file", path, hint)
    try:
        with Pil.open(path, formats=list(formats)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                what = f"a {noun} of {picture.width} x {picture.height} pixels"
                raise FileFault(f"damaged {noun}", f"{what}: at most {MOST_PIXELS:,} are read", path, hint)
            yield picture
    except BadData:
        raise
    except UnidentifiedImageError as error:
        if known := _other_kind(path):
            what = f"this {noun} is {known}, none of {', '.join(formats)}"
            step = f"save it as {' or '.join(formats[:2])}, or {hint}"
            raise FileFault(f"damaged {noun}", what, path, step) from error
        what = f"this {noun} is truncated or damaged, or none of {', '.join(formats)}"
        raise FileFault(f"damaged {noun}", what, path, hint) from error
    except Exception as error:  # at a garbled file Pillow raises nearly anything
        reason = str(error).partition("\n")[0][:160] or type(error).__name__
        what = f"this {noun} is truncated or damaged ({reason})"
        raise FileFault(f"damaged {noun}", what, path, hint) from error


def _other_kind(path: Path | str) -> str:
    """What a file that is not a picture is, by its first bytes; "" where that is not known."""
    with Path(path).open("rb") as file:
        head = file.read(16).lstrip().lower()
    return next(
        (name for start, name in OTHER_KINDS.items() if start in (head[: len(start)], head[4:12])), ""
    )


def read_rgb(path: Path | str, noun: str = "image", *, upright: bool = False, hint: str = RESTORE) -> Image:
    """(H, W, 3) uint8 RGB by the rule above; turned as its EXIF data says where `upright`. Else FileFault."""
    with opened(path, noun, hint=hint) as picture:
        check_colours(picture, noun, path)
        turned = ImageOps.exif_transpose(picture) if upright else picture
        turned.info.pop("transparency", None)  # left out, like an alpha channel
        return np.array(turned.convert("RGB"))


def picture_size(path: Path | str, noun: str = "image", hint: str = RESTORE) -> tuple[int, int]:
    """(H, W) from the header alone. FileFault where there is none, or it promises what `read_rgb` refuses."""
    with opened(path, noun, hint=hint) as picture:
        check_colours(picture, noun, path)
        return picture.height, picture.width


def is_turned(path: Path | str) -> bool:
    """Whether a photograph's EXIF data asks to show it otherwise than it is stored; no, if damaged."""
    with suppress(FileFault), opened(path, "image") as picture:
        late = picture.format == "PNG" and "exif" not in picture.info  # asking would decode it
        return not late and picture.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT
    return False


def check_colours(picture: Pil.Image, noun: str, path: Path | str) -> None:
    """FileFault for more than 8 bits a channel, which Pillow would cut, and for colours unlike RGB."""
    raw = _raw_mode(picture)
    if picture.mode not in COLOURS or any(bits in raw for bits in DEEP):
        deep = any(bits in f"{picture.mode} {raw}" for bits in DEEP) or picture.mode in ("I", "F")
        kind = "more than 8 bits a channel" if deep else f"the colour space {picture.mode}"
        what = f"this {noun} has {kind}, which no rule turns into 0..255"
        raise FileFault(f"{noun} mode", what, path, "save it as RGB with 8 bits a channel")


def is_scaled_grey(picture: Pil.Image) -> bool:
    """Whether Pillow spreads the grey values of this picture, so that they are not class indices any more."""
    return _raw_mode(picture) in SCALED_GREY


def palette_of(picture: Pil.Image) -> bytes:
    """The RGB triples of a palette picture; empty for any other."""
    return bytes(picture.getpalette("RGB") or ()) if picture.mode == "P" else b""


def size_fault(found: tuple[int, ...], wanted: tuple[int, int], path: Path | str) -> FileFault:
    """The fault that a mask (H, W) is not of the size of its image."""
    what = f"a mask of {found[1]}x{found[0]} px for an image of {wanted[1]}x{wanted[0]} px"
    hint = "image and mask must have the same size"
    if found == wanted[::-1]:
        hint = "images are read as stored, without EXIF rotation: turn the mask back, or save both upright"
    return FileFault("mask size", what, path, hint)


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows of a picture (H, W, ...): what is computed of a large one takes little memory."""
    rows = max(1, BLOCK_PIXELS // max(1, shape[1]))
    return (slice(first, first + rows) for first in range(0, shape[0], rows))


def _raw_mode(picture: Pil.Image) -> str:
    """How the pixels lie in the file, in Pillow's words: "RGB;16B"; "" where it does not say."""
    tiles = getattr(picture, "tile", None) or [("", (), 0, "")]
    arguments = tiles[0][3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""
