"""The quick way from and to label maps on disk: plain PNGs of 8 bits, as nearly all label maps are.

What a PNG is (W3C recommendation "Portable Network Graphics"): a signature; chunks from IHDR to IEND, each
its length, its kind, data, and the CRC-32 of kind and data; in all IDAT chunks together one zlib stream of H
rows, each a filter byte and W bytes that are indices into the palette, or grey. Filter 0 leaves a row as it
is, filter 1 stands for differences to the byte on the left.

Chunks of any PNG are checked: Pillow leaves out the CRC of pixels, and reads one in fifteen flipped bits as
other labels. Pixels are read only where the whole file is as above; all others (more bits, other chunks or
filters, a stream that goes on or ends early) are left to `image_files` and its errors. Which labels are right
is for others.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from zlib_ng import zlib_ng  # takes a tenth of the time of zlib to unpack the same bytes

from wsssbench.files.image_files import MOST_PIXELS, RESTORE, FileFault

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Chunks = list[tuple[bytes, memoryview]]  # kind and data

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES, MOST_CHUNKS = 2**24, 10_000  # of a file that is looked at here; a large photograph has less
REMARKS = {b"gAMA": 4, b"pHYs": 9, b"sRGB": 1, b"tIME": 7}  # their bytes; they leave indices as they are
ORDER = re.compile(rb"IHDR(_)*(PLTE(_)*)?(IDAT)+(_)*IEND".replace(b"_", b"|".join(REMARKS)))
HEAD = struct.Struct(">I4s")  # of a chunk: its length and kind
LEVEL = 3  # of zlib: a label map takes a seventh of the time of the usual 6, half of it to read, 1 KB more
GREY, PALETTE = b"\x08\x00\x00\x00\x00", b"\x08\x03\x00\x00\x00"  # the end of IHDR: 8 bits, not interlaced


def plain_picture(path: Path | str, hint: str = RESTORE) -> tuple[NDArray[np.uint8], bytes] | None:
    """(H, W) uint8, the stored bytes of a whole 8-bit palette or grey PNG, and the palette's RGB triples,
    none of a grey one; None for any other file.

    FileFault for a chunk of any PNG whose CRC is wrong.
    """
    chunks = _chunks(_content(Path(path)), path, hint)
    if not ORDER.fullmatch(b"".join(kind for kind, _ in chunks)):
        return None
    if any(len(data) != REMARKS.get(kind, len(data)) for kind, data in chunks):
        return None
    stream = b"".join(data for kind, data in chunks if kind == b"IDAT")
    size = _size(chunks)
    pixels = _pixels(stream, *size) if size else None
    return None if pixels is None else (pixels, b"".join(data for kind, data in chunks if kind == b"PLTE"))


def label_png(labels: NDArray[np.uint8], palette: bytes) -> bytes:
    """A plain PNG of (H, W) uint8 `labels` with `palette`, three bytes for each of at most 256 colours."""
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # the first byte of a row is its filter
    rows[:, 1:] = labels
    head = width.to_bytes(4) + height.to_bytes(4) + PALETTE
    parts = ((b"IHDR", head), (b"PLTE", palette), (b"IDAT", zlib.compress(rows.data, LEVEL)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def _content(path: Path) -> bytes:
    """The bytes of a plain file of bearable size; none of any other: a pipe would be waited for, for ever."""
    try:
        about = path.stat()
        return path.read_bytes() if stat.S_ISREG(about.st_mode) and about.st_size <= MOST_BYTES else b""
    except OSError:
        return b""


def _chunks(content: bytes, path: Path | str, hint: str) -> Chunks:
    """All chunks up to IEND; none where they do not get there. FileFault for a wrong CRC."""
    found: Chunks = []
    view, start, most = memoryview(content), len(SIGNATURE), len(content) - 12  # no chunk has fewer bytes
    if not content.startswith(SIGNATURE):
        return []
    while start <= most and len(found) < MOST_CHUNKS:
        length, kind = HEAD.unpack_from(content, start)
        end = start + 8 + length
        if end + 4 > len(content):
            return []
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4]):
            what = f"this mask is truncated or damaged (wrong checksum of its {kind.decode('latin-1')})"
            raise FileFault("damaged mask", what, path, hint)
        found.append((kind, view[start + 8 : end]))
        if kind == b"IEND":
            return found
        start = end + 4
    return []


def _size(chunks: Chunks) -> tuple[int, int] | None:
    """(H, W) of a grey picture without a palette or a coloured one with it; None for any other."""
    head = bytes(chunks[0][1])
    width, height, form = int.from_bytes(head[:4]), int.from_bytes(head[4:8]), head[8:]
    palette = [len(data) for kind, data in chunks if kind == b"PLTE"]
    fits = form == PALETTE and palette[0] in range(3, 769, 3) if palette else form == GREY
    return (height, width) if fits and 0 < width * height <= MOST_PIXELS else None


def _pixels(stream: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
    """The rows in a zlib stream without their filters; None unless it holds them and ends with them."""
    inflate, size = zlib_ng.decompressobj(), height * (width + 1)
    try:
        raw: bytes = inflate.decompress(stream, size + 1)  # no more than that of a bomb
    except zlib_ng.error:  # type: ignore[misc]
        return None
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        return None
    filters, rows = raw[:: width + 1], np.frombuffer(raw, np.uint8).reshape(height, width + 1)[:, 1:]
    if filters == bytes(height):
        return rows.copy()
    return np.cumsum(rows, axis=1, dtype=np.uint8) if filters == b"\1" * height else None
