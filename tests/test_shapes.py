"""The generated data set: frozen bytes, honest tags and masks, and the difficulties its options promise."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from wsssbench.errors import BadData, UnknownName, WsssError
from wsssbench.types import View
from wsssbench_datasets.shapes.dataset import Shapes, ShapesConfig
from wsssbench_datasets.shapes.forms import COMPASS, PATTERNS, disc
from wsssbench_datasets.shapes.random import Draws, value_noise
from wsssbench_datasets.shapes.scene import BODY_SEEN, PART_SEEN, Layout

PRESETS: dict[str, Any] = {
    "default": {},
    "random-part": {"part_colour": "random"},
    "nine": {"classes": 9, "max_objects": 4},
    **Shapes.presets,
}

# sha256 of five images and masks. These bytes are published results' input: a change here is a new generator
# and needs a new VERSION in shapes_scene.py, never just a new value.
FROZEN = {
    ("default", 0): "61a383710a539065f2131a6c38644da8",
    ("default", 1000): "9e3eaf435986aa4cc51cad2bb1294cb5",
    ("random-part", 0): "5b405901f1e7c8673c017eb8903b5991",
    ("random-part", 1000): "452d201ffd9fa13a84da66f17ee06445",
    ("nine", 0): "880394cedfd30443a3c1d5b98b900a10",
    ("nine", 1000): "2acf9bec7a6d87140b51d9f0bcee2ae4",
    ("two-tone", 0): "dfe290477cb4615753769f3debf32c95",
    ("two-tone", 1000): "2b9f84ec6eee4c5d06f43934a8e82f6c",
    ("camouflage", 0): "e00a8654bd5a577a5d8658ea9ce00377",
    ("camouflage", 1000): "bcb96bd917b03d7f39a94d4363429d03",
    ("class-body", 0): "30724865011a83ce2ef56e7daf456930",
    ("class-body", 1000): "bb0c08d36dd1d0f722240378912aba2f",
    ("context", 0): "a36646558bd25a76f04412e4838d4096",
    ("context", 1000): "165f5e9714dc7ba0e61ca86cc83c0760",
    ("tiny", 0): "e10808860c0c113ead7dfd39734ed48e",
    ("tiny", 1000): "894aeb205818dcec2a55f406aa8e05e7",
}


def shapes(seed: int = 1000, **options: Any) -> Shapes:
    return Shapes(ShapesConfig(**{"train": 60, "val": 20, **options}), seed)


def digest(data: Shapes) -> str:
    sha = hashlib.sha256()
    for id in (*data.ids("train")[:3], *data.ids("val")[:2]):
        sha.update(data.image(id).tobytes() + data.mask(id).tobytes())
    return sha.hexdigest()[:32]


def layouts(data: Shapes) -> list[Layout]:
    return [data.layout(id) for id in data.ids("train")]


# ---------------------------------------------------------------------------------------- bytes and streams


@pytest.mark.parametrize("seed", [0, 1000])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_bytes_of_a_preset_and_seed_are_frozen(preset: str, seed: int) -> None:
    assert digest(shapes(seed, **PRESETS[preset])) == FROZEN[preset, seed]


def test_the_raw_stream_is_frozen() -> None:
    draws = Draws("a", 1)
    assert [draws.integer(1000) for _ in range(6)] == [655, 280, 680, 127, 693, 153]
    assert draws.uniform().hex() == "0x1.1eb67f0c0f952p-2"


def test_same_seed_gives_same_bytes_and_another_seed_other_bytes() -> None:
    assert digest(shapes(1003)) == digest(shapes(1003)) != digest(shapes(1004))


def test_train_and_val_are_drawn_apart() -> None:
    data = shapes()
    assert not np.array_equal(data.image("train_00000"), data.image("val_00000"))


def test_an_image_drawn_alone_equals_the_one_drawn_in_order() -> None:
    ordered, alone = shapes(), shapes()
    images = [ordered.image(id) for id in ordered.ids("train")[:12]]
    assert np.array_equal(alone.image("train_00011"), images[11])
    assert np.array_equal(alone.mask("train_00011"), ordered.mask("train_00011"))


def test_counts_do_not_change_an_image() -> None:
    assert np.array_equal(shapes(train=5).image("train_00004"), shapes(train=50, val=1).image("train_00004"))


def test_what_a_caller_writes_into_an_image_is_not_kept() -> None:
    data = shapes()
    data.image("train_00000")[:] = 0
    data.mask("train_00000")[:] = 7
    assert data.image("train_00000").any()
    assert data.mask("train_00000").max() <= 5


def test_fingerprint_follows_everything_that_fixes_the_bytes_and_nothing_else() -> None:
    print_ = shapes().fingerprint("train")
    assert print_ == shapes(val=3).fingerprint("train")
    others = [shapes(1), shapes(train=61), shapes(part=0.31), shapes(body="camouflage"), shapes(image_px=97)]
    prints = [shapes().fingerprint("val"), *(other.fingerprint("train") for other in others)]
    assert len({print_, *prints}) == 1 + len(prints)


def test_value_noise_fills_its_range_and_falls_with_frequency() -> None:
    field = value_noise(Draws("noise"), 96, 32.0)
    assert field.min() >= 0.0
    assert field.max() <= 1.0
    assert field.std() > 0.1
    near, far = np.abs(field[:, 1:] - field[:, :-1]).mean(), np.abs(field[:, 16:] - field[:, :-16]).mean()
    assert near < 0.4 * far


def test_the_compass_holds_unit_vectors() -> None:
    assert all(abs(c * c + s * s - 1.0) < 1e-12 for c, s in COMPASS)


# ------------------------------------------------------------------------------------------ images and labels


@pytest.mark.parametrize("preset", PRESETS)
def test_images_masks_and_tags_keep_the_contract(preset: str) -> None:
    data = shapes(**PRESETS[preset])
    px, classes = data.config.image_px, data.config.classes
    for sample in View(data, "train", ("tags", "masks"), limit=20):
        assert sample.image.shape == (px, px, 3)
        assert sample.image.dtype == sample.mask.dtype == np.uint8
        assert sample.mask.shape == (px, px)
        assert sample.tags.shape == (classes,)
        assert sample.tags.dtype == np.bool_
        assert set(np.unique(sample.mask)) - {0} == set(np.flatnonzero(sample.tags) + 1) != set()
        assert (sample.mask == 0).any()


def test_card_names_the_patterns_and_all_options() -> None:
    card = shapes(classes=3).card
    assert card.class_names == ("stripes", "checks", "rings") == tuple(PATTERNS)[:3]
    assert (card.generated, card.image_px, card.label_source) == (True, 96, "generated")
    assert card.options["classes"] == 3
    assert set(card.options) == set(ShapesConfig.__dataclass_fields__)


def test_every_class_occurs_about_equally_often() -> None:
    data = shapes(train=400)
    labels = [thing.label for layout in layouts(data) for thing in layout.things]
    share = np.bincount(labels, minlength=5) / len(labels)
    assert share.min() > 0.14
    assert share.max() < 0.26


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 2), (2, 3), (4, 4)])
def test_object_counts_stay_between_their_limits_and_reach_both(least: int, most: int) -> None:
    counts = [len(layout.things) for layout in layouts(shapes(min_objects=least, max_objects=most))]
    assert (min(counts), max(counts)) == (least, most)


def test_parts_lie_in_their_bodies_and_are_a_small_share_of_them() -> None:
    shares = []
    for thing in (thing for layout in layouts(shapes()) for thing in layout.things):
        top, left, size = thing.spot
        silhouette = disc(size)
        assert thing.body[top : top + size, left : left + size][silhouette].all()
        shares.append(silhouette.sum() / thing.body.sum())
    assert 0.10 < np.mean(shares) < 0.18
    assert max(shares) < 0.3


def test_earlier_objects_keep_their_part_and_half_their_body_in_sight() -> None:
    for layout in layouts(shapes(min_objects=2, max_objects=4)):
        for number, thing in enumerate(layout.things, 1):
            seen = layout.owner == number
            silhouette = disc(thing.spot[2])
            assert seen[thing.part_window][silhouette].mean() >= PART_SEEN
            assert seen.sum() >= BODY_SEEN * thing.body.sum()


def test_some_objects_overlap() -> None:
    drawn = [
        (layout, sum(int(t.body.sum()) for t in layout.things)) for layout in layouts(shapes(min_objects=2))
    ]
    overlapping = sum(total > (layout.owner > 0).sum() for layout, total in drawn)
    assert 0.1 < overlapping / len(drawn) < 0.9


# --------------------------------------------------------------------------------------------- difficulties


def boundary_step(data: Shapes) -> float:
    """Mean RGB distance (0..441) of horizontal neighbours on two sides of an outline."""
    steps = []
    for id in data.ids("train")[:40]:
        image, mask = data.image(id).astype(np.float64), data.mask(id)
        edge = (mask[:, 1:] == 0) != (mask[:, :-1] == 0)
        steps.append(np.sqrt(((image[:, 1:] - image[:, :-1]) ** 2).sum(-1))[edge].mean())
    return float(np.mean(steps))


def body_spread(data: Shapes) -> float:
    """Mean RGB distance (0..441) of a body's pixels from their mean, the part left out."""
    spreads = []
    for id in data.ids("train")[:40]:
        layout, image = data.layout(id), data.image(id).astype(np.float64)
        bare = layout.owner == 1
        bare[layout.things[0].part_window] = False
        colours = image[bare]
        spreads.append(np.sqrt(((colours - colours.mean(0)) ** 2).sum(-1)).mean())
    return float(np.mean(spreads))


