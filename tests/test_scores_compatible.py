"""What the field's evaluators print, on cases worked out by hand and against their rules in plain loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsssbench.errors import BadData, WsssError
from wsssbench.metrics import Iou, add_counts, confusion_counts
from wsssbench.scores.compatible import (
    EVALUATORS,
    Compatible,
    chainercv,
    fast_hist,
    irn,
    mmseg,
    pseudo_scores,
    seam_counters,
    voc_devkit,
)

K = 20  # VOC: the arithmetic of a predicted 255 depends on it
seeds = st.integers(0, 2**32 - 1)


def row(*labels: int) -> np.ndarray:
    return np.array([labels], np.uint8)


def counted(gold: np.ndarray, said: np.ndarray, classes: int = K):
    return confusion_counts(gold, said, classes)


def random_pair(seed: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(gold, predicted) of 300 pixels; gold has void and classes 0..8, where `_fast_hist` does not crash."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    gold = rng.choice([*range(9), 255], (1, 300)).astype(np.uint8)
    said = np.where(rng.random((1, 300)) < 0.5, gold, rng.choice(labels, (1, 300))).astype(np.uint8)
    said[said == 255] = 0 if 255 not in labels else 255
    return gold, said


# ------------------------------------------------------------------------------------- the rules, as loops


def nan_mean(values: list[float]) -> float:
    return float(np.mean([value for value in values if not math.isnan(value)]))


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def grown_matrix(gold: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Pixels by (truth, prediction) for all labels up to the largest of both, truth 255 taken as -1."""
    side = int(max(said.max(), gold[gold != 255].max(initial=0))) + 1
    matrix = np.zeros((side, side), np.int64)
    for g, p in zip(gold.flat, said.flat, strict=True):
        if g != 255:
            matrix[g, p] += 1
    return matrix


def by_chainercv(gold, said) -> float:
    m = grown_matrix(gold, said)
    return nan_mean([ratio(m[k, k], m[k].sum() + m[:, k].sum() - m[k, k]) for k in range(len(m))])


def by_irn(gold, said) -> float:
    return by_chainercv(gold, np.where(said == 255, 0, said))


def by_counters(gold, said) -> float:
    iou = []
    for k in range(K + 1):
        t, p = ((labels == k) & (gold < 255) for labels in (gold, said))
        iou.append((t & p).sum() / (t.sum() + p.sum() - (t & p).sum() + 1e-10))
    return float(np.mean(iou))


def by_fast_hist(gold, said) -> float:
    side = K + 1
    index = [side * int(g) + int(p) for g, p in zip(gold.flat, said.flat, strict=True) if g < side]
    hist = np.bincount(index, minlength=side**2).reshape(side, side)  # ValueError beyond the last cell
    union = hist.sum(0) + hist.sum(1) - np.diag(hist)
    return float(np.mean([hist[k, k] / union[k] for k in range(side) if hist[k].any()]))


def by_pseudo_scores(gold, said) -> float:
    return by_fast_hist(np.where(said == 255, 255, gold), np.where(said == 255, 0, said))


def by_devkit(gold, said) -> float:
    """NaN where a label is nowhere; 255 in a result picture stops it."""
    if (said > K).any():
        raise ValueError("out of range value")
    m = np.zeros((K + 1, K + 1), np.int64)
    np.add.at(m, (gold[gold < 255], said[gold < 255]), 1)
    return float(np.mean([ratio(m[k, k], m[k].sum() + m[:, k].sum() - m[k, k]) for k in range(K + 1)]))


def by_mmseg(gold, said) -> float:
    valid = gold != 255
    hit, t, p = (
        np.array([(side == k).sum() for k in range(K + 1)])  # histograms over 0..K: what is beyond drops out
        for side in (gold[valid & (gold == said)], gold[valid], said[valid])
    )
    return nan_mean([ratio(h, a + b - h) for h, a, b in zip(hit, t, p, strict=True)])


RULES = {
    "chainercv": by_chainercv,
    "irn": by_irn,
    "seam_counters": by_counters,
    "fast_hist": by_fast_hist,
    "pseudo_scores": by_pseudo_scores,
    "voc-devkit": by_devkit,
    "mmseg": by_mmseg,
}


