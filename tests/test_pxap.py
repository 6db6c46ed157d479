"""PxAP against a loop over every threshold and every pixel, against exact ranking, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wsssbench.errors import BadData
from wsssbench.masks import resize_bilinear
from wsssbench.metrics import add_counts
from wsssbench.scores.histogram import average_precision
from wsssbench.scores.pxap import PxAP
from wsssbench.types import Maps

K = 5
Image = tuple[Maps, np.ndarray]


def random_images(seed: int, count: int = 4) -> list[Image]:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = tuple(rng.integers(1, 12, 2))
        present = np.sort(rng.permutation(K)[: rng.integers(0, 4)])
        size = shape if rng.random() < 0.5 else tuple(rng.integers(1, 6, 2))
        values = rng.random((len(present), *size)).astype(np.float32) * (rng.random(size) < 0.8)
        gold = rng.choice([0, *range(1, K + 1), 255], shape).astype(np.uint8)
        images.append((Maps(present.astype(np.int64), values.astype(np.float32)), gold))
    return images


def scored(images: list[Image], classes: int = K):
    return PxAP().score(add_counts(PxAP().count(maps, gold, classes) for maps, gold in images), classes)


def pooled(images: list[Image], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of class k and whether they belong to it, of all pixels of the images with a map of k."""
    scores, own = [np.zeros(0)], [np.zeros(0, bool)]
    for maps, gold in images:
        for plane, name in zip(maps.values, maps.classes, strict=True):
            if name == k:
                known = gold != 255
                scores.append(resize_bilinear(plane[None], gold.shape)[0][known])
                own.append(gold[known] == k + 1)
    return np.concatenate(scores), np.concatenate(own)


def looped_ap(scores: np.ndarray, own: np.ndarray) -> float | None:
    """Precision times the gain of recall at each threshold from 0.999 down to below 0, in float64."""
    if not own.any():
        return None
    area, before = 0.0, 0.0
    for threshold in [*((i / 1000) for i in range(999, -1, -1)), -1.0]:
        accepted = scores > np.float32(threshold)
        if accepted.any():
            recall = (accepted & own).sum() / own.sum()
            area += (accepted & own).sum() / accepted.sum() * (recall - before)
            before = recall
    return 100 * area


@pytest.mark.parametrize("seed", range(12))
def test_pxap_agrees_with_a_loop_over_thresholds(seed):
    images = random_images(seed)
    expected = [looped_ap(*pooled(images, k)) for k in range(K)]
    result = scored(images)
    assert result["per_class"] == [None if ap is None else pytest.approx(ap) for ap in expected]
    assert result["left_out"] == [k for k in range(K) if expected[k] is None]
    known = [ap for ap in expected if ap is not None]
    assert result["pxap"] == (pytest.approx(np.mean(known)) if known else None)


def test_a_thousand_bins_are_close_to_exact_ranking():
    rng = np.random.default_rng(0)
    own = rng.random((300, 300)) < 0.3
    values = np.clip(rng.normal(0.35 + 0.3 * own, 0.2), 0, 1).astype(np.float32)
    order = np.argsort(-values.ravel(), kind="stable")
    hits = np.cumsum(own.ravel()[order])
    exact = 100 * np.sum((hits / np.arange(1, own.size + 1))[own.ravel()[order]]) / own.sum()
    found = scored([(Maps(np.array([0]), values[None]), own.astype(np.uint8))])["pxap"]
    assert found == pytest.approx(exact, abs=0.05)


def test_pxap_by_hand():
    maps = Maps(np.array([0]), np.array([[[0.9, 0.7, 0.7, 0.2, 0.0]]], np.float32))
    gold = np.array([[1, 0, 1, 255, 1]], np.uint8)
    # accepted in turn: 1 of 1 right, then 2 of 3, then (0 alone, after void is left out) 3 of 4
    assert scored([(maps, gold)])["pxap"] == pytest.approx(100 * (1 + 2 / 3 + 3 / 4) / 3)


def test_maps_that_order_all_pixels_right_have_a_hundred_and_constant_maps_the_share_of_positives():
    gold = np.array([[1, 1, 0, 2]], np.uint8)
    right = Maps(np.array([0]), np.array([[[0.31, 0.3, 0.29, 0.1]]], np.float32))
    constant = Maps(np.array([0]), np.full((1, 1, 4), 0.4, np.float32))
    assert scored([(right, gold)])["pxap"] == 100
    assert scored([(constant, gold)])["pxap"] == 50


def test_a_class_is_judged_only_on_images_whose_maps_include_it_and_the_rest_is_told():
    seen = (Maps(np.array([0]), np.array([[[0.9, 0.1]]], np.float32)), np.array([[1, 0]], np.uint8))
    unseen = (Maps(np.array([1]), np.array([[[0.9, 0.1, 0.1]]], np.float32)), np.array([[2, 1, 1]], np.uint8))
    result = scored([seen, unseen])
    assert (result["pxap"], result["mapped"]) == (100, 50)
    assert result["per_class"] == [100, 100, None, None, None]


def test_counts_are_additive_integers_and_void_is_left_out():
    (maps, gold), *_ = images = random_images(3)
    counts = PxAP().count(maps, gold, K)
    assert {array.dtype for array in counts.values()} == {np.dtype(np.int64)}
    assert counts["positive"].shape == counts["negative"].shape == (K, 1001)
    both = counts["positive"].sum() + counts["negative"].sum()
    assert both == len(maps.classes) * np.count_nonzero(gold != 255)
    assert scored(images) == scored(images[::-1])


def test_without_positives_there_is_no_average_precision():
    assert average_precision(np.zeros(4, np.int64), np.ones(4, np.int64)) is None
    empty = scored(
        [(Maps(np.zeros(0, np.int64), np.zeros((0, 1, 1), np.float32)), np.zeros((2, 2), np.uint8))]
    )
    assert (empty["pxap"], empty["mapped"], empty["left_out"]) == (None, None, list(range(K)))


def test_impossible_maps_are_refused_with_their_place():
    maps = Maps(np.array([0]), np.full((1, 1, 1), 2, np.float32))
    with pytest.raises(BadData, match=r"outside 0\.\.1.*x\.npz"):
        PxAP().count(maps, np.zeros((1, 1), np.uint8), K, "x.npz")
