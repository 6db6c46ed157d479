"""Calibration against a loop over pixels and bins, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wsssbench.errors import BadData
from wsssbench.masks import argmax_labels, resize_bilinear
from wsssbench.metrics import add_counts
from wsssbench.scores.calibration import Calibration

K = 4
Image = tuple[np.ndarray, np.ndarray]


def random_images(seed: int, count: int = 4) -> list[Image]:
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shape = tuple(rng.integers(1, 12, 2))
        size = shape if rng.random() < 0.5 else tuple(rng.integers(1, 6, 2))
        probs = rng.random((K + 1, *size)) ** rng.integers(1, 8)
        gold = rng.choice([*range(K + 1), 255], shape).astype(np.uint8)
        images.append(((probs / probs.sum(0)).astype(np.float32), gold))
    return images


def scored(images: list[Image], classes: int = K):
    counts = add_counts(Calibration().count(probs, gold, classes) for probs, gold in images)
    return Calibration().score(counts, classes)


def looped(images: list[Image], foreground: bool) -> dict:
    """ECE and the diagram in float64, one pixel at a time."""
    bins = [[] for _ in range(15)]
    for probs, gold in images:
        planes = resize_bilinear(probs, gold.shape).astype(np.float64)
        for (y, x), truth in np.ndenumerate(gold):
            label = int(np.argmax(planes[:, y, x]))
            if truth != 255 and (label > 0 or not foreground):
                sure = planes[label, y, x]
                b = next(b for b in range(15) if sure <= np.float32((b + 1) / 15) or b == 14)
                bins[b].append((label == truth, sure))
    total = sum(len(b) for b in bins)
    parts = [(len(b) / total, np.mean([h for h, _ in b]), np.mean([c for _, c in b])) for b in bins if b]
    return {
        "ece": 100 * sum(share * abs(hit - sure) for share, hit, sure in parts) if total else None,
        "accuracy": [100 * np.mean([h for h, _ in b]) if b else None for b in bins],
        "confidence": [100 * np.mean([c for _, c in b]) if b else None for b in bins],
        "share": [100 * len(b) / total if total else None for b in bins],
    }


@pytest.mark.parametrize("seed", range(10))
def test_calibration_agrees_with_a_loop_over_pixels(seed):
    images = random_images(seed)
    result = scored(images)
    for foreground, end in ((False, ""), (True, "_foreground")):
        for name, expected in looped(images, foreground).items():
            assert result[name + end] == pytest.approx(expected, abs=1e-4), name + end


def one_row(*confident: tuple[int, float]) -> np.ndarray:
    """Probabilities of one row: a class with its probability, the rest spread over the others."""
    probs = np.zeros((K + 1, 1, len(confident)), np.float32)
    for x, (k, sure) in enumerate(confident):
        probs[:, 0, x] = (1 - sure) / K
        probs[k, 0, x] = sure
    return probs


def test_calibration_by_hand():
    probs = one_row((1, 0.75), (1, 0.75), (1, 0.75), (1, 0.75), (0, 1.0), (0, 1.0), (2, 0.5))
    result = scored([(probs, np.array([[1, 1, 1, 0, 0, 2, 255]], np.uint8))])
    # four of 75 % of which three are right, two of 100 % of which one is: |0| * 4/6 + 50 * 2/6
    assert result["ece"] == pytest.approx(50 / 3)
    assert result["ece_foreground"] == 0
    assert (result["accuracy"][11], result["confidence"][11]) == (75, 75)  # 0.75 is in (11/15, 12/15]
    assert (result["accuracy"][14], result["confidence"][14], result["share"][14]) == (
        50, 100, pytest.approx(100 / 3)
    )  # fmt: skip
    assert (result["accuracy"][7], result["share"][7]) == (None, 0)
    assert result["share_foreground"][11] == 100


def test_probabilities_that_tell_the_truth_have_no_error_and_certain_ones_are_off_by_their_errors():
    rng = np.random.default_rng(1)
    gold = np.where(rng.random((200, 200)) < 0.8, 1, 0).astype(np.uint8)
    truthful, certain = (np.stack([np.full((2, 2), 1 - p), np.full((2, 2), p)]) for p in (0.8, 1.0))
    assert scored([(truthful.astype(np.float32), gold)], 1)["ece"] < 1
    wrong = 100 * np.mean(gold != 1)
    assert scored([(certain.astype(np.float32), gold)], 1)["ece"] == pytest.approx(wrong)


def test_the_label_that_is_judged_is_the_argmax_at_the_truths_size():
    ((probs, _),) = random_images(4, 1)
    labels = argmax_labels(probs, (17, 23))
    assert scored([(probs, labels)])["accuracy"].count(100) == sum(
        share > 0 for share in scored([(probs, labels)])["share"]
    )


def test_counts_are_additive_integers_that_halves_kept_as_float16_do_not_break():
    (probs, gold), *_ = images = random_images(6)
    counts = Calibration().count(probs.astype(np.float16), gold, K)
    assert {array.dtype for array in counts.values()} == {np.dtype(np.int64)}
    assert {array.shape for array in counts.values()} == {(2, 15)}
    assert counts["number"].sum() == np.count_nonzero(gold != 255)
    assert scored(images) == scored(images[::-1])


def test_without_truth_nothing_is_defined():
    result = scored([(one_row((0, 0.5)), np.array([[255]], np.uint8))])
    assert result["ece"] is result["ece_foreground"] is None
    assert result["accuracy"] == result["share"] == [None] * 15


@pytest.mark.parametrize(
    ("probs", "what"),
    [
        (one_row((0, 0.5)) * 1.1, "the sum of probabilities differs from 1 by 0.1"),
        (one_row((0, 0.5))[1:], r"probabilities are \(4, 1, 1\)"),
        (one_row((0, 0.5)) - 0.2, r"outside 0\.\.1"),
        (one_row((0, 0.5)) * np.nan, r"outside 0\.\.1"),
        (one_row((0, 0.5)).astype(np.int64), "int64"),
    ],
)
def test_what_are_no_probabilities_is_refused_with_its_place(probs, what):
    with pytest.raises(BadData, match=rf"{what}.*x\.npz"):
        Calibration().count(probs, np.zeros((1, 1), np.uint8), K, "x.npz")
