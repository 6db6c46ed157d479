"""Boundary IoU and boundary F against erosion and distance maps class by class, and what void may not do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wsssbench.metrics import add_counts
from wsssbench.scores.boundary import BoundaryIou, band_px, boundary_band, without_void
from wsssbench.scores.boundary_f import TOLERANCE, BoundaryF, outline

K = 3
METRICS = [BoundaryIou(), BoundaryF()]
MAIN = {"boundary_iou": "boundary_iou_foreground", "boundary_f": "boundary_f_foreground"}
seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def blobs(seed: int, shape: tuple[int, int] = (40, 60), void: bool = False) -> np.ndarray:
    """Random rectangles of classes 1..K on background, perhaps with a ring of void around each."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for _ in range(4):
        top, left = (int(rng.integers(0, side - 6)) for side in shape)
        labels[top : top + int(rng.integers(5, 20)), left : left + int(rng.integers(5, 25))] = rng.integers(
            1, K + 1
        )
    if void:
        labels[ndimage.binary_dilation(outline(labels))] = 255
    return labels


def shifted(labels: np.ndarray, px: int) -> np.ndarray:
    return np.roll(labels, px, axis=1)


def scored(metric, gold: np.ndarray, said: np.ndarray) -> dict:
    return dict(metric.score(metric.count(said, gold, K), K))


# ---------------------------------------------------------------------------------------------- definitions


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("px", [1, 3])
def test_the_band_is_the_mask_less_its_repeated_erosion_with_zeros_around(seed, px):
    labels = blobs(seed)
    band = boundary_band(labels, px)
    for k in range(K + 1):
        mask = labels == k
        eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=px, border_value=0)
        assert np.array_equal(band & mask, mask & ~eroded)


def test_the_band_along_a_cut_by_the_image_border_by_hand():
    labels = np.zeros((7, 7), np.uint8)
    labels[2:, :] = 1
    assert np.array_equal(
        boundary_band(labels, 1)[2:],
        [[1] * 7, [1, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 1], [1] * 7],
    )


@pytest.mark.parametrize(("shape", "px"), [((375, 500), 12), ((500, 500), 14), ((10, 10), 1), ((1, 1), 1)])
def test_the_band_is_two_percent_of_the_diagonal_and_at_least_a_pixel(shape, px):
    assert band_px(shape) == px


@pytest.mark.parametrize("seed", range(8))
def test_boundary_iou_without_void_agrees_with_masks_eroded_class_by_class(seed):
    gold, said = blobs(seed, (90, 120)), blobs(seed + 100, (90, 120))
    said[said == 2] = 255 if seed % 2 else 2
    counts = BoundaryIou().count(said, gold, K)
    px = round(0.02 * (90**2 + 120**2) ** 0.5)
    for k in range(K + 1):
        bands = [
            (m == k) & ~ndimage.binary_erosion(m == k, np.ones((3, 3)), iterations=px) for m in (gold, said)
        ]
        expected = ((bands[0] & bands[1]).sum(), bands[0].sum(), bands[1].sum())
        assert (counts["both"][k], counts["gold"][k], counts["predicted"][k]) == expected
    result = BoundaryIou().score(counts, K)
    here = [k for k in range(K + 1) if (gold == k).any()]
    iou = [100 * counts["both"][k] / (counts["gold"] + counts["predicted"] - counts["both"])[k] for k in here]
    assert result["boundary_iou"] == pytest.approx(np.mean(iou))
    assert result["boundary_iou_foreground"] == pytest.approx(np.mean(iou[1:]))
    assert result["void_share"] == 0


@pytest.mark.parametrize("seed", range(8))
def test_boundary_f_without_void_agrees_with_distance_maps(seed):
    shape = (240, 320)  # tolerance of exactly 3 px
    gold, said = blobs(seed, shape), shifted(blobs(seed, shape), seed)
    said = np.where(blobs(seed + 50, shape) == 1, np.uint8(2), said)
    result, reach = scored(BoundaryF(), gold, said), TOLERANCE * 400
    for k in range(K + 1):
        edges = []
        for labels in (gold, said):
            mask = np.pad(labels == k, 1, mode="edge")  # the image border is not an outline
            edges.append((mask & ~ndimage.binary_erosion(mask, border_value=1))[1:-1, 1:-1])
        if not edges[0].any():
            assert result["per_class"][k] is None
            continue
        near = [ndimage.distance_transform_edt(~edge) <= reach if edge.any() else edge for edge in edges]
        recall, precision = (edges[0] & near[1]).sum() / edges[0].sum(), None
        assert result["recall_per_class"][k] == pytest.approx(100 * recall)
        if edges[1].any():
            precision = (edges[1] & near[0]).sum() / edges[1].sum()
            assert result["precision_per_class"][k] == pytest.approx(100 * precision)
        f = 2 * precision * recall / (precision + recall) if precision and recall else 0
        assert result["per_class"][k] == pytest.approx(100 * f)


def test_a_shift_within_the_tolerance_is_free_and_one_beyond_it_is_not():
    gold = np.zeros((240, 320), np.uint8)
    gold[80:160, 100:220] = 1
    assert scored(BoundaryF(), gold, shifted(gold, 3))["per_class"][:2] == [100, 100]
    assert scored(BoundaryF(), gold, shifted(gold, 4))["per_class"][1] < 85
    falling = [scored(BoundaryIou(), gold, shifted(gold, px))["per_class"][1] for px in range(5)]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 100


