"""mAP and F1 of tag scores against loops over images in float64, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wsssbench.errors import BadData
from wsssbench.metrics import add_counts
from wsssbench.scores.tagging import TagScores

K = 5
Image = tuple[np.ndarray, np.ndarray]


def mask_of(*labels: int) -> np.ndarray:
    return np.array([[0, *labels, 255]], np.uint8)


def random_images(seed: int, count: int = 30, steps: int = 1000) -> list[Image]:
    """Scores in the middle of one of `steps` bins, so that binning loses nothing."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        shown = rng.random(K) < 0.35
        shown[-1] = False  # a class that no image shows
        score = np.clip(rng.normal(0.4 + 0.2 * shown, 0.25), 0, 0.999)
        images.append((((np.floor(score * steps) + 0.5) / steps).astype(np.float32),
                       mask_of(*np.flatnonzero(shown) + 1)))  # fmt: skip
    return images


def scored(images: list[Image]):
    return TagScores().score(add_counts(TagScores().count(score, gold, K) for score, gold in images), K)


def looped_ap(scores: list[float], shown: list[bool]) -> float | None:
    """Precision times the gain of recall at each distinct score, from the highest."""
    if not any(shown):
        return None
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        accepted = [own for score, own in zip(scores, shown, strict=True) if score >= threshold]
        recall = sum(accepted) / sum(shown)
        area += sum(accepted) / len(accepted) * (recall - before)
        before = recall
    return 100 * area


@pytest.mark.parametrize("seed", range(10))
def test_map_and_f1_agree_with_loops_over_images(seed):
    images = random_images(seed)
    scores = [[float(score[k]) for score, _ in images] for k in range(K)]
    shown = [[k + 1 in gold for _, gold in images] for k in range(K)]
    result = scored(images)
    ap = [looped_ap(s, t) for s, t in zip(scores, shown, strict=True)]
    assert result["per_class"] == [None if a is None else pytest.approx(a) for a in ap]
    assert result["mean_ap"] == pytest.approx(np.mean([a for a in ap if a is not None]))
    sums = np.zeros(3)
    f1 = []
    for s, t in zip(scores, shown, strict=True):
        pairs = [(value > 0.5, own) for value, own in zip(s, t, strict=True)]
        own_sums = [sum(p == pair for p in pairs) for pair in ((True, True), (True, False), (False, True))]
        sums += own_sums
        tp, fp, fn = own_sums
        f1.append(100 * 2 * tp / (2 * tp + fp + fn) if any(t) else None)
    assert result["f1_per_class"] == [None if f is None else pytest.approx(f) for f in f1]
    assert result["f1_macro"] == pytest.approx(np.mean([f for f in f1 if f is not None]))
    assert result["f1_micro"] == pytest.approx(100 * 2 * sums[0] / (2 * sums[0] + sums[1] + sums[2]))
    assert result["left_out"] == [K - 1]


def score_of(**values: float) -> np.ndarray:
    """`score_of(c1=0.9)`: scores that are 0 but for the named labels."""
    score = np.zeros(K, np.float32)
    for name, value in values.items():
        score[int(name[1:]) - 1] = value
    return score


def test_map_and_f1_by_hand():
    images = [
        (score_of(c1=0.9), mask_of(1)),
        (score_of(c1=0.8, c2=0.6), mask_of(2)),
        (score_of(c1=0.5), mask_of(1)),
    ]
    result = scored(images)
    # class 1: right, wrong, right -> (1/1 + 2/3) / 2; class 2: right at once
    assert result["per_class"] == [pytest.approx(100 * 5 / 6), 100, None, None, None]
    assert result["mean_ap"] == pytest.approx((500 / 6 + 100) / 2)
    assert result["f1_per_class"] == [50, 100, None, None, None]  # 0.5 is not above 0.5
    assert (result["f1_macro"], result["f1_micro"]) == (75, pytest.approx(200 * 2 / 6))


def test_scores_of_one_bin_are_equal_and_those_beside_a_threshold_are_not():
    upper, lower = (scored([(score_of(c1=a), mask_of()), (score_of(c1=b), mask_of(1))])["mean_ap"]
                    for a, b in ((0.50021, 0.50029), (0.49999, 0.50001)))  # fmt: skip
    assert (upper, lower) == (50, 100)


def test_a_class_whose_pixels_are_all_void_is_no_tag():
    assert scored([(score_of(c1=0.9), mask_of())])["left_out"] == list(range(K))
    assert scored([(score_of(), mask_of())])["f1_micro"] is None


def test_counts_are_additive_integers():
    images = random_images(2)
    counts = TagScores().count(*images[0], K)
    assert {array.dtype for array in counts.values()} == {np.dtype(np.int64)}
    assert counts["positive"].sum() + counts["negative"].sum() == K
    assert scored(images) == scored(images[::-1])


def test_a_thousand_bins_are_close_to_exact_ranking_of_crowded_scores():
    rng = np.random.default_rng(0)
    shown = rng.random(1000) < 0.07
    score = 1 / (1 + np.exp(-rng.normal(-5 + 8 * shown, 2.5)))  # most within 0.01 of 0 or 1
    images = [(score_of(c1=s), mask_of(*([1] if own else []))) for s, own in zip(score, shown, strict=True)]
    found, exact = scored(images)["mean_ap"], looped_ap(score.tolist(), shown.tolist())
    print(f"binned {found:.2f}, exact {exact:.2f}")
    assert found == pytest.approx(exact, abs=1.0)


@pytest.mark.parametrize(
    ("score", "what"),
    [
        (np.zeros(K - 1, np.float32), r"tag scores are \(4,\)"),
        (np.full(K, 1.5, np.float32), r"outside 0\.\.1"),
        (np.full(K, np.nan, np.float32), r"outside 0\.\.1"),
        (np.zeros(K, np.int64), "int64"),
    ],
)
def test_impossible_scores_are_refused_with_their_place(score, what):
    with pytest.raises(BadData, match=rf"{what}.*x\.npz"):
        TagScores().count(score, mask_of(), K, "x.npz")
