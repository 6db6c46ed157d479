"""The archive for the VOC server: equal bytes for equal labels, and a check that lets nothing wrong pass."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil

from wsssbench.dumps import verify_voc_archive, write_voc_archive
from wsssbench.errors import BadData
from wsssbench.masks import voc_palette

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
IDS = tuple(f"2008_{n:06d}" for n in range(6))
SIZES = {id: (10 + n, 14) for n, id in enumerate(IDS)}
LABELS = {id: np.random.default_rng(n).integers(0, 21, SIZES[id], dtype=np.uint8) for n, id in enumerate(IDS)}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "results.tgz"


def written(target: Path) -> Path:
    write_voc_archive(LABELS.__getitem__, IDS, SIZES, target, "comp6")
    return target


def png(labels: np.ndarray, palette: Any = None, mode: str = "P") -> bytes:
    picture = Pil.fromarray(labels)
    picture.putpalette(voc_palette().tobytes() if palette is None else palette)
    buffer = io.BytesIO()
    picture.convert(mode).save(buffer, format="PNG")
    return buffer.getvalue()


Members = list[tuple[tarfile.TarInfo, bytes]]


def members(path: Path) -> Members:
    with tarfile.open(path) as archive:
        return [(member, archive.extractfile(member).read()) for member in archive]  # type: ignore[union-attr]


def packed(path: Path, content: Members) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member, data in content:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("competition", ["comp5", "comp6"])
def test_the_archive_holds_palette_pngs_of_the_right_names_and_sizes(target: Path, competition: Any) -> None:
    write_voc_archive(LABELS.__getitem__, IDS, SIZES, target, competition)
    assert verify_voc_archive(target, IDS, SIZES) == competition
    folder = f"results/VOC2012/Segmentation/{competition}_test_cls"
    assert [member.name for member, _ in members(target)] == [f"{folder}/{id}.png" for id in IDS]
    for (_, data), id in zip(members(target), IDS, strict=True):
        with Pil.open(io.BytesIO(data)) as picture:
            assert picture.mode == "P"
            assert picture.getpalette() == voc_palette().ravel().tolist()
            np.testing.assert_array_equal(np.asarray(picture), LABELS[id])
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_the_whole_test_list_of_voc_fits(target: Path) -> None:
    ids = [f"2008_{n:06d}" for n in range(1456)]
    sizes = dict.fromkeys(ids, (4, 5))
    write_voc_archive(lambda id: np.zeros((4, 5), np.uint8), ids, sizes, target, "comp5")
    assert verify_voc_archive(target, ids, sizes) == "comp5"
    assert len(members(target)) == 1456
    with pytest.raises(BadData, match="no place"):
        verify_voc_archive(target, ids[:-1], sizes)


def test_equal_labels_give_equal_bytes_whenever_and_whoever_writes(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = written(target).read_bytes()
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert written(target.with_name("again.tgz")).read_bytes() == first
    member = members(target)[0][0]
    assert (member.mtime, member.uid, member.uname, member.mode) == (0, 0, "", 0o644)


WRONG_LABELS: dict[str, tuple[np.ndarray, str]] = {
    "void": (np.full(SIZES[IDS[0]], 255, np.uint8), r"label 255 is outside 0\.\.20"),
    "a class too many": (np.full(SIZES[IDS[0]], 21, np.uint8), "label 21"),
    "another size": (np.zeros((14, 10), np.uint8), r"\(14, 10\), the image \(10, 14\)"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_wrong_labels_are_named_and_leave_no_archive(target: Path, case: str) -> None:
    labels, message = WRONG_LABELS[case]
    with pytest.raises(BadData, match=message) as caught:
        write_voc_archive(lambda id: labels, IDS, SIZES, target, "comp6")
    assert IDS[0] in caught.value.where
    assert not target.exists()


@pytest.mark.parametrize(
    ("ids", "competition", "message"),
    [
        (IDS, "comp4", "not a competition"),
        ((), "comp6", "empty list"),
        ((IDS[0], IDS[0]), "comp6", "stands twice"),
        (("../../x",), "comp6", "not an id"),
        (("a/b",), "comp6", "not an id"),
        (("2099_000001",), "comp6", "size of image 2099_000001 is not known"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    target: Path, ids: tuple[str, ...], competition: Any, message: str
) -> None:
    with pytest.raises(BadData, match=message):
        write_voc_archive(LABELS.__getitem__, ids, SIZES, target, competition)


def renamed(name: str) -> Callable[[Members], Members]:
    def change(content: Members) -> Members:
        content[2][0].name = name
        return content

    return change


def replaced(data: bytes) -> Callable[[Members], Members]:
    return lambda content: [*content[:2], (content[2][0], data), *content[3:]]


def special(kind: bytes, name: str = "extra", link: str = "") -> Callable[[Members], Members]:
    def change(content: Members) -> Members:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        return [*content, (member, b"")]

    return change


def added(name: str) -> Callable[[Members], Members]:
    return lambda content: [*content, (tarfile.TarInfo(name), content[0][1])]


OWN = LABELS[IDS[2]]
GREY = np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes()
LINK, FOLDER_TYPE, HARD = tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE
WRONG_ARCHIVES: dict[str, tuple[Callable[[Members], Members], str]] = {
    "one missing": (lambda content: content[1:], f"1 of 6 images are missing: {IDS[0]}"),
    "none": (lambda content: [], "6 of 6"),
    "one twice": (lambda content: [*content, content[0]], "stands twice"),
    "one more": (added(f"{FOLDER}/2009_000001.png"), "no place"),
    "a note": (added(f"{FOLDER}/README"), "no place"),
    "a parent": (renamed(f"{FOLDER}/../{IDS[2]}.png"), "no place"),
    "out of it": (added(f"../{IDS[2]}.png"), "no place"),
    "absolute": (renamed(f"/{FOLDER}/{IDS[2]}.png"), "no place"),
    "a dot": (renamed(f"./{FOLDER}/{IDS[2]}.png"), "no place"),
    "another folder": (renamed(f"results/VOC2012/{IDS[2]}.png"), "no place"),
    "both competitions": (renamed(f"{FOLDER.replace('6', '5')}/{IDS[2]}.png"), "no place"),
    "a link": (special(LINK, link="/etc/hostname"), "not a plain file"),
    "a hard link": (special(HARD, link=f"{FOLDER}/{IDS[0]}.png"), "not a plain file"),
    "a link in place": (
        lambda content: special(LINK, f"{FOLDER}/{IDS[0]}.png", "x")(content[1:]),
        "not a plain file",
    ),
    "a folder": (special(FOLDER_TYPE, "results"), "not a plain file"),
    "a device": (special(tarfile.CHRTYPE), "not a plain file"),
    "void": (replaced(png(np.full_like(OWN, 255))), "label 255"),
    "a class too many": (replaced(png(np.full_like(OWN, 21))), "label 21"),
    "another size": (replaced(png(OWN[1:])), r"\(11, 14\), the image \(12, 14\)"),
    "colours": (replaced(png(OWN, mode="RGB")), "mode RGB"),
    "grey": (replaced(png(OWN, mode="L")), "mode L"),
    "another palette": (replaced(png(OWN, GREY)), "palette is not VOC's"),
    "no picture": (replaced(b"hello"), "picture cannot be read"),
    "half a picture": (replaced(png(OWN)[:-40]), "cannot be read"),
    "nothing": (replaced(b""), "picture cannot be read"),
}


@pytest.mark.parametrize("case", WRONG_ARCHIVES)
def test_an_archive_with_one_fault_is_refused(target: Path, case: str) -> None:
    change, message = WRONG_ARCHIVES[case]
    packed(target, change(members(written(target))))
    with pytest.raises(BadData, match=message) as caught:
        verify_voc_archive(target, IDS, SIZES)
    assert str(target) in caught.value.where
    assert caught.value.hint


def test_the_control_of_these_faults_is_an_archive_that_passes(target: Path) -> None:
    packed(target, members(written(target)))
    assert verify_voc_archive(target, IDS, SIZES) == "comp6"


def test_a_missing_damaged_or_swollen_archive_is_one_clear_error(target: Path) -> None:
    with pytest.raises(BadData, match="no such archive"):
        verify_voc_archive(target, IDS, SIZES)
    data = written(target).read_bytes()
    for content in (data[: len(data) // 2], b"hello", b"", data[:40] + b"\x00" * 40 + data[80:]):
        target.write_bytes(content)
        with pytest.raises(BadData) as caught:
            verify_voc_archive(target, IDS, SIZES)
        assert str(target) in caught.value.where
    target.write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(BadData, match="unpacks to more"):
        verify_voc_archive(target, IDS, SIZES)
