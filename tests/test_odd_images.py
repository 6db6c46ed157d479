"""Pictures that are not what a loader expects: each is read by the documented rule, or refused by its
name, by the reader, by `prepare` and by a real run."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.dumps import read_dump
from wsssbench.errors import BadData
from wsssbench.files.image_files import MOST_PIXELS, FileFault, is_turned, opened, picture_size, read_rgb
from wsssbench.masks import read_labels
from wsssbench.records.finding import find_records
from wsssbench_datasets.folder.code import read_code
from wsssbench_datasets.survey import TURNED, read_mask

PIXELS = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
ORIENTATION = 0x0112


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any bit depth and colour type; `rows` as they lie in it, filter bytes included."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def saved(form: str, mode: str = "RGB", **more: Any) -> bytes:
    buffer = io.BytesIO()
    Pil.fromarray(PIXELS).convert(mode).save(buffer, form, **more)
    return buffer.getvalue()


def turned(form: str = "JPEG") -> bytes:
    """A picture whose EXIF data asks to turn it by 90 degrees."""
    exif = Pil.Exif()
    exif[ORIENTATION] = 6
    return saved(form, exif=exif.tobytes())


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


# --------------------------------------------------------------------------------------- what becomes RGB


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    path = write(tmp_path / "a.png", saved("PNG", mode))
    found = read_rgb(path)
    assert found.dtype == np.uint8
    assert found.shape == (9, 12, 3) == (*picture_size(path), 3)
    wanted = Pil.fromarray(PIXELS).convert(mode)
    assert np.array_equal(found, np.array(wanted.convert("RGB")))


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("TIFF", "YCbCr")]
)
def test_other_colour_spaces_of_photographs_become_rgb(tmp_path: Path, form: str, mode: str) -> None:
    path = write(tmp_path / "a.jpg", saved(form, mode, **({"quality": 95} if form == "JPEG" else {})))
    try:
        with Pil.open(path) as picture:
            picture.load()
    except OSError:
        pytest.skip(f"this Pillow cannot read the {form} in {mode} that it writes")
    found = read_rgb(path)
    wanted = np.array(Pil.fromarray(PIXELS).convert("L" if mode == "L" else "RGB").convert("RGB"))
    assert np.abs(found.astype(int) - wanted).mean() < 40  # JPEG keeps noise badly


def test_transparency_of_a_palette_is_left_out_in_silence(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", saved("PNG", "P", transparency=bytes([0, 128] * 64)))
    assert read_rgb(path).shape == (9, 12, 3)  # a warning would be an error here


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_not_applied_since_masks_are_drawn_as_stored(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "a.jpg", turned(form))
    assert is_turned(path)
    assert not is_turned(write(tmp_path / "b.jpg", saved(form)))
    assert read_rgb(path).shape == (9, 12, 3)
    assert picture_size(path) == (9, 12)
    assert read_rgb(path, upright=True).shape == (12, 9, 3)  # one's own pictures in `predict`


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # what Pillow says of it
def test_damaged_exif_data_do_not_keep_a_picture_from_being_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", saved("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert not is_turned(path)
    assert read_rgb(path).shape == (9, 12, 3)


# ---------------------------------------------------------------------------------------- what is refused

DEEP = {
    "16-bit grey": png(2, 1, 16, 0, b"\0" + b"\x9c\x40" * 2),  # Pillow alone would make it white
    "16-bit grey and alpha": png(2, 1, 16, 4, b"\0" + b"\x9c\x40" * 4),
    "16-bit colour": png(2, 1, 16, 2, b"\0" + b"\x9c\x40" * 6),
    "whole numbers": saved("TIFF", "I"),
    "floating point": saved("TIFF", "F"),
    "LAB": saved("TIFF", "RGB").replace(b"\x06\x01\x03\0\x01\0\0\0\x02\0", b"\x06\x01\x03\0\x01\0\0\0\x08\0"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_eight_bits_and_other_colours_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "odd.png", DEEP[kind])
    for read in (read_rgb, picture_size):
        with pytest.raises(FileFault, match="which no rule turns into") as caught:
            read(path)
        assert caught.value.where == str(path)
        assert caught.value.kind == "image mode"
        assert caught.value.hint


LIES = {
    "text": b"this is not a picture",
    "nothing": b"",
    "gif": saved("GIF"),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "cut off": saved("JPEG")[:200],
    "a bomb": png(100_000, 100_000, 8, 2, b"\0"),
    "a real bomb": png(8001, 8000, 8, 0, bytes(8002 * 8000)),
    "no pixels": png(0, 4, 8, 0, b"\0"),
}


@pytest.mark.parametrize("kind", LIES)
def test_what_is_no_photograph_is_refused_and_no_other_program_is_asked(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*arguments: object, **more: object) -> None:
        raise AssertionError(f"a program was started: {arguments}")

    for name in ("subprocess.Popen", "subprocess.check_call", "os.system"):
        monkeypatch.setattr(name, started)
    path = write(tmp_path / "lie.jpg", LIES[kind])
    with pytest.raises(FileFault) as caught:
        read_rgb(path)
    assert caught.value.where == str(path)
    assert caught.value.kind == "damaged image"


def test_content_and_not_the_name_says_what_a_picture_is(tmp_path: Path) -> None:
    assert np.array_equal(read_rgb(write(tmp_path / "a.jpg", saved("PNG"))), PIXELS)
    assert np.array_equal(read_rgb(write(tmp_path / "a.png", saved("BMP"))), PIXELS)


def test_a_pipe_and_a_folder_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg", "nowhere.jpg"):
        with pytest.raises(FileFault, match="missing, or no plain file"):
            read_rgb(tmp_path / name)


def test_a_picture_of_ten_thousand_pixels_is_read_and_the_largest_is_stated(tmp_path: Path) -> None:
    Pil.fromarray(np.zeros((3, 10_000, 3), np.uint8)).save(tmp_path / "wide.png")
    assert read_rgb(tmp_path / "wide.png").shape == (3, 10_000, 3)
    assert MOST_PIXELS == 10_000 * 6_400
    with pytest.raises(FileFault, match="64,000,000"):
        picture_size(write(tmp_path / "larger.png", png(10_000, 6_401, 8, 2, b"\0")))


def test_an_error_of_the_reader_itself_is_not_taken_for_a_damaged_picture(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", saved("PNG"))
    with pytest.raises(KeyboardInterrupt), opened(path, "image"):
        raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------- masks


def fourbit() -> bytes:
    """A grey PNG of 4 bits whose pixels are 0 and 1: Pillow reads 0 and 17, which is a sheep."""
    return png(2, 1, 4, 0, b"\0\x01")


MASK_READERS: dict[str, Callable[[Path], Any]] = {
    "voc": lambda path: read_mask(path, 20),
    "labels": read_labels,
    "folder": read_code({}, ("cat",), Path("dataset.toml")).read,
    "dump": lambda path: read_dump(path, 20),
}


@pytest.mark.parametrize("reader", MASK_READERS)
def test_a_mask_whose_values_would_be_spread_is_refused(tmp_path: Path, reader: str) -> None:
    path = write(tmp_path / "a.png", fourbit())
    with pytest.raises(BadData, match=r"2 or 4 bits|8 bits") as caught:
        MASK_READERS[reader](path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("reader", MASK_READERS)
@pytest.mark.parametrize("kind", ["text", "nothing", "gif", "eps", "a bomb", "a real bomb"])
def test_no_mask_reader_takes_what_is_no_mask(tmp_path: Path, reader: str, kind: str) -> None:
    path = write(tmp_path / "a.png", LIES[kind])
    with pytest.raises(BadData) as caught:
        MASK_READERS[reader](path)
    assert caught.value.where == str(path)


def test_a_jpeg_is_no_mask_since_it_does_not_keep_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", saved("JPEG", "L"))
    with pytest.raises(BadData, match="none of PNG, BMP, TIFF"):
        read_labels(path)


def test_a_large_coloured_mask_is_decoded_in_blocks_to_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = np.zeros((50, 7, 3), np.uint8)
    colours[20:, 3:] = 128, 0, 0
    Pil.fromarray(colours).save(tmp_path / "a.png")
    code = read_code({"palette": "voc"}, ("cat",), tmp_path / "dataset.toml")
    whole = code.read(tmp_path / "a.png"), read_dump(tmp_path / "a.png", 1).labels
    monkeypatch.setattr("wsssbench.files.image_files.BLOCK_PIXELS", 20)
    blocks = code.read(tmp_path / "a.png"), read_dump(tmp_path / "a.png", 1).labels
    assert whole[0].sum() == 30 * 4
    assert all(np.array_equal(whole[0], other) for other in (whole[1], *blocks))


# --------------------------------------------------------------------------------- `prepare` and real runs


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def replace(voc: Any, id: str, data: bytes) -> None:
    """Put a picture in the place of an image, and masks of its size."""
    voc.image(id).write_bytes(data)
    with Pil.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    for folder in ("SegmentationClass", "SegmentationClassAug"):
        if voc.mask(id, folder).exists():
            mask = np.zeros((height, width), np.uint8)
            mask.flat[: max(1, mask.size // 2)] = voc.classes[id][0] + 1
            Pil.fromarray(mask).save(voc.mask(id, folder))


def sized(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Pil.fromarray(np.full((height, width, 3), 99, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def run(voc: Any, runs: Path, stages: str, *methods: str) -> Result:
    chosen = [word for method in methods for word in ("--method", method)]
    tiny = [word for step in ("cam", "rrm") for word in ("-o", f"{step}.preset=tiny")]
    base = ["run", "--dataset", "voc12", "-o", f"voc12.root={voc.root}", "--device", "cpu", "-q"]
    return call(*base, "--runs", runs, "--stages", stages, *chosen, *tiny)


def test_a_run_over_odd_pictures_ends_well_and_prepare_notes_the_turned_one(
    voc_tree: Any, tmp_path: Path
) -> None:
    train, val = voc_tree.splits["train_aug"], voc_tree.splits["val"]
    for id, data in zip(train, (sized(1, 1), saved("PNG", "P"), saved("JPEG", "CMYK"), saved("JPEG", "L")),
                        strict=True):  # fmt: skip
        replace(voc_tree, id, data)
    replace(voc_tree, val[0], turned())
    replace(voc_tree, val[1], sized(2, 10_000))
    prepared = call("prepare", "voc12", "-o", f"voc12.root={voc_tree.root}")
    assert prepared.exit_code == 0, prepared.output
    assert f"{TURNED}: 1 images, e.g. {val[0]}" in prepared.output
    # 14 of the 20 classes have no image to learn from
    done = run(voc_tree, tmp_path / "runs", "pseudo,seg+crf", "cam > crf", "rrm")
    assert done.exit_code == 0, done.output
    records = [stored.record for stored in find_records(tmp_path / "runs")]
    assert [r.status for r in records] == ["ok"] * 3
    for path in (tmp_path / "runs").rglob(f"seg+crf*/masks/{val[1]}.png"):
        assert read_labels(path).shape == (2, 10_000)


@pytest.mark.parametrize("kind", ["16-bit grey", "a bomb", "text", "gif"])
def test_a_run_and_prepare_refuse_a_picture_by_its_name(voc_tree: Any, tmp_path: Path, kind: str) -> None:
    id = voc_tree.splits["val"][0]
    voc_tree.image(id).write_bytes({**DEEP, **LIES}[kind])
    prepared = call("prepare", "voc12", "-o", f"voc12.root={voc_tree.root}")
    assert prepared.exit_code == 1
    assert f"{id}.jpg" in prepared.output
    done = run(voc_tree, tmp_path / "runs", "pseudo,seg", "constant")
    assert done.exit_code == 1, done.output
    found = {r.identity.terms.stage: r for r in (stored.record for stored in find_records(tmp_path / "runs"))}
    assert {stage: r.status for stage, r in found.items()} == {"pseudo": "ok", "seg": "failed"}
    assert f"{id}.jpg" in found["seg"].reason


def test_a_mask_turned_against_its_image_says_so(voc_tree: Any) -> None:
    id = voc_tree.splits["val"][0]
    replace(voc_tree, id, turned())
    with Pil.open(voc_tree.mask(id)) as mask:
        mask.transpose(Pil.Transpose.ROTATE_90).save(voc_tree.mask(id))
    with pytest.raises(BadData, match="9x12 px for an image of 12x9 px") as caught:
        read_mask(voc_tree.mask(id), 20, picture_size(voc_tree.image(id)))
    assert "without EXIF rotation" in caught.value.hint
