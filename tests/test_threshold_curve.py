"""The threshold curve against labels at every threshold, and Otsu's rule against a plain search."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsssbench.errors import BadData
from wsssbench.masks import resize_bilinear, threshold_labels
from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.scores.histogram import thresholds_below
from wsssbench.scores.otsu import histogram, otsu
from wsssbench.scores.threshold_curve import ThresholdCurve, best_threshold, curve, thresholds
from wsssbench.types import Maps

K = 10
seeds = st.integers(0, 2**32 - 1)
Image = tuple[Maps, np.ndarray]
MODULES = ("calibration", "histogram", "otsu", "pxap", "tagging", "threshold_curve")


def row(*labels: int) -> np.ndarray:
    return np.array([labels], np.uint8)


def maps_of(**planes: list[float]) -> Maps:
    """`maps_of(c1=[...])`: maps of one row, class 1 + ... of labels 1 + ... by keyword."""
    classes = np.array([int(name[1:]) - 1 for name in planes], np.int64)
    return Maps(classes, np.array([[values] for values in planes.values()], np.float32))


def random_image(rng: np.random.Generator) -> Image:
    """Maps of another size than the truth, with ties, values on the grid, and, sometimes, none at all."""
    shape = tuple(rng.integers(1, 24, 2))
    present = np.sort(rng.permutation(K)[: rng.integers(0, 4)])
    size = shape if rng.random() < 0.5 else tuple(rng.integers(1, 9, 2))
    values = rng.random((len(present), *size)).astype(np.float32)
    on_grid = (rng.integers(0, 101, values.shape) / 100).astype(np.float32)
    values = np.where(rng.random(values.shape) < rng.random(), on_grid, values)
    gold = rng.choice([0, *(present + 1), 1 + rng.integers(K), 255], shape)
    gold[:] = 255 if rng.random() < 0.1 else gold
    return Maps(present.astype(np.int64), values), gold.astype(np.uint8)


def random_images(seed: int, count: int = 4) -> list[Image]:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    return [random_image(rng) for _ in range(count)]


def counted(images: list[Image]):
    return add_counts(ThresholdCurve().count(maps, gold, K) for maps, gold in images)


def miou_of_labels(images: list[Image], threshold: float) -> float | None:
    pairs = [(gold, threshold_labels(maps, threshold, gold.shape)) for maps, gold in images]
    return Iou().score(add_counts(confusion_counts(gold, said, K) for gold, said in pairs), K)["miou"]


# --------------------------------------------------------------------------------------------------- bins


@pytest.mark.parametrize("steps", [1, 7, 15, 100, 1000])
def test_bins_count_the_thresholds_that_a_float32_exceeds_even_beside_them(steps):
    grid = (np.arange(steps) / steps).astype(np.float32)
    up, down = np.nextafter(grid, np.float32(2)), np.nextafter(grid, np.float32(0))
    values = np.concatenate([grid, up, down, [1.0, np.nextafter(np.float32(1), np.float32(2)), -1e-9]])
    values = np.concatenate([values.astype(np.float32), np.random.default_rng(3).random(10_000, np.float32)])
    expected = (values[:, None] > grid).sum(1)
    assert thresholds_below(values, steps).tolist() == expected.tolist()


# -------------------------------------------------------------------------------------------------- curve


@pytest.mark.parametrize("seed", range(12))
def test_the_curve_is_exactly_the_miou_of_the_labels_at_every_threshold(seed):
    images = random_images(seed)
    expected = [miou_of_labels(images, t) for t in thresholds()]
    assert ThresholdCurve().score(counted(images), K)["curve"] == expected


def test_an_image_of_many_strips_is_counted_whole():
    rng = np.random.default_rng(5)
    gold = np.repeat(rng.choice(np.array([0, 1, 2, 255], np.uint8), (400, 1)), 300, 1)
    image = (Maps(np.array([0, 1]), rng.random((2, 13, 9), np.float32)), gold)
    for t in (0.0, 0.29, 0.57, 0.99):
        assert curve(counted([image]), K)[round(100 * t)] == miou_of_labels([image], t)


def test_counts_are_additive_integers():
    images = random_images(7)
    counts = ThresholdCurve().count(*images[0], K)
    assert {array.dtype for array in counts.values()} == {np.dtype(np.int64)}
    assert {name: array.shape for name, array in counts.items()} == {
        "gold": (K + 1,), "said": (K, 101), "hit": (K, 101), "background": (101,)
    }  # fmt: skip
    assert counts["background"].sum() == counts["gold"][0]
    halves = add_counts([counted(images[:1]), counted(images[1:])])
    assert ThresholdCurve().score(halves, K) == ThresholdCurve().score(counted(images), K)


def test_the_curve_by_hand():
    maps, gold = maps_of(c1=[0.9, 0.5, 0.3, 0.0]), row(1, 1, 0, 0)
    counts = ThresholdCurve().count(maps, gold, 2)
    values = curve(counts, 2)
    assert values[0] == pytest.approx((50 + 200 / 3) / 2)  # 3 pixels said: background 1/2, class 1 2/3
    assert values[29] == values[0]
    assert values[30] == values[49] == 100  # 0.3 does not exceed 0.30
    assert values[50] == pytest.approx((200 / 3 + 50) / 2)
    assert values[90] == pytest.approx((50 + 0) / 2)
    result = ThresholdCurve().score(counts, 2)
    assert (result["best_miou"], result["best_threshold"], result["plateau"]) == (100, 0.39, 0.19)
    assert (len(result["curve"]), result["thresholds"][29]) == (100, 0.29)


def test_the_lowest_of_several_best_runs_is_taken():
    maps, gold = maps_of(c1=[0.8, 0.4, 0.2, 0.1]), row(1, 0, 1, 0)  # 3 of 4 right on 0.1-0.2 and on 0.4-0.8
    values = curve(ThresholdCurve().count(maps, gold, 1), 1)
    assert values[10] == values[40] == values.max() > values[20]
    assert best_threshold(ThresholdCurve().count(maps, gold, 1), 1) == 0.14


def test_the_plateau_is_what_loses_no_more_than_a_point_without_a_break():
    gold, said = np.zeros((1, 2000), np.uint8), np.full((1, 2000), 0.6, np.float32)
    gold[0, :1000], said[0, 1000:] = 1, 0.1
    said[0, 0], said[0, 1:101] = 0.3, 0.5  # one pixel lost from 0.30 on, a hundred more from 0.50 on
    result = ThresholdCurve().score(ThresholdCurve().count(Maps(np.array([0]), said[None]), gold, 1), 1)
    assert result["best_threshold"] == 0.19  # the middle of 0.10 ... 0.29
    assert result["plateau"] == pytest.approx(0.39)  # 0.10 ... 0.49


def test_an_image_without_maps_is_background_at_every_threshold():
    none = Maps(np.zeros(0, np.int64), np.zeros((0, 4, 4), np.float32))
    counts = ThresholdCurve().count(none, row(0, 0, 0, 1), K)
    assert np.all(curve(counts, K) == (75 + 0) / 2)
    assert best_threshold(counts, K) == 0.49


def test_without_truth_there_is_no_best_threshold():
    counts = ThresholdCurve().count(maps_of(c1=[0.5]), row(255), K)
    result = ThresholdCurve().score(counts, K)
    assert result["best_miou"] is result["best_threshold"] is result["plateau"] is None
    assert result["curve"] == [None] * 100
    with pytest.raises(BadData, match="no pixel has a truth"):
        best_threshold(counts, K)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_best_threshold_reaches_the_best_miou(seed):
    images = random_images(seed)
    counts = counted(images)
    if counts["gold"].any():
        best = ThresholdCurve().score(counts, K)
        assert miou_of_labels(images, best["best_threshold"]) == best["best_miou"] == max(best["curve"])


@pytest.mark.parametrize(
    ("maps", "gold", "what"),
    [
        (maps_of(c1=[0.5, 0.5]), row(0, 11), r"truth has label 11.*y\.png"),
        (maps_of(c1=[0.5, 1.5]), row(0, 1), r"outside 0\.\.1.*x\.npz"),
        (maps_of(c1=[0.5, np.nan]), row(0, 1), r"outside 0\.\.1.*x\.npz"),
        (maps_of(c11=[0.5, 0.5]), row(0, 1), r"classes \[10\].*x\.npz"),
        (maps_of(c2=[0.5], c1=[0.5]), row(0), r"classes \[1, 0\].*x\.npz"),
        (Maps(np.array([0]), np.zeros((2, 1, 1), np.float32)), row(0), r"maps are \(2, 1, 1\).*x\.npz"),
        (maps_of(c1=[0.5]), np.zeros((1, 1), np.int64), r"truth must be.*int64.*y\.png"),
    ],
)
def test_impossible_maps_and_truths_are_refused_with_their_place(maps, gold, what):
    with pytest.raises(BadData, match=what):
        ThresholdCurve().count(maps, gold, K, "x.npz", "y.png")


# ------------------------------------------------------------------------------------------------- no masks


@pytest.mark.parametrize("seed", range(8))
def test_the_histogram_counts_the_largest_map_of_each_pixel(seed):
    for maps, gold in random_images(seed):
        found = histogram(maps, gold.shape)
        assert (found.dtype, found.shape) == (np.int64, (1000,))
        if not len(maps.classes):
            assert not found.any()
            continue
        largest = resize_bilinear(maps.values, gold.shape).max(0).ravel()
        edges = (np.arange(1000) / 1000).astype(np.float32)
        assert (
            found.tolist()
            == np.bincount(np.maximum((largest[:, None] > edges).sum(1) - 1, 0), minlength=1000).tolist()
        )
        assert found.sum() == gold.size


def brute_otsu(counts: np.ndarray) -> float:
    """The first inner edge of least variance within the groups, from the values themselves."""
    n = len(counts)
    values = np.repeat((np.arange(n) + 0.5) / n, counts)
    within = {}
    for i in range(1, n):
        low, high = values[values < i / n], values[values > i / n]
        if len(low) and len(high):
            within[i / n] = (len(low) * low.var() + len(high) * high.var()) / len(values)
    return min(within, key=lambda t: (round(within[t], 12), t))


@pytest.mark.parametrize("seed", range(30))
def test_otsu_agrees_with_a_search_for_the_least_variance_within(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    counts = rng.integers(1, 40, n)  # no empty bin: no ties by design
    assert otsu(counts) == brute_otsu(counts)


def test_otsu_takes_the_middle_of_an_empty_valley():
    counts = np.zeros(1000, np.int64)
    counts[[100, 101, 700, 701]] = 50
    assert otsu(counts) == pytest.approx((102 + 700) / 2 / 1000, abs=0.001)
    assert brute_otsu(counts) == 0.102


def test_otsu_does_not_depend_on_how_many_images_there_are():
    counts = np.random.default_rng(2).integers(1, 1000, 1000)
    assert otsu(counts) == otsu(counts * 50_000_000)  # COCO's pixels a thousand times


@pytest.mark.parametrize("bins", [[0, 0, 0], [0, 5, 0]])
def test_otsu_refuses_what_cannot_be_divided(bins):
    with pytest.raises(BadData, match="alike, so no threshold"):
        otsu(np.array(bins))


def test_importing_the_scores_of_soft_outputs_needs_neither_torch_nor_scipy():
    lines = [
        "import sys, wsssbench.judging.judge",
        *(f"import wsssbench.scores.{name}" for name in MODULES),
    ]
    code = "\n".join([*lines, "sys.exit(str({'torch', 'pandas', 'scipy'} & set(sys.modules) or '') or 0)"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
