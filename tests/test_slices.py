"""Slices from counts alone, against masks that are cut into slices pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.slices import (
    COMPANY,
    SIZES,
    Slice,
    all_slices,
)

K = 4
seeds = st.integers(0, 2**32 - 1)
Pair = tuple[np.ndarray, np.ndarray]


def random_images(seed: int, count: int = 14) -> list[Pair]:
    """(gold, predicted) of 10 x 10 and 20 x 5 px, with 0 to 4 classes in stripes of many widths, and void."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = (10, 10) if rng.random() < 0.5 else (20, 5)
        gold = np.zeros(100, np.uint8)
        for label in rng.choice(K, rng.integers(0, K + 1), replace=False) + 1:
            start = rng.integers(0, 100)
            gold[start : start + int(rng.choice([2, 4, 5, 12, 20, 21, 50]))] = label
        gold[rng.random(100) < 0.05] = 255
        gold[:] = 255 if rng.random() < 0.1 else gold
        said = np.where(rng.random(100) < 0.6, gold, rng.choice([0, 1, 2, 3, 4, 255], 100))
        images.append((gold.reshape(shape), said.astype(np.uint8).reshape(shape)))
    return images


def table_of(pairs: list[Pair]) -> CountsTable:
    ids = [f"i{n}" for n in range(len(pairs))]
    return CountsTable.of(ids, [confusion_counts(g, p, K) for g, p in pairs])


def of_group(group: str, table: CountsTable, classes: int) -> list[Slice]:
    return [part for part in all_slices(table, classes) if part.group == group]


def shown(gold: np.ndarray) -> list[int]:
    return [k for k in range(1, K + 1) if (gold == k).any()]


def class_scores(pairs: list[Pair], k: int) -> tuple[float, float] | None:
    """IoU and recall of class k over all pixels of the images, by masks."""
    hit = union = truth = 0
    for gold, said in pairs:
        g, p = gold == k, (said == k) & (gold != 255)
        hit, union, truth = hit + (g & p).sum(), union + (g | p).sum(), truth + g.sum()
    return (100 * hit / union, 100 * hit / truth) if truth else None


def size_of(gold: np.ndarray, k: int) -> str:
    share = 100 * (gold == k).sum() / gold.size
    return SIZES[0] if share < 5 else SIZES[1] if share <= 20 else SIZES[2]


def means(scores: list[tuple[float, float]]) -> tuple[float, float]:
    return tuple(np.mean(scores, axis=0))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds)
def test_slices_by_number_of_classes_are_iou_of_their_images(seed):
    pairs = random_images(seed)
    found = {part.name: part for part in of_group("classes in the image", table_of(pairs), K)}
    names = {0: "no class", 1: "1 class", 2: "2 classes", 3: "3 or more classes"}
    seen = 0
    for number, name in names.items():
        own = [(g, p) for g, p in pairs if min(len(shown(g)), 3) == number and (g != 255).any()]
        seen += len(own)
        if not own:
            assert name not in found if number == 0 else found[name].images == 0
            continue
        scores = Iou().score(add_counts([confusion_counts(g, p, K) for g, p in own]), K)
        part = found[name]
        assert (part.images, part.iou, part.recall) == (len(own), scores["miou"], scores["recall"])
        assert part.classes == K + 1 - len(scores["left_out"])
        assert list(part.per_class) == scores["per_class"]
    assert seen == sum((g != 255).any() for g, _ in pairs)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds)
def test_slices_by_size_pool_the_images_in_which_the_class_has_that_size(seed):
    pairs = random_images(seed)
    for part in of_group("size of the class", table_of(pairs), K):
        own = {
            k: [(g, p) for g, p in pairs if k in shown(g) and size_of(g, k) == part.name]
            for k in range(1, K + 1)
        }
        scores = {k: class_scores(images, k) for k, images in own.items() if images}
        assert part.classes == len(scores)
        assert part.images == len({id(g) for images in own.values() for g, _ in images})
        expected = means(list(scores.values())) if scores else (None, None)
        assert (part.iou, part.recall) == pytest.approx(expected)
        per_class = [scores[k][0] if k in scores else None for k in range(1, K + 1)]
        assert list(part.per_class) == pytest.approx([None, *per_class])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds)
def test_slices_by_company_average_over_the_classes_found_in_both(seed):
    pairs = random_images(seed)
    own = {name: {k: [] for k in range(1, K + 1)} for name in COMPANY}
    for gold, said in pairs:
        for k in shown(gold):
            own[COMPANY[len(shown(gold)) > 1]][k].append((gold, said))
    filled = [name for name in COMPANY if any(own[name].values())]
    shared = [k for k in range(1, K + 1) if filled and all(own[name][k] for name in filled)]
    for part in of_group("company of the class", table_of(pairs), K):
        scores = {k: class_scores(images, k) for k, images in own[part.name].items() if images}
        judged = [scores[k] for k in shared if k in scores]
        assert part.classes == len(judged)
        assert (part.iou, part.recall) == pytest.approx(means(judged) if judged else (None, None))
        per_class = [scores[k][0] if k in scores else None for k in range(1, K + 1)]
        assert list(part.per_class) == pytest.approx([None, *per_class])


def test_five_and_twenty_percent_are_medium_and_void_belongs_to_the_image():
    parts = []
    for pixels in (4, 5, 20, 21):
        gold = np.full((10, 10), 255, np.uint8)
        gold.ravel()[:pixels] = 1
        (name,) = (s.name for s in of_group("size of the class", table_of([(gold, gold)]), K) if s.images)
        parts.append(name)
    assert parts == ["under 5 %", "5 to 20 %", "5 to 20 %", "over 20 %"]


def test_what_is_taken_for_a_class_in_images_without_it_is_in_no_size():
    right = np.ones((10, 10), np.uint8)
    other = np.zeros((10, 10), np.uint8)
    found = of_group("size of the class", table_of([(right, right), (other, right)]), K)
    assert [part.iou for part in found] == [None, None, 100]


def test_all_slices_keep_their_order_and_an_empty_split_has_empty_ones():
    groups = [part.group for part in all_slices(table_of(random_images(1)), K)]
    assert list(dict.fromkeys(groups)) == [
        "classes in the image",
        "size of the class",
        "company of the class",
    ]
    void = np.full((3, 3), 255, np.uint8)
    assert {part.images for part in all_slices(table_of([(void, void)]), K)} == {0}
    assert {part.iou for part in all_slices(table_of([(void, void)]), K)} == {None}
