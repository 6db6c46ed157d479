"""Whether probabilities mean what they say: of the pixels held right with 80 %, are 80 % right?

Probabilities at the truth's size against the truth. Labels, tags and thresholds must not enter: the argmax
that is judged runs over all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import BadData
from wsssbench.masks import largest_plane
from wsssbench.metrics import PixelMetric, per_class_percent, percent
from wsssbench.scores.histogram import checked_scores, thresholds_below, truth_pixels
from wsssbench.types import IGNORE, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

    Ints = NDArray[np.int64]

BINS = 15  # Guo et al., ICML 2017, table 1
UNIT = 2**20  # of the fixed point in which confidences are summed: sums are exact, and so is their order
SUM_WITHIN = 0.01  # of 1; probabilities are kept as float16


class Calibration(PixelMetric):
    """Expected calibration error (Guo et al., "On calibration of modern neural networks", ICML 2017).

    Of each pixel with truth: its confidence, the largest probability at the truth's size, and whether that
    class is the truth. ECE = sum_b n_b / N * |accuracy_b - confidence_b| over the 15 bins (0, 1/15] ...
    (14/15, 1] of the confidence, with accuracy and mean confidence of each: the reliability diagram. At a
    tie the lower class is taken, as in `argmax_labels`. Bilinear resizing keeps sums at 1, so that nothing
    is renormalised. Confidences are rounded to 2**-20. Everything is in percent.
    The background is most of an image and easily right: `ece_foreground`, over the pixels whose argmax is a
    foreground class, tells more.
    """

    name = "calibration"
    needs = "probs"
    better = "lower"

    def count(
        self,
        output: NDArray[np.float32],
        gold: Mask,
        classes: int,
        where: object = "",
        truth: object = "",
    ) -> Counts:
        """number, hits and confidence (in 2**-20), (2, 15) each: pixels with truth whose argmax is background
        and foreground, by bin. BadData, naming `where` or `truth`, for impossible probabilities or labels."""
        truth_pixels(gold, classes, truth)
        probs = _checked(output, classes, where)
        label, confidence = largest_plane(probs, range(len(probs)), gold.shape, -1)
        confidence = np.clip(confidence, 0, 1)  # resizing may round to above 1
        known = gold != IGNORE
        label, confidence, gold = label[known], confidence[known], gold[known]
        cell = np.maximum(thresholds_below(confidence, BINS) - 1, 0) + BINS * (label > 0)
        fixed = np.rint(confidence.astype(np.float64) * UNIT)  # integers: float64 adds them exactly
        columns = {
            "number": np.bincount(cell, minlength=2 * BINS),
            "hits": np.bincount(cell[label == gold], minlength=2 * BINS),
            "confidence": np.bincount(cell, fixed, minlength=2 * BINS),
        }
        return {name: column.astype(np.int64).reshape(2, BINS) for name, column in columns.items()}

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: ece; lists over the 15 bins of accuracy and (mean) confidence, None for an empty bin,
        and share (of all pixels); the same with _foreground, over the pixels with a foreground argmax."""
        number, hits, confidence = (counts[name] for name in ("number", "hits", "confidence"))
        both = _diagram(number.sum(0), hits.sum(0), confidence.sum(0))
        foreground = _diagram(number[1], hits[1], confidence[1])
        return both | {f"{name}_foreground": value for name, value in foreground.items()}


def _checked(probs: NDArray[np.float32], classes: int, where: object) -> NDArray[np.float32]:
    """`probs` as float32, if they are (C, h, w) in [0, 1] and sum to 1 within 1 %; else BadData."""
    checked_scores(probs, "probabilities", (classes + 1, None, None), where)
    planes = np.asarray(probs, np.float32)
    off = float(np.abs(planes.sum(0) - 1).max())
    if off > SUM_WITHIN:
        hint = "calibration is defined for probabilities only: leave the metric out for other scores"
        raise BadData(f"the sum of probabilities differs from 1 by {off:.3g}", where=where, hint=hint)
    return planes


def _diagram(number: Ints, hits: Ints, confidence: Ints) -> dict[str, Any]:
    """ece, accuracy, confidence and share of bins (15,)."""
    total = int(number.sum())
    # sum_b n_b / N * |hits_b / n_b - sum_b / n_b| without the divisions that cancel
    gap = np.abs(hits * UNIT - confidence).sum()
    sure = [percent(part, int(whole) * UNIT) for part, whole in zip(confidence, number, strict=True)]
    return {
        "ece": percent(gap, total * UNIT),
        "accuracy": per_class_percent(hits, number),
        "confidence": sure,
        "share": [percent(part, total) for part in number],
    }
