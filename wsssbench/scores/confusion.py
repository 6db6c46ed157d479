"""Scores of the pooled confusion matrix beside IoU: accuracy, error ratios, activation, confusion pairs.

With TP, FP and FN of each class pooled over all images and void truth dropped. An abstained pixel is a false
negative of its truth and a false positive of nothing; a class without truth pixels is left out of every
mean, as in `wsssbench.metrics.Iou`. Scores of single images and of boundaries must not enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import ConfusionMetric, confusion_matrix, mean, per_class_percent, percent
from wsssbench.types import Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = 10  # confusions worth reading


@dataclass(frozen=True)
class _Errors:
    """Pixels per class, (C,) int64 each, zero for all but `truth` where the class has no truth pixels."""

    hit: NDArray[np.int64]  # TP
    false: NDArray[np.int64]  # FP
    missed: NDArray[np.int64]  # FN
    truth: NDArray[np.int64]  # TP + FN

    @classmethod
    def of(cls, counts: Counts, classes: int) -> _Errors:
        matrix = confusion_matrix(counts, classes)
        hit, truth, said = np.diagonal(matrix), matrix.sum(1), matrix[:, :-1].sum(0)
        return cls(hit, np.where(truth > 0, said - hit, 0), truth - hit, truth)

    @property
    def union(self) -> NDArray[np.int64]:
        """TP + FP + FN."""
        return self.hit + self.false + self.missed


class Accuracy(ConfusionMetric):
    """Frequency-weighted IoU and mean class accuracy (Long et al., "Fully convolutional nets", CVPR 2015).

    With t_k the truth pixels of class k: frequency-weighted IoU = sum_k t_k IoU_k / sum_k t_k; accuracy_k =
    TP_k / t_k, the recall of `Iou`. The weighted mean is ruled by the background (three quarters of VOC).
    """

    name = "accuracy"

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: frequency_weighted_iou, mean_class_accuracy, mean_class_accuracy_foreground, per_class
        (accuracy of the C classes, background first, None without truth)."""
        e = _Errors.of(counts, classes)
        iou = per_class_percent(e.hit, e.union)
        weighted = [
            share * int(pixels) for share, pixels in zip(iou, e.truth, strict=True) if share is not None
        ]
        accuracy = per_class_percent(e.hit, e.truth)
        total = int(e.truth.sum())
        return {
            "frequency_weighted_iou": sum(weighted) / total if total else None,
            "mean_class_accuracy": mean(accuracy),
            "mean_class_accuracy_foreground": mean(accuracy[1:]),
            "per_class": accuracy,
        }


class ErrorRatios(ConfusionMetric):
    """False positives and false negatives as shares of the union; with IoU they make 100 %.

    fp_ratio_k = FP / (TP + FP + FN), fn_ratio_k = FN / (TP + FP + FN): the "fp" and "fn" that IRN (Ahn et
    al., CVPR 2019) and SEAM (Wang et al., CVPR 2020) compute in their evaluation code, IRN as 1 - truth /
    union and 1 - predicted / union. A high fp_ratio is over-activation, a high fn_ratio under-activation.
    """

    name = "error_ratios"
    better = "lower"

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: fp_ratio and fn_ratio (means), the same with _foreground and _per_class appended
        (C values, background first, None without truth)."""
        e = _Errors.of(counts, classes)
        fp, fn = per_class_percent(e.false, e.union), per_class_percent(e.missed, e.union)
        return {
            "fp_ratio": mean(fp),
            "fn_ratio": mean(fn),
            "fp_ratio_foreground": mean(fp[1:]),
            "fn_ratio_foreground": mean(fn[1:]),
            "fp_ratio_per_class": fp,
            "fn_ratio_per_class": fn,
        }


class Activation(ConfusionMetric):
    """Over- and under-activation in multiples of what was hit (SEAM, Wang et al., CVPR 2020: m_FP and m_FN).

    over_activation_k = FP_k / TP_k, under_activation_k = FN_k / TP_k; the means run over the foreground
    classes, as the background's errors are the foreground's turned round. Unbounded ratios, not percentages:
    1 is as many wrong pixels as right ones. A class with truth but without any hit has no ratio: it is left
    out of the means and listed in `never_hit`, so that a low mean with a long list is not read as a success.
    """

    name = "activation"
    better = "lower"
    unit = "ratio"

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """over_activation and under_activation (means over the foreground), the same with _per_class
        (C values, background first), never_hit (indices of classes with truth and no true positive)."""
        e = _Errors.of(counts, classes)
        over, under = _multiples(e.false, e.hit), _multiples(e.missed, e.hit)
        return {
            "over_activation": mean(over[1:]),
            "under_activation": mean(under[1:]),
            "over_activation_per_class": over,
            "under_activation_per_class": under,
            "never_hit": np.flatnonzero((e.truth > 0) & (e.hit == 0)).tolist(),
        }


def _multiples(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[float | None]:
    return [int(part) / int(whole) if whole else None for part, whole in zip(parts, wholes, strict=True)]


class ConfusionPairs(ConfusionMetric):
    """Which class is taken for which: share of gold's pixels that get the other's label.

    share(g, p) = C_gp / sum_j C_gj for g != p, a cell of the row-normalised confusion matrix (Stehman, Remote
    Sensing of Environment 1997), abstained pixels in the denominator and never among the pairs. Ordered by
    share, then pixels, then classes. Pairs with the background say over- and under-activation and
    crowd out the rest; pairs between two foreground classes are therefore listed by themselves too.
    """

    name = "confusion_pairs"
    better = "lower"

    def __init__(self, longest: int = PAIRS) -> None:
        self.longest = longest

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """pairs and pairs_foreground: at most `longest` triples [gold class, predicted class, share in %]."""
        matrix = confusion_matrix(counts, classes)
        truth, wrong = matrix.sum(1), matrix[:, :-1].copy()
        np.fill_diagonal(wrong, 0)
        shares = [
            (percent(wrong[g, p], truth[g]) or 0.0, int(wrong[g, p]), int(g), int(p))
            for g, p in np.argwhere(wrong)
        ]
        ordered = [
            [g, p, share] for share, _, g, p in sorted(shares, key=lambda s: (-s[0], -s[1], s[2], s[3]))
        ]
        return {
            "pairs": ordered[: self.longest],
            "pairs_foreground": [pair for pair in ordered if pair[0] and pair[1]][: self.longest],
        }
