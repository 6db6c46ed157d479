"""Palette PNGs whose class numbers a program has renumbered: read by VOC's colours where these are known,
else refused; and all other palettes, which say nothing, left alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from wsssbench.cli.main import main
from wsssbench.dumps import read_dump
from wsssbench.errors import BadData
from wsssbench.files import label_palette
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.files.label_png import label_png
from wsssbench.masks import read_labels, voc_palette, write_labels
from wsssbench_datasets.voc12.dataset import Voc12, Voc12Config

K = 20
CAMVID = (  # sky, building ... bicyclist, void: all of them are colours of VOC's palette
    (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
    (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192), (0, 0, 0),
)  # fmt: skip
# `optimized()` as oxipng-pybind 10.2.1.post1 and zopflipy 1.14 wrote it: 0, 8, 15, 255 as indices 0..3
OXIPNG = """
iVBORw0KGgoAAAANSUhEUgAAAFoAAAA8AgMAAACba0XWAAAADFBMVEUAAADg4MDAgIBAAAB935lKAAAAKklEQVR42mMIxQoCGEgG
/////z9A4r9WrVrAgAVwjYojxEfBKBgFQw0AABhHOV6u74eJAAAAAElFTkSuQmCC
"""
ZOPFLIPNG = """
iVBORw0KGgoAAAANSUhEUgAAAFoAAAA8AgMAAACba0XWAAAADFBMVEXg4MAAAABAAADAgIBqOh4/AAAALElEQVR4AWPABUKxggDc
4quAYIDE1////xWbO+Nxi4+KQ8GgFR8VHxUfFQcAzDTjU3L3PnYAAAAASUVORK5CYII=
"""


def scene() -> np.ndarray:
    """(24, 36) uint8 of background, labels 3, 8 and 15, and void."""
    labels = np.zeros((24, 36), np.uint8)
    labels[3:9, 4:20], labels[8:21, 18:30], labels[22, 5:9], labels[0] = 8, 15, 3, 255
    return labels


def optimized() -> np.ndarray:
    """(60, 90) uint8: what the two files hold."""
    labels = np.zeros((60, 90), np.uint8)
    labels[3:9, 4:20], labels[8:21, 18:30], labels[0] = 8, 15, 255
    return labels


def renumbered(path: Path, labels: np.ndarray, seed: int = 0, table: np.ndarray | None = None) -> Path:
    """`labels` in the colours of `table`, numbered in any order and without the colours that do not occur."""
    order = np.random.default_rng(seed).permutation(np.unique(labels))
    while (order == np.unique(labels)).all() and (order == np.arange(len(order))).all():
        order = order[::-1]
    place = np.zeros(256, np.uint8)
    place[order] = np.arange(len(order))
    return with_palette(path, place[labels], (voc_palette() if table is None else table)[order])


def with_palette(path: Path, indices: np.ndarray, table: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(label_png(indices, np.asarray(table, np.uint8).tobytes()))
    return path


def watch(classes: int = K, **how: Any) -> LabelPalettes:
    return LabelPalettes(classes, **how)


# --------------------------------------------------------------------------------------------- by the colours


@pytest.mark.parametrize("seed", range(6))
def test_renumbered_labels_are_read_by_the_colours_of_voc(tmp_path: Path, seed: int) -> None:
    path = renumbered(tmp_path / "a.png", scene(), seed)
    assert not np.array_equal(read_labels(path), scene())
    assert np.array_equal(read_labels(path, watch(meaning="voc")), scene())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_palettes_of_few_bits_and_of_pillows_quantizer_are_read_too(tmp_path: Path, bits: int) -> None:
    labels = np.where(scene() == 3, 0, scene()).astype(np.uint8)  # four labels fit into two bits
    Pil.fromarray(voc_palette()[labels]).quantize(21).save(tmp_path / "a.png", bits=bits)
    assert np.array_equal(read_labels(tmp_path / "a.png", watch(meaning="voc")), labels)


@pytest.mark.parametrize("data", [OXIPNG, ZOPFLIPNG], ids=["oxipng", "zopflipng"])
def test_what_optimisers_write_is_read_as_it_was(tmp_path: Path, data: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(base64.b64decode(data))
    assert sorted(np.unique(read_labels(path))) == [0, 1, 2, 3]
    assert np.array_equal(read_labels(path, watch(meaning="voc")), optimized())
    with pytest.raises(BadData, match=r"VOC's colours at other places: index \d has") as caught:
        read_dump(path, K)
    assert "`palette-colours`" in caught.value.hint
    assert np.array_equal(read_dump(path, K, "palette-colours").labels, optimized())


def test_a_named_format_settles_what_a_palette_says(tmp_path: Path) -> None:
    path = renumbered(tmp_path / "a.png", scene())
    assert np.array_equal(read_dump(path, K, "index").labels, read_labels(path))
    assert np.array_equal(read_dump(path, K, "palette-colours").labels, scene())
    other = with_palette(tmp_path / "b.png", scene() % 5, [(1, 2, 3)] * 5)
    with pytest.raises(BadData, match=r"\(1, 2, 3\) of index 0 is not in the VOC palette"):
        read_dump(other, K, "palette-colours")
    Pil.fromarray(scene()).save(tmp_path / "grey.png")
    with pytest.raises(BadData, match="this is not a palette-colours file"):
        read_dump(tmp_path / "grey.png", K, "palette-colours")


# ---------------------------------------------------------------------------------- palettes that say nothing

GREY = [(i, i, i) for i in range(256)]
JET = [(0, 0, 128 + 4 * i) for i in range(32)]  # the first of matplotlib's jet is VOC's colour of label 4
SILENT: dict[str, tuple[np.ndarray, Any]] = {
    "VOC's own": (scene(), voc_palette()),
    "the begin of VOC's": (scene() % 16, voc_palette()[:16]),
    "grey": (scene(), GREY),
    "all black": (scene(), [(0, 0, 0)] * 256),
    "a tool's own": (scene() % 3, [(0, 0, 0), (255, 0, 0), (0, 255, 0)]),
    "one that begins with a colour of VOC's": (np.zeros((5, 6), np.uint8), JET),
    "one that ends before some labels": (scene() % 16, [(0, 0, 0), (0, 128, 0), (128, 0, 0)]),
    "VOC's colours that are not labels here": (scene() % 12, CAMVID),
}


@pytest.mark.parametrize("name", SILENT)
@pytest.mark.parametrize("meaning", ["", "voc"])
def test_numbers_hold_under_any_other_palette(tmp_path: Path, name: str, meaning: str) -> None:
    indices, table = SILENT[name]
    palettes = watch(11 if table is CAMVID else K, meaning=meaning)
    for number in range(3):
        path = with_palette(tmp_path / f"{number}.png", np.roll(indices, number, 1), table)
        assert np.array_equal(read_labels(path, palettes), np.roll(indices, number, 1))


def test_palettes_of_random_colours_in_every_file_leave_the_numbers_alone(tmp_path: Path) -> None:
    palettes = watch()
    for number in range(8):
        table = np.random.default_rng(number).integers(0, 256, (256, 3))
        table[0] = 0
        path = with_palette(tmp_path / f"{number}.png", scene(), table)
        assert np.array_equal(read_labels(path, palettes), scene())


def test_a_palette_that_is_known_costs_no_look_at_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    used = label_palette._used
    monkeypatch.setattr(label_palette, "_used", lambda indices: (looks.append(1), used(indices))[1])
    palettes = watch()
    for number in range(5):
        write_labels(tmp_path / f"{number}.png", scene())
        assert np.array_equal(read_labels(tmp_path / f"{number}.png", palettes), scene())
    assert len(looks) == 1


# ------------------------------------------------------------------------------------------- several files


def test_a_colour_of_two_numbers_in_two_files_proves_that_one_was_renumbered(tmp_path: Path) -> None:
    table = np.array([(10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
    palettes, labels = watch(3), np.array([[0, 1], [1, 3]], np.uint8)
    first = renumbered(tmp_path / "a.png", np.array([[0, 2], [2, 3]], np.uint8), 0, table)
    read_labels(first, palettes)
    second = with_palette(tmp_path / "b.png", np.array([[2, 1], [1, 0]], np.uint8), table[[3, 1, 0]])
    with pytest.raises(BadData, match="the palette was renumbered: the colour") as caught:
        read_labels(second, palettes)
    assert "a.png" in caught.value.what
    assert caught.value.where == str(second)
    same = watch(3)
    for name in ("c.png", "d.png"):
        assert np.array_equal(read_labels(with_palette(tmp_path / name, labels, table), same), labels)


# ------------------------------------------------------------------------------------------- whole data sets


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def miou(*arguments: object) -> float:
    result = call("score", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return float(json.loads(result.stdout)["scores"]["iou"]["miou"])


@pytest.fixture
def voc(voc_tree: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    return voc_tree


def test_predictions_truth_and_imports_of_voc_are_read_by_colours(voc: Any) -> None:
    data = Voc12(Voc12Config(root=str(voc.root)), 0)
    truth = {id: data.mask(id) for id in data.ids("val")}
    for seed, (id, mask) in enumerate(truth.items()):
        renumbered(Path("pred") / f"{id}.png", mask, seed)
    arguments = ("--dataset", "voc12", "-o", f"voc12.root={voc.root}")
    assert miou("pred", *arguments, "--as", "theirs") == 100
    run = call("run", "--method", "import:pred", *arguments, "--stages", "seg", "-q", "--device", "cpu")
    assert run.exit_code == 0, run.output
    assert "| 100.0" in run.output
    for seed, (id, mask) in enumerate(truth.items()):
        renumbered(voc.mask(id), mask, seed + 1)
        assert np.array_equal(data.mask(id), mask)
    assert "all files are usable" in call("prepare", *arguments[1:]).output
    assert miou("pred", *arguments, "--as", "theirs") == 100


def own_data(root: Path, keys: str = "") -> dict[str, np.ndarray]:
    """A described data set of three classes: two images to learn from, two to judge; id -> mask."""
    masks: dict[str, np.ndarray] = {}
    (root / "images").mkdir(parents=True)
    for number, id in enumerate(("a1", "a2", "b1", "b2")):
        mask = np.zeros((24, 36), np.uint8)
        mask[2:9, 3:15], mask[12:20, 18:30] = 1 + number % 3, 1 + (number + 1) % 3
        pixels = np.random.default_rng(number).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
        Pil.fromarray(pixels).save(root / "images" / f"{id}.png")
        write_labels(root / "masks" / f"{id}.png", mask)
        masks[id] = mask
    for split in "ab":
        (root / f"{split}.txt").write_text(f"{split}1\n{split}2\n")
    head = 'name = "own"\nclasses = ["x", "y", "z"]\ntags = "masks"\n'
    (root / "dataset.toml").write_text(f'{head}{keys}\n[splits]\ntrain = "a.txt"\nval = "b.txt"\n')
    return masks


def test_renumbered_truth_of_ones_own_data_is_refused_unless_its_colours_are_named(tmp_path: Path) -> None:
    masks = own_data(tmp_path / "own")
    for seed, (id, mask) in enumerate(masks.items()):
        renumbered(tmp_path / "own" / "masks" / f"{id}.png", mask, seed)
    arguments = ("folder", "-o", f"folder.root={tmp_path / 'own'}")
    found = call("prepare", *arguments)
    assert found.exit_code == 1
    assert "mask palette: 4 images" in found.output
    toml = tmp_path / "own" / "dataset.toml"
    toml.write_text('palette = "voc"\n' + toml.read_text())
    assert "all files are usable" in call("prepare", *arguments).output


def test_renumbered_predictions_for_ones_own_data_are_refused_until_the_user_says(tmp_path: Path) -> None:
    masks = own_data(tmp_path / "own")
    for seed, id in enumerate(("b1", "b2")):
        renumbered(tmp_path / "pred" / f"{id}.png", masks[id], seed)
    arguments = (tmp_path / "pred", "--dataset", "folder", "-o", f"folder.root={tmp_path / 'own'}")
    arguments += ("--as", "theirs", "--runs", tmp_path / "runs")
    refused = call("score", *arguments)
    assert refused.exit_code == 2
    assert "its palette has VOC's colours at other places" in refused.output
    assert miou(*arguments, "--format", "palette-colours") == 100
    assert miou(*arguments, "--format", "index") < 60


def test_masks_and_predictions_of_a_tool_with_its_own_palette_keep_their_numbers(tmp_path: Path) -> None:
    masks = own_data(tmp_path / "own")
    table = [(0, 0, 0), (0, 128, 0), (250, 1, 2), (128, 0, 0)]  # two of VOC's colours, one of its own
    for id, mask in masks.items():
        for folder in ("own/masks", "pred"):
            with_palette(tmp_path / folder / f"{id}.png", mask, table)
    root = ("-o", f"folder.root={tmp_path / 'own'}")
    assert "all files are usable" in call("prepare", "folder", *root).output
    arguments = (
        tmp_path / "pred",
        "--dataset",
        "folder",
        *root,
        "--as",
        "theirs",
        "--runs",
        tmp_path / "runs",
    )
    assert miou(*arguments) == 100