@pytest.mark.parametrize("name", EVALUATORS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "labels", [[*range(9)], [*range(12)], [*range(12), 255]], ids=["same", "more", "255"]
)
def test_each_evaluator_follows_its_rules(name, seed, labels):
    gold, said = random_pair(seed, labels)
    if name == "voc-devkit":  # else a class is nowhere, and there is nothing to compare
        gold[0, : K + 1] = np.arange(K + 1)
        if 255 in labels:
            with pytest.raises(ValueError, match="out of range"):
                by_devkit(gold, said)
            with pytest.raises(WsssError, match="out of range value 255"):
                EVALUATORS[name](counted(gold, said), K)
            return
    theirs = EVALUATORS[name](counted(gold, said), K)
    assert theirs.miou == pytest.approx(100 * RULES[name](gold, said))


@given(seeds)
def test_all_agree_with_ours_on_dense_labels_that_show_every_class_and_no_other(seed):
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    gold = np.concatenate([np.arange(K + 1), rng.choice([*range(K + 1), 255], 200)]).astype(np.uint8)[None]
    said = np.where(rng.random(gold.shape) < 0.5, gold, rng.integers(0, K + 1, gold.shape)).astype(np.uint8)
    said[said == 255] = 0
    result = Compatible().score(counted(gold, said), K)
    for name in EVALUATORS:
        assert result[f"{name}_difference"] == pytest.approx(0, abs=1e-6), name
        assert result[f"{name}_note"] == ""


# -------------------------------------------------------------------------------------- differences, by hand


def test_chainercv_counts_a_class_255_where_the_prediction_abstains():
    counts = counted(row(0, 0, 1, 1), row(0, 0, 1, 255))
    assert Iou().score(counts, K)["miou"] == 75
    theirs = chainercv(counts, K)
    assert theirs.miou == pytest.approx((100 + 50 + 0) / 3)
    assert theirs.per_class[:3] == (100, 50, None)
    assert "255" in theirs.note


def test_chainercv_does_not_see_what_is_predicted_in_void():
    assert chainercv(counted(row(0, 255), row(0, 255)), K) == chainercv(counted(row(0, 255), row(0, 3)), K)


def test_chainercv_counts_a_class_that_is_predicted_and_not_there_as_zero():
    counts = counted(row(0, 0, 1, 1), row(0, 0, 1, 5))
    assert Iou().score(counts, K)["miou"] == 75
    assert chainercv(counts, K).miou == pytest.approx(50)
    assert chainercv(counts, K).per_class[5] == 0


def test_irn_takes_what_abstains_for_background():
    counts = counted(row(0, 0, 1, 1), row(0, 255, 1, 255))
    assert Iou().score(counts, K)["miou"] == 50
    assert irn(counts, K).miou == pytest.approx((100 * 2 / 3 + 50) / 2)


def test_seam_counters_count_every_missing_class_as_zero():
    counts = counted(row(0, 0, 1, 1), row(0, 0, 1, 255))
    assert seam_counters(counts, K).miou == pytest.approx((100 + 50) / 21)
    assert seam_counters(counts, K).note.startswith("19 classes without truth")
    assert seam_counters(counts, 1).miou == pytest.approx(Iou().score(counts, 1)["miou"])


def test_seam_counters_wrap_at_32_bits_and_say_so():
    def many(pixels: int):
        return {"gold": np.array([0]), "predicted": np.array([0]), "pixels": np.array([pixels])}

    assert seam_counters(many(2**31 - 1), 1).per_class[0] == pytest.approx(100)
    assert "wrapped" not in seam_counters(many(2**31 - 1), 1).note
    wrong = counted(row(0, 1), row(1, 1), 1)
    wrapped = seam_counters(add_counts([many(2**32), wrong]), 1)
    assert wrapped.per_class[0] == 0  # 2**32 background pixels have become none
    assert "wrapped for classes 0" in wrapped.note
    assert Iou().score(add_counts([many(2**32), wrong]), 1)["per_class"][0] == pytest.approx(100)


