"""How well a classifier knows which classes an image shows: average precision and F1 of its tag scores.

Scores of whole images against tags; where in the image a class is must not enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import PixelMetric, mean, percent
from wsssbench.scores.histogram import (
    FINE,
    average_precision,
    checked_scores,
    thresholds_below,
    truth_pixels,
)
from wsssbench.types import Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

BINS = FINE + 1
HALF = FINE // 2  # a score above 0.5 exceeds the thresholds 0.000 ... 0.500, one more than these


class TagScores(PixelMetric):
    """Mean average precision and F1 of tag scores, pooled over images.

    AP_k = sum over t of precision_k(t) * (recall_k(t) - recall_k(next higher t)) over the images ordered by
    their score of class k: not interpolated and not sampled at 11 points as in Everingham et al., IJCV 2010,
    but the plain sum that scikit-learn computes and that PxAP uses. mAP = mean over the classes that any
    image shows. F1_k = 2 TP / (2 TP + FP + FN) of the tags with a score above 0.5 (van Rijsbergen,
    "Information retrieval", 1979); f1_macro = mean over the same classes, f1_micro from TP, FP and FN
    summed over all.
    True tags are the classes in the mask: one whose pixels are all void is missing, whatever the data set's
    own tags say. Scores count in the bins 0 alone, (0, 0.001] ... (0.999, 1]: within a bin they are equal,
    so that a classifier whose scores crowd at 0 or 1 may lose something to the exact AP.
    """

    name = "tag_scores"
    needs = "tag_scores"

    def count(
        self,
        output: NDArray[np.float32],
        gold: Mask,
        classes: int,
        where: object = "",
        truth: object = "",
    ) -> Counts:
        """positive and negative (K, 1001): 1 at the bin of each class's score, by whether the mask shows it.
        BadData, naming `where` or `truth`, for impossible scores or labels."""
        shown = truth_pixels(gold, classes, truth)[1:] > 0
        bins = thresholds_below(checked_scores(output, "tag scores", (classes,), where), FINE)
        table = np.zeros((2, classes, BINS), np.int64)
        table[shown.astype(np.intp), np.arange(classes), bins] = 1
        return {"positive": table[1], "negative": table[0]}

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: mean_ap, f1_micro, f1_macro; per_class and f1_per_class (K values, no background, None
        for a class that no image shows), left_out (0-based indices of these)."""
        positive, negative = counts["positive"], counts["negative"]
        per_class = [average_precision(p, n) for p, n in zip(positive, negative, strict=True)]
        hit, false = positive[:, HALF + 1 :].sum(1), negative[:, HALF + 1 :].sum(1)
        wanted = positive.sum(1)
        sums = hit + false + wanted  # (TP + FP) + (TP + FN)
        f1 = [percent(2 * h, s) if w else None for h, s, w in zip(hit, sums, wanted, strict=True)]
        return {
            "mean_ap": mean(per_class),
            "f1_micro": percent(2 * int(hit.sum()), int(sums.sum())),
            "f1_macro": mean(f1),
            "per_class": per_class,
            "f1_per_class": f1,
            "left_out": np.flatnonzero(wanted == 0).tolist(),
        }