def test_default_bodies_are_even_beside_the_step_at_their_outline() -> None:
    data = shapes()
    assert body_spread(data) < 0.2 * boundary_step(data)


def test_contrast_sets_the_step_at_the_outline() -> None:
    steps = [boundary_step(shapes(contrast=value)) for value in (1.0, 0.5, 0.2)]
    assert steps[0] > 1.5 * steps[1] > 2.2 * steps[2]


def test_camouflage_takes_the_step_at_the_outline_away() -> None:
    assert boundary_step(shapes(body="camouflage")) < 0.3 * boundary_step(shapes())


def test_two_tone_bodies_are_cut_by_colour() -> None:
    assert body_spread(shapes(body="two-tone")) > 2.5 * body_spread(shapes())


def guessed_by_colour(data: Shapes, where: str) -> float:
    """Share of `val` objects whose class is that of the nearest mean colour of `train`; chance is 1/5."""

    def colours(split: str) -> tuple[Any, Any]:
        rows, labels = [], []
        for id in data.ids(split):
            layout = data.layout(id)
            pick = layout.owner == (0 if where == "background" else 1)
            part = np.zeros_like(pick)
            part[layout.things[0].part_window] = True
            pick &= part if where == "part" else ~part
            rows.append(data.image(id)[pick].mean(0))
            labels.append(layout.things[0].label)
        return np.array(rows), np.array(labels)

    rows, labels = colours("train")
    means = np.stack([rows[labels == k].mean(0) for k in range(5)])
    rows, labels = colours("val")
    nearest = ((rows[:, None] - means) ** 2).sum(-1).argmin(1)
    return float((nearest == labels).mean())