def test_fast_hist_puts_a_predicted_255_into_the_cell_of_another_class():
    counts = counted(row(0, 0, 1, 1, 3), row(0, 255, 1, 1, 0))
    theirs = fast_hist(counts, K)
    # truth 0, predicted 255: index 255 = 12 * 21 + 3, counted as truth 12 predicted 3
    assert theirs.per_class[0] == pytest.approx(50)  # 1 hit, 1 false positive; the abstained pixel is lost
    assert theirs.per_class[12] == 0  # a class that is in no image
    assert theirs.miou == pytest.approx((50 + 100 + 0 + 0) / 4)
    assert Iou().score(counts, K)["miou"] == pytest.approx((100 / 3 + 100 + 0) / 3)
    assert theirs.note.startswith("1 pixels")


@pytest.mark.parametrize(("classes", "last"), [(20, 8), (80, 77)])
def test_fast_hist_crashes_where_the_cell_lies_beyond_the_last_row(classes, last):
    fast_hist(counted(row(last), row(255), classes), classes)
    with pytest.raises(WsssError, match=f"truth is {last + 1} "):
        fast_hist(counted(row(last + 1), row(255), classes), classes)
    with pytest.raises(ValueError, match="reshape"):
        by_fast_hist(row(9), row(255))
    result = Compatible().score(counted(row(0, last + 1), row(0, 255), classes), classes)
    assert result["fast_hist_miou"] is result["fast_hist_difference"] is result["fast_hist_per_class"] is None
    assert "reshape" in result["fast_hist_note"]


def test_pseudo_scores_rise_when_what_is_hard_is_left_out():
    gold = row(0, 0, 1, 1)
    wrong, silent = counted(gold, row(0, 0, 1, 0)), counted(gold, row(0, 0, 1, 255))
    assert pseudo_scores(silent, K).miou == 100 > pseudo_scores(wrong, K).miou
    assert Iou().score(silent, K)["miou"] == 75
    assert pseudo_scores(silent, K).note.startswith("25.0 %")


def test_the_devkit_has_no_number_where_a_class_is_nowhere_and_says_which():
    counts = counted(row(0, 0, 1, 1), row(0, 0, 1, 2), 3)
    theirs = voc_devkit(counts, 3)
    assert theirs.miou is None
    assert theirs.per_class == (100, 50, 0, None)
    assert theirs.note == "NaN: labels 3 are neither in the truth nor predicted (0 / 0)"
    result = Compatible().score(counts, 3)
    assert result["voc-devkit_miou"] is result["voc-devkit_difference"] is None
    assert result["voc-devkit_per_class"] == [100, 50, 0, None]
    json.dumps(result, allow_nan=False)


def test_the_devkit_stops_at_a_255_wherever_it_is():
    assert voc_devkit(counted(row(0, 1, 255), row(0, 1, 1), 1), 1).miou == 100
    for gold in (row(0, 1, 255), row(0, 1, 1)):
        with pytest.raises(WsssError, match="255 in 1 pixels"):
            voc_devkit(counted(gold, row(0, 1, 255), 1), 1)


def test_mmseg_misses_a_predicted_255_and_counts_what_is_predicted_without_truth_as_zero():
    counts = counted(row(0, 0, 1, 1, 255), row(0, 5, 1, 255, 255))
    theirs = mmseg(counts, K)
    assert theirs.per_class[:6] == (50, 50, None, None, None, 0)
    assert theirs.miou == pytest.approx(100 / 3)
    assert "labels 5, predicted without truth" in theirs.note
    assert "1 pixels predicted 255 are misses" in theirs.note


# ------------------------------------------------------------------------------------------------ the metric


def test_the_metric_gives_each_miou_and_its_distance_from_ours():
    counts = counted(row(0, 0, 1, 1), row(0, 0, 1, 255))
    result = Compatible().score(counts, K)
    assert result["ours"] == 75
    for name, evaluator in EVALUATORS.items():
        if name == "voc-devkit":  # it stops at the 255
            assert result[f"{name}_miou"] is result[f"{name}_difference"] is None
            continue
        assert result[f"{name}_miou"] == evaluator(counts, K).miou
        assert result[f"{name}_difference"] == pytest.approx(result[f"{name}_miou"] - 75)


def test_impossible_labels_are_refused_even_where_the_field_would_count_them():
    with pytest.raises(BadData, match=r"outside 0\.\.20"):
        EVALUATORS["fast_hist"]({name: np.array([21]) for name in ("gold", "predicted", "pixels")}, K)