def test_a_class_never_predicted_has_f_zero_and_no_precision():
    gold = blobs(1)
    gold[5:15, 5:15] = 1
    result = scored(BoundaryF(), gold, np.where(gold == 1, 2, gold).astype(np.uint8))
    assert (result["precision_per_class"][1], result["per_class"][1]) == (None, 0)


def test_a_class_that_fills_the_image_has_a_frame_and_no_outline():
    gold = np.full((30, 30), 1, np.uint8)
    assert scored(BoundaryIou(), gold, gold)["per_class"] == [None, 100, None, None]
    result = scored(BoundaryF(), gold, gold)
    assert (result["boundary_f"], result["left_out"]) == (None, [0, 1, 2, 3])


# ----------------------------------------------------------------------------------------------------- void


@pytest.mark.parametrize("seed", range(6))
def test_void_takes_the_label_of_a_nearest_pixel_that_is_not_void(seed):
    gold = blobs(seed, (15, 17), void=True)
    said = blobs(seed + 9, (15, 17))
    known, filled = np.argwhere(gold != 255), without_void(gold, said)
    for y, x in np.ndindex(gold.shape):
        squared = ((known - (y, x)) ** 2).sum(1)
        nearest = known[squared == squared.min()]
        labels = {(gold[i, j], said[i, j]) for i, j in nearest}
        assert (filled[0][y, x], filled[1][y, x]) in labels


@both
@pytest.mark.parametrize("seed", range(4))
def test_what_is_predicted_inside_void_changes_nothing(metric, seed):
    gold, said = blobs(seed, void=True), blobs(seed + 20)
    other = np.where(gold == 255, np.uint8(K), said)
    counts, again = metric.count(said, gold, K), metric.count(other, gold, K)
    assert all(np.array_equal(counts[name], again[name]) for name in counts)


@both
@pytest.mark.parametrize("seed", range(4))
def test_a_prediction_that_is_right_outside_void_is_right(metric, seed):
    gold = blobs(seed, (120, 160), void=True)
    result = scored(metric, gold, np.where(gold == 255, np.uint8(0), gold))
    assert {value for value in result["per_class"] if value is not None} == {100}


@both
def test_void_gives_no_outline_to_a_prediction_that_has_none(metric):
    gold = np.zeros((240, 320), np.uint8)
    gold[80:160, 100:220] = 1
    gold[ndimage.binary_dilation(outline(gold), iterations=2)] = 255
    for constant in (0, 1):
        result = scored(metric, gold, np.full_like(gold, constant))
        assert result["per_class"][1] == 0, constant


def test_the_share_of_the_band_that_void_hides_is_reported():
    gold = np.zeros((240, 320), np.uint8)  # a band of 8 px
    gold[:, 160:] = 1
    counts = BoundaryIou().count(gold, gold, K)
    gold[:, 158:162] = 255
    hidden = BoundaryIou().count(gold, gold, K)
    assert hidden["band"].tolist() == counts["band"].tolist() == [2 * (240 * 160 - 224 * 144)]
    assert hidden["void"].tolist() == [4 * 240]
    result = BoundaryIou().score(hidden, K)
    assert result["void_share"] == pytest.approx(100 * 960 / hidden["band"][0])
    assert result["per_class"][:2] == [100, 100]


@both
def test_an_image_of_void_alone_counts_nothing(metric):
    counts = metric.count(np.zeros((5, 5), np.uint8), np.full((5, 5), 255, np.uint8), K)
    assert not any(array.any() for array in counts.values())
    assert {name: array.shape for name, array in counts.items()} == {
        name: array.shape for name, array in metric.count(blobs(1), blobs(2), K).items()
    }


@both
def test_abstained_pixels_belong_to_no_class(metric):
    gold = blobs(2)
    result = metric.count(np.full_like(gold, 255), gold, K)
    assert not result["predicted"].any()
    assert result["gold"].any()
    assert scored(metric, gold, np.full_like(gold, 255))[MAIN[metric.name]] == 0


# ----------------------------------------------------------------------------------------------------- laws


@both
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_counts_of_two_images_are_the_sum_of_both(metric, seed):
    print(f"seed {seed}")
    first, second = (metric.count(blobs(seed + i), blobs(seed + i + 1, void=True), K) for i in (0, 2))
    total = add_counts([first, second])
    assert all(np.array_equal(total[name], first[name] + second[name]) for name in first)
    assert all(array.dtype == np.int64 for array in (*first.values(), *total.values()))
    assert set(metric.score(total, K)) == set(metric.score(first, K))


@both
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_truth_and_prediction_may_change_places_where_both_show_the_same_classes(metric, seed):
    print(f"seed {seed}")
    one, other = metric.count(blobs(seed), blobs(seed + 1), K), metric.count(blobs(seed + 1), blobs(seed), K)
    assert np.array_equal(one["gold"], other["predicted"])
    same = "both" if "both" in one else "gold_matched"
    assert np.array_equal(one[same], other["both" if same == "both" else "predicted_matched"])


@both
@settings(max_examples=25, deadline=None)
@given(seed=seeds, names=st.permutations(range(K + 1)))
def test_mirroring_the_image_and_renaming_the_classes_change_no_more_than_the_names(metric, seed, names):
    print(f"seed {seed}")
    gold, said, table = blobs(seed), blobs(seed + 1), np.array(names, np.uint8)
    before = scored(metric, gold, said)
    after = scored(metric, table[gold[:, ::-1]], table[said[:, ::-1]])
    assert [after["per_class"][k] for k in names] == before["per_class"]
    assert after["left_out"] == sorted(names[k] for k in before["left_out"])
