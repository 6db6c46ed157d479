"""Counts beyond 32 bits (COCO's train split has 2.5e10 pixels) stay exact from the table to every score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsssbench.judging.judge import table_scores
from wsssbench.metrics import Iou, add_counts
from wsssbench.plugins.table import Plugins
from wsssbench.scores.counts_table import CountsTable
from wsssbench.scores.ladder import KINDS, ErrorLadder
from wsssbench.scores.slices import all_slices
from wsssbench.statistics.paired import compare_counts

K = 2
HIT, MISSED, FALSE = 25_000_000_001, 3_000_000_019, 7_000_000_033  # of class 1, each beyond 2**31 - 1
BACK = 2**40 + 1


def counts(scale: int = 1) -> dict[str, np.ndarray]:
    cells = [(0, 0, BACK), (0, 1, FALSE), (1, 0, MISSED), (1, 1, HIT), (255, 1, 2**33)]
    gold, predicted, pixels = np.array(cells, np.int64).T
    return {"gold": gold, "predicted": predicted, "pixels": pixels // scale}


def test_iou_is_exact_where_a_float32_or_an_int32_would_not_be(tmp_path: Path) -> None:
    table = CountsTable.of(["a", "b"], [counts(), counts()])
    table.save(tmp_path / "counts.npz")
    again = CountsTable.load(tmp_path / "counts.npz")
    assert again.pixels.max() == BACK
    assert again.total()["pixels"].tolist() == [2 * n for n in counts()["pixels"].tolist()]
    scores = Iou().score(again.total(), K)
    assert scores["per_class"] == [
        100.0 * (2 * BACK) / (2 * (BACK + FALSE + MISSED)),
        100.0 * (2 * HIT) / (2 * (HIT + FALSE + MISSED)),
        None,
    ]


@pytest.mark.parametrize(
    "name",
    ["accuracy", "activation", "confusion_pairs", "error_ratios", "precision_at_coverage", "per_image"],
)
def test_scores_of_large_counts_are_those_of_the_same_shares_in_small_ones(name: str) -> None:
    metric = Plugins().load("metrics", name)()
    large, small = (
        table_scores(CountsTable.of(["a"], [counts(scale)]), [metric], K)[name] for scale in (1, 1000)
    )
    for key, value in large.items():
        if isinstance(value, float):
            assert value == pytest.approx(small[key], rel=1e-5)
            assert value >= 0


def test_slices_of_large_images_do_not_wrap() -> None:
    for part in all_slices(CountsTable.of(["a"], [counts()]), K):
        assert part.iou is None or 0 < part.iou < 100
    (small,) = (p for p in all_slices(CountsTable.of(["a"], [counts()]), K) if p.name == "under 5 %")
    assert small.iou == 100.0 * HIT / (HIT + MISSED + FALSE)


def test_the_ladder_adds_up_beyond_32_bits() -> None:
    right = np.array([BACK, HIT, 0])
    missed, false = np.zeros((2, len(KINDS), K + 1), np.int64)
    missed[2, 0], false[2, 1], missed[3, 1], false[3, 0] = FALSE, FALSE, MISSED, MISSED
    total = add_counts([{"right": right, "missed": missed, "false": false}] * 2)
    scores = ErrorLadder().score(total, K)
    assert scores["miou"] == Iou().score(counts(), K)["miou"]
    assert scores["ladder"][-1][1] == 100
    assert scores["share"]["part_only"] == 100.0 * MISSED / (MISSED + FALSE)


def test_differences_of_large_counts_are_right_to_a_thousandth_of_a_point() -> None:
    many = [counts() for _ in range(40)]
    one = CountsTable.of([f"i{n}" for n in range(40)], many).by_image(K)
    found = compare_counts([one], [one], ("background", "a", "b"), same_images=True, resamples=100)
    assert found[0].first == pytest.approx(Iou().score(counts(), K)["miou"], abs=1e-3)
    assert max(abs(found[0].low), abs(found[0].high)) < 1e-3  # columns are float32
