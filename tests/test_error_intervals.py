"""Intervals of ladder and slices: the numbers are those of the metric, and draws vary as they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsssbench.metrics import add_counts, confusion_counts
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.image_counts import image_arrays, sparse_counts
from wsssbench.scores.ladder import ErrorLadder, ladder_counts
from wsssbench.scores.slices import all_slices
from wsssbench.statistics.error_intervals import (
    LADDER_NAMES,
    SeedCounts,
    difference_estimates,
    ladder_scores,
    method_estimates,
)

K = 3
SLICE = ("size of the class", "over 20 %", "iou")


def images(seed: int, count: int, wrong: float, gold_seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(gold, predicted): an object of one or two classes on background, void, a share of wrong pixels."""
    golds, draw = np.random.default_rng(gold_seed), np.random.default_rng([seed, 1])
    pairs = []
    for _ in range(count):
        gold = np.zeros((16, 20), np.uint8)
        for label in golds.choice([1, 2, 3], golds.integers(1, 3), replace=False):
            top, left = golds.integers(0, 10, 2)
            gold[top : top + golds.integers(2, 14), left : left + golds.integers(2, 14)] = label
        gold[0] = 255
        noise = draw.random(gold.shape) < wrong * draw.uniform(0.3, 1.7)
        said = np.where(noise, draw.choice([0, 1, 2, 3, 255], gold.shape), gold).astype(np.uint8)
        said[said == 255] = np.where(gold == 255, 0, said)[said == 255]
        pairs.append((gold, said))
    return pairs


def cell(seed: int, pairs: list[tuple[np.ndarray, np.ndarray]], name: str = "i") -> SeedCounts:
    table = CountsTable.of(
        [f"{name}{n}" for n in range(len(pairs))], [confusion_counts(g, p, K) for g, p in pairs]
    )
    counts = [sparse_counts(ladder_counts(g, p, K)) for g, p in pairs]
    return SeedCounts.of(seed, table, K, image_arrays(counts))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_ladders_numbers_are_those_of_the_metric(seed: int) -> None:
    print(f"seed {seed}")
    counts = add_counts([ladder_counts(g, p, K) for g, p in images(seed, 4, 0.4, seed)])
    expected = ErrorLadder().score(counts, K)
    sums = np.concatenate([counts[name].ravel() for name in ("right", "missed", "false")])[None]
    found = dict(zip(LADDER_NAMES, ladder_scores(sums.astype(np.float64))[0], strict=True))
    assert found["miou",] == pytest.approx(expected["miou"])
    for kind, after in expected["ladder"]:
        assert found["ladder", kind] == pytest.approx(after)
        assert found["alone", kind] == pytest.approx(expected["alone"][kind])
        if expected["share"][kind] is not None:
            assert found["share", kind] == pytest.approx(expected["share"][kind])


def test_the_slices_numbers_are_those_of_the_slices() -> None:
    pairs = images(1, 30, 0.3)
    table = CountsTable.of([f"i{n}" for n in range(30)], [confusion_counts(g, p, K) for g, p in pairs])
    found = method_estimates([cell(0, pairs)], 200)
    for part in all_slices(table, K):
        if part.images:
            assert found[part.group, part.name, "iou"].value == pytest.approx(part.iou, abs=1e-4)
            assert found[part.group, part.name, "recall"].value == pytest.approx(part.recall, abs=1e-4)


def test_an_interval_holds_its_number_and_narrows_with_more_images() -> None:
    few, many = (method_estimates([cell(0, images(2, n, 0.4))], 400) for n in (12, 200))
    for name in (("miou",), ("alone", "part_only"), ("share", "boundary"), SLICE):
        for found in (few[name], many[name]):
            assert found.low < found.value < found.high
        assert many[name].high - many[name].low < 0.6 * (few[name].high - few[name].low)


def test_a_method_does_not_differ_from_itself_and_does_from_a_worse_one() -> None:
    good, bad = cell(0, images(3, 60, 0.2)), cell(0, images(4, 60, 0.5))
    for found in difference_estimates([good], [good], 200).values():
        assert (found.value, found.low, found.high) == (0, 0, 0)
    miou = difference_estimates([good], [bad], 400)["miou",]
    assert 0 < miou.low < miou.value < miou.high


def test_pairing_by_image_makes_a_difference_surer_than_two_intervals_do() -> None:
    first = cell(0, images(5, 60, 0.3))
    pairs = [(gold, np.where(np.arange(gold.size).reshape(gold.shape) % 40, said, 0).astype(np.uint8))
             for gold, said in images(5, 60, 0.3)]  # fmt: skip
    other = cell(0, pairs)
    own = method_estimates([first], 400)["miou",]
    paired = difference_estimates([first], [other], 400)["miou",]
    assert paired.high - paired.low < 0.5 * (own.high - own.low)


def test_seeds_with_images_of_their_own_vary_over_seeds_and_a_number_is_their_mean() -> None:
    cells = [cell(s, images(s, 30, 0.3, gold_seed=s)) for s in range(4)]
    each = [method_estimates([c], 100)["miou",].value for c in cells]
    found = method_estimates(cells, 2000)["miou",]
    assert found.value == pytest.approx(np.mean(each))
    half = 3.182 * np.std(each, ddof=1) / 2  # Student's for 4 seeds; draws of 4 seeds are few distinct
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.25)


def test_a_slice_of_few_images_has_no_interval_and_an_empty_one_no_number() -> None:
    gold = np.zeros((20, 20), np.uint8)
    gold[:, :3] = 1  # 15 % of the image
    large = np.where(np.arange(20) < 9, 2, 0).astype(np.uint8)[None].repeat(20, 0)
    pairs = [(gold, gold)] * 9 + [(large, large)] * 2
    found = method_estimates([cell(0, pairs)], 200)
    assert (found[SLICE].value, found[SLICE].low) == (100, None)
    assert found["size of the class", "5 to 20 %", "iou"].low == 100
    assert ("size of the class", "under 5 %", "iou") not in found


def test_cells_of_other_images_are_not_paired() -> None:
    one, other = cell(0, images(6, 8, 0.3)), cell(0, images(6, 8, 0.3, gold_seed=9))
    assert difference_estimates([one], [other], 200) == {}
    assert difference_estimates([one], [cell(1, images(6, 8, 0.3))], 200) == {}
