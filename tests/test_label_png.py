"""The quick reader of plain PNGs gives what Pillow gives, leaves to it all that is not plain, and takes no
damaged pixels for labels."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from wsssbench.errors import BadData
from wsssbench.files import label_png
from wsssbench.files.label_png import SIGNATURE, plain_picture
from wsssbench.masks import read_labels, voc_palette, write_labels
from wsssbench_datasets.folder.label_code import LabelCode
from wsssbench_datasets.survey import read_mask

SEED = 20
GREY, COLOURED = 0, 3
Labels = np.ndarray


# ---------------------------------------------------------------------------------------- a PNG, byte by byte


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


FEW = chunk(b"PLTE", bytes(range(48)))  # a palette that ends before some labels


def head(labels: Labels, colour: int, depth: int = 8, interlaced: int = 0) -> bytes:
    height, width = labels.shape
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def guess(kind: int, left: int, up: int, corner: int) -> int:
    """What filter `kind` takes a byte for, from its three neighbours (W3C, PNG, section 9)."""
    nearest = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
    return (0, left, up, (left + up) // 2, nearest)[kind]


def filtered(labels: Labels, filters: Sequence[int]) -> bytes:
    """The rows of `labels`, each by its filter and behind the byte that names it."""
    padded = np.pad(labels.astype(int), ((1, 0), (1, 0)))
    rows = bytearray()
    for y, kind in enumerate(filters, 1):
        line = padded[y]
        rows.append(kind)
        for x in range(1, len(line)):
            rows.append((line[x] - guess(kind, line[x - 1], padded[y - 1, x], padded[y - 1, x - 1])) % 256)
    return bytes(rows)


def png(labels: Labels, filters: Sequence[int] = (), colour: int = COLOURED, parts: int = 1, level: int = 6,
        remarks: bytes = b"") -> bytes:  # fmt: skip
    stream = zlib.compress(filtered(labels, filters or [0] * len(labels)), level)
    step = -(-len(stream) // parts)
    body = b"".join(chunk(b"IDAT", stream[at : at + step]) for at in range(0, len(stream), step))
    palette = FEW if colour == COLOURED else b""
    return SIGNATURE + head(labels, colour) + remarks + palette + body + remarks + chunk(b"IEND")


def with_stream(labels: Labels, stream: bytes) -> bytes:
    return SIGNATURE + head(labels, GREY) + chunk(b"IDAT", stream) + chunk(b"IEND")


def by_pillow(path: Path) -> Labels | None:
    """What Pillow alone reads; None where it fails."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except Exception:
        return None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures") / "a.png"


def scene(shape: tuple[int, int] = (9, 14)) -> Labels:
    labels = np.zeros(shape, np.uint8)
    labels[2:6, 3:9], labels[5:, 8:] = 15, 255
    return labels


# ----------------------------------------------------------------------------------------------- what is read

shapes = st.tuples(st.integers(1, 8), st.integers(1, 8))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Labels, list[int], bytes]:
    """Labels, the filter of each row, and a PNG of them."""
    height, width = draw(shapes)
    values = draw(st.binary(min_size=height * width, max_size=height * width))
    labels = np.frombuffer(values, np.uint8).reshape(height, width)
    one = st.sampled_from([0, 1]).map(lambda kind: [kind] * height)
    filters = draw(one | st.lists(st.integers(0, 4), min_size=height, max_size=height))
    remarks = draw(st.sampled_from([b"", chunk(b"gAMA", bytes(4)) + chunk(b"pHYs", bytes(9))]))
    colour = draw(st.sampled_from([GREY, COLOURED]))
    parts, level = draw(st.integers(1, 3)), draw(st.integers(0, 9))
    return labels, filters, png(labels, filters, colour, parts, level, remarks)


@seed(SEED)
@settings(max_examples=100, deadline=None)
@given(picture=pictures())
def test_labels_are_read_as_pillow_reads_them_whatever_the_filters(
    place: Path, picture: tuple[Labels, list[int], bytes]
) -> None:
    labels, filters, content = picture
    place.write_bytes(content)
    found = read_labels(place)
    assert found.dtype == np.uint8
    assert np.array_equal(found, labels)
    assert np.array_equal(found, by_pillow(place))
    assert found.flags.writeable
    assert (plain_picture(place) is not None) == (set(filters) in ({0}, {1}))


@pytest.mark.parametrize("mode", ["P", "L"])
def test_pictures_that_pillow_writes_are_read(place: Path, mode: str) -> None:
    picture = Image.fromarray(scene())
    if mode == "P":
        picture.putpalette(bytes(768))
    picture.save(place)
    assert np.array_equal(read_labels(place), scene())
    assert mode == "L" or plain_picture(place) is not None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (40, 60)])
def test_written_labels_are_plain_and_read_alike_by_pillow(place: Path, shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8)
    write_labels(place, labels.T.copy().T)  # in any order of memory
    found = plain_picture(place)
    assert found is not None
    assert np.array_equal(found[0], labels)
    assert found[1] == voc_palette().tobytes()
    assert np.array_equal(by_pillow(place), labels)