@pytest.mark.parametrize(
    ("options", "where", "told"),
    [
        ({}, "body", False),
        ({}, "background", False),
        ({"body": "class"}, "body", True),
        ({"body": "class"}, "background", False),
        ({"context": 1.0}, "background", True),
        ({"context": 1.0}, "body", False),
        ({"part_colour": "random"}, "part", False),
        ({}, "part", True),
    ],
)
def test_colour_tells_the_class_only_where_an_option_says_so(
    options: dict[str, Any], where: str, told: bool
) -> None:
    accuracy = guessed_by_colour(shapes(max_objects=1, train=150, val=100, **options), where)
    assert accuracy > 0.9 if told else accuracy < 0.4


def test_options_of_difficulty_leave_the_scene_as_it_was() -> None:
    masks = [
        shapes(**options).mask("train_00003")
        for options in ({}, {"contrast": 0.3}, {"body": "two-tone"}, {"body": "camouflage"}, {"context": 1.0})
    ]
    assert all(np.array_equal(masks[0], mask) for mask in masks[1:])


# --------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"classes": 10}, "shapes.classes"),
        ({"classes": 1}, "shapes.classes"),
        ({"classes": 3.0}, "shapes.classes"),
        ({"image_px": 8}, "shapes.image_px"),
        ({"part": 0.9}, "shapes.part"),
        ({"part": "big"}, "shapes.part"),
        ({"contrast": -0.1}, "shapes.contrast"),
        ({"context": float("nan")}, "shapes.context"),
        ({"context": True}, "shapes.context"),
        ({"train": 0}, "shapes.train"),
        ({"val": -5}, "shapes.val"),
        ({"max_objects": 9}, "shapes.max_objects"),
        ({"min_objects": 2, "max_objects": 1}, "shapes.min_objects"),
    ],
)
def test_an_option_out_of_its_limits_is_one_clear_error(options: dict[str, Any], where: str) -> None:
    with pytest.raises(BadData) as caught:
        ShapesConfig(**options)
    assert caught.value.where == where
    assert caught.value.hint


def test_an_unknown_body_split_or_id_is_named() -> None:
    with pytest.raises(UnknownName, match="camouflage"):
        ShapesConfig(body="camouflaged")
    with pytest.raises(UnknownName, match="test"):
        shapes().ids("test")
    with pytest.raises(WsssError, match="train_00060"):
        shapes().image("train_00060")


def test_presets_are_valid_options() -> None:
    assert all(ShapesConfig(**options) for options in Shapes.presets.values())
