"""Label maps: what is written is read, torch and numpy resize alike, and the two rules decide as stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from wsssbench import masks
from wsssbench.errors import BadData, WsssError
from wsssbench.types import Maps


def some_labels(seed: int, shape: tuple[int, int] = (23, 31)) -> np.ndarray:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    return rng.choice(np.array([0, 1, 5, 20, 254, 255], np.uint8), shape)


def test_written_labels_are_read_back_and_carry_the_voc_palette(tmp_path):
    labels = some_labels(1)
    masks.write_labels(tmp_path / "deep" / "a.png", labels)
    assert np.array_equal(masks.read_labels(tmp_path / "deep" / "a.png"), labels)
    with Image.open(tmp_path / "deep" / "a.png") as picture:
        assert picture.mode == "P"
        assert picture.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
        assert picture.getpalette()[-3:] == [224, 224, 192]  # void
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.png"]  # no temporary file stays


def test_palette_agrees_with_the_colours_of_the_voc_devkit():
    palette = masks.voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    known = {1: (128, 0, 0), 7: (128, 128, 128), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert all(tuple(palette[k]) == colour for k, colour in known.items())
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I"])
def test_every_one_channel_mode_reads_as_its_indices(tmp_path, mode):
    labels = some_labels(2)
    wide = {"I;16": np.uint16, "I": np.int32}.get(mode, np.uint8)
    picture = Image.fromarray(labels.astype(wide))
    if mode == "P":  # a palette that would lie about the indices if it were applied
        picture.putpalette([7] * 768)
    file = tmp_path / ("a.tiff" if mode == "I" else "a.png")  # Pillow no longer writes mode I as PNG
    picture.save(file)
    read = masks.read_labels(file)
    assert read.dtype == np.uint8
    assert np.array_equal(read, labels)


def test_a_coloured_or_out_of_range_picture_is_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "rgb.png")
    Image.fromarray(np.full((4, 5), 300, np.uint16)).save(tmp_path / "wide.png")
    for name in ("rgb.png", "wide.png"):
        with pytest.raises(BadData, match=name):
            masks.read_labels(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.9])
def test_a_truncated_file_is_refused_by_name(tmp_path, share):
    masks.write_labels(tmp_path / "a.png", some_labels(3, (80, 90)))
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadData, match=r"cut\.png"):
        masks.read_labels(tmp_path / "cut.png")


def test_missing_and_foreign_files_are_refused_by_name(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("text.png", "none.png"):
        with pytest.raises(BadData, match=name):
            masks.read_labels(tmp_path / name)


def test_labels_of_a_wrong_type_are_not_written(tmp_path):
    with pytest.raises(WsssError, match="uint8"):
        masks.write_labels(tmp_path / "a.png", np.zeros((3, 3), np.int64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("small", "large"),
    [((7, 5), (28, 20)), ((12, 16), (97, 61)), ((1, 1), (9, 4)), ((40, 30), (13, 30)), ((6, 6), (6, 6))],
)
def test_resize_equals_torch_bilinear_without_aligned_corners(small, large):
    print("seed 4")
    values = np.random.default_rng(4).random((3, *small), dtype=np.float32)
    torch_says = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None], size=large, mode="bilinear", align_corners=False
    )[0].numpy()
    ours = masks.resize_bilinear(values, large)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, torch_says, rtol=0, atol=3e-7)


def test_resize_takes_no_planes_and_leaves_its_input_alone():
    assert masks.resize_bilinear(np.zeros((0, 4, 4), np.float32), (8, 9)).shape == (0, 8, 9)
    values = np.ones((1, 4, 4), np.float32)
    masks.resize_bilinear(values, (4, 4))[:] = 7
    assert values.max() == 1


def test_threshold_gives_the_strongest_class_or_background():
    values = np.array([[[0.2, 0.9, 0.3]], [[0.1, 0.5, 0.6]]], np.float32)
    maps = Maps(classes=np.array([1, 4]), values=values)
    assert masks.threshold_labels(maps, 0.3, (1, 3)).tolist() == [[0, 2, 5]]
    assert masks.threshold_labels(maps, 0.9, (1, 3)).tolist() == [[0, 0, 0]]  # equal does not exceed


def test_an_image_without_maps_is_all_background():
    maps = Maps(classes=np.zeros(0, np.int64), values=np.zeros((0, 3, 4), np.float32))
    labels = masks.threshold_labels(maps, 0.0, (6, 8))
    assert labels.shape == (6, 8)
    assert labels.dtype == np.uint8
    assert not labels.any()


def test_argmax_is_numpys_over_resized_planes_and_keeps_to_the_tags():
    print("seed 5")
    probs = np.random.default_rng(5).random((5, 6, 7), dtype=np.float32)
    resized = masks.resize_bilinear(probs, (25, 30))
    assert np.array_equal(masks.argmax_labels(probs, (25, 30)), resized.argmax(0))
    tags = np.array([False, True, False, True])
    tagged = masks.argmax_labels(probs, (25, 30), tags)
    assert np.array_equal(tagged, np.array([0, 2, 4])[resized[[0, 2, 4]].argmax(0)])
    assert not masks.argmax_labels(probs, (6, 7), np.zeros(4, bool)).any()


def test_argmax_refuses_tags_of_another_class_count():
    with pytest.raises(ValueError, match="3 tags"):
        masks.argmax_labels(np.zeros((5, 2, 2), np.float32), (2, 2), np.zeros(3, bool))