NOT_PLAIN = {
    "16 bits": lambda: SIGNATURE + head(scene(), GREY, 16) + chunk(b"IDAT", zlib.compress(bytes(9 * 29))),
    "4 bits": lambda: SIGNATURE + head(scene(), COLOURED, 4) + chunk(b"PLTE", bytes(48))
    + chunk(b"IDAT", zlib.compress(bytes(9 * 8))),
    "interlaced": lambda: SIGNATURE + head(scene(), GREY, 8, 1) + chunk(b"IDAT", zlib.compress(bytes(150))),
    "colours": lambda: SIGNATURE + head(scene(), 2) + chunk(b"IDAT", zlib.compress(bytes(9 * 43))),
    "transparency": lambda: png(scene(), remarks=chunk(b"tRNS", b"\x00")),
    "a palette too long": lambda: png(scene()).replace(FEW, chunk(b"PLTE", bytes(771))),
    "a palette cut": lambda: png(scene()).replace(FEW, chunk(b"PLTE", bytes(7))),
    "no palette": lambda: png(scene()).replace(FEW, b""),
    "grey with a palette": lambda: png(scene(), colour=GREY, remarks=chunk(b"PLTE", bytes(9))),
    "a remark too short": lambda: png(scene(), remarks=chunk(b"pHYs", bytes(3))),
    "a stream too short": lambda: with_stream(scene(), zlib.compress(bytes(9 * 15 - 1))),
    "a stream too long": lambda: with_stream(scene(), zlib.compress(bytes(9 * 15 + 1))),
    "no end of the stream": lambda: with_stream(scene(), zlib.compress(bytes(9 * 15))[:-5]),
    "another sum": lambda: with_stream(scene(), zlib.compress(bytes(9 * 15))[:-1] + b"!"),
    "more after the stream": lambda: with_stream(scene(), zlib.compress(bytes(9 * 15)) + b"more"),
    "no stream": lambda: with_stream(scene(), b"text"),
    "a filter 7": lambda: with_stream(scene(), zlib.compress(bytes([7, *bytes(14)]) * 9)),
    "no pixels": lambda: with_stream(np.zeros((0, 4), np.uint8), zlib.compress(b"")),
    "pixels, text, pixels": lambda: SIGNATURE + head(scene(), GREY) + chunk(b"IDAT", b"\x78")
    + chunk(b"tIME", bytes(7)) + chunk(b"IDAT", zlib.compress(bytes(9 * 15))[1:]) + chunk(b"IEND"),
    "many chunks": lambda: png(scene(), remarks=chunk(b"tIME", bytes(7)) * 20),
    "an end too early": lambda: SIGNATURE + head(scene(), GREY) + chunk(b"IEND"),
    "a length beyond the file": lambda: png(scene())[:8] + b"\xff" * 4 + png(scene())[12:],
    "nothing but a signature": lambda: SIGNATURE,
    "nothing": lambda: b"",
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_what_is_not_plain_ends_as_if_pillow_alone_had_read_it(
    place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_png, "MOST_CHUNKS", 20)
    place.write_bytes(NOT_PLAIN[kind]())
    assert plain_picture(place) is None
    ends = []
    for _ in range(2):
        try:
            ends.append(read_labels(place).tolist())
        except BadData as error:
            ends.append(str(error))
        monkeypatch.setattr("wsssbench.masks.plain_picture", lambda path, hint: None)
    assert ends[0] == ends[1]


# ------------------------------------------------------------------------------------------------ what is not

READERS = {
    "prediction": read_labels,
    "truth": lambda path: read_mask(path, 255),
    "own data set": LabelCode(False, {k: k for k in range(256)}).read,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("colour", [COLOURED, GREY])
def test_a_flipped_bit_of_the_pixels_is_found(place: Path, reader: str, colour: int) -> None:
    content = png(scene(), colour=colour)
    for at in range(content.index(b"IDAT"), content.index(b"IEND") - 4):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        place.write_bytes(flipped)
        with pytest.raises(BadData, match="damaged"):
            READERS[reader](place)


@seed(SEED)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_as_pillow_reads_it(place: Path, data: st.DataObject) -> None:
    content = png(scene(), colour=data.draw(st.sampled_from([GREY, COLOURED])), parts=2)
    at, cut = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 9))
    content = content[:at] + data.draw(st.binary(max_size=9)) + content[at + cut :]
    place.write_bytes(content)
    with suppress(BadData):
        assert np.array_equal(read_labels(place), by_pillow(place))


def test_a_bomb_takes_no_more_memory_than_its_picture(place: Path) -> None:
    place.write_bytes(with_stream(scene(), zlib.compress(bytes(2**24))))
    plain_picture(place)
    tracemalloc.start()
    try:
        assert plain_picture(place) is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_picture_of_more_pixels_than_are_read_is_refused(place: Path) -> None:
    wide = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**14, 2**12, 8, 0, 0, 0, 0))
    place.write_bytes(wide + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND"))
    assert plain_picture(place) is None
    with pytest.raises(BadData, match="at most"):
        read_labels(place)


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    assert plain_picture(tmp_path) is None
    assert plain_picture(tmp_path / "none.png") is None


def test_a_file_larger_than_any_label_map_is_not_held_in_memory(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_bytes(png(scene()))
    monkeypatch.setattr(label_png, "MOST_BYTES", 99)
    assert plain_picture(place) is None
    assert np.array_equal(read_labels(place), scene())
