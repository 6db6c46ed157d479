"""mIoU at every threshold of a grid from one histogram per image, and the best of these thresholds.

The curve needs the truth: `best_threshold` on the images that are judged is an oracle, on others a held-out
choice. Which of them a row may use is its threshold policy and must not enter here; the rule that needs no
truth is `wsssbench.scores.otsu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import BadData
from wsssbench.metrics import PixelMetric
from wsssbench.scores.histogram import (
    checked_maps,
    largest_map,
    thresholds_below,
    truth_pixels,
    unbroken_run,
)
from wsssbench.types import IGNORE, Counts, Maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

    Ints = NDArray[np.int64]

STEPS = 100  # thresholds 0.00, 0.01 ... 0.99
BINS = STEPS + 1  # a value exceeds 0..100 of them
NEAR = 1.0  # points of mIoU that a plateau may lose
STRIP_PX = 2**15  # pixels counted at a time: fresh memory for a whole image costs more than the counting
MISSED, BACKGROUND, HIT, VOID = range(4)  # what the truth of a pixel is to the largest map's class


def thresholds() -> list[float]:
    """The grid: 0.00, 0.01 ... 0.99."""
    return [i / STEPS for i in range(STEPS)]


def curve(counts: Counts, classes: int) -> NDArray[np.float64]:
    """(100,) mIoU in % at each threshold of the grid, NaN without truth; `classes` is K.

    Equal to `miou` of `wsssbench.metrics.Iou` on `threshold_labels(maps, t, ...)`, to the last bit.
    """
    truth = counts["gold"]
    said, hit = np.zeros((2, classes + 1, STEPS), np.int64)
    said[1:], hit[1:] = _above(counts["said"]), _above(counts["hit"])
    said[0] = truth.sum() - said.sum(0)
    hit[0] = truth[0] - _above(counts["background"])
    present = truth > 0
    if not present.any():
        return np.full(STEPS, np.nan)
    union = truth[:, None] + said - hit
    iou = 100.0 * hit[present] / union[present]
    return np.asarray(np.ascontiguousarray(iou.T).mean(1))  # each row summed as Iou sums its list


def best_threshold(counts: Counts, classes: int) -> float:
    """The grid's threshold of the highest mIoU; among equals the middle of the lowest unbroken run of them.

    The middle, rounded down, because a run of exact ties is where no pixel changes: its edges are as far from
    a change as the grid allows on one side only. BadData where no image has truth.
    """
    values = curve(counts, classes)
    if np.isnan(values).any():
        hint = "choose the threshold on images with masks"
        raise BadData(
            "no pixel has a truth by which a threshold could be chosen", where="threshold_curve", hint=hint
        )
    first, last = unbroken_run(values >= values.max(), int(values.argmax()))
    return ((first + last) // 2) / STEPS


def _above(histogram: Ints) -> Ints:
    """(..., BINS) pixels by bin -> (..., STEPS): how many exceed each threshold."""
    return np.cumsum(histogram[..., ::-1], axis=-1)[..., ::-1][..., 1:]


def _histogram(
    gold: Mask, winner: NDArray[np.uint8], value: NDArray[np.float32], classes: int
) -> NDArray[np.int64]:
    """(4, C, BINS) pixels by what the truth is to the winner, the winner, and the thresholds it exceeds."""
    meaning = np.full(IGNORE + 1, MISSED, np.int32)
    meaning[0], meaning[IGNORE] = BACKGROUND, VOID
    cell = meaning[gold]
    cell[(gold == winner) & (winner > 0)] = HIT
    cell *= classes + 1
    cell += winner
    cell *= BINS
    cell += thresholds_below(value, STEPS)
    shape = (VOID + 1, classes + 1, BINS)
    return np.bincount(cell.ravel(), minlength=int(np.prod(shape))).reshape(shape)


class ThresholdCurve(PixelMetric):
    """mIoU of class maps as a function of the background threshold, t = 0.00, 0.01 ... 0.99.

    mIoU(t) is that of `Iou` on the labels that `wsssbench.masks.threshold_labels` gives at t: at the truth's
    size, the largest map's class where it exceeds t, else background; an image without maps is background at
    every t. SEAM (Wang et al., CVPR 2020) prints such a curve over 0.00 ... 0.59 to choose its threshold by
    masks. `best_miou` is therefore an oracle: what a threshold chosen on the judged images themselves would
    reach, a ceiling that no policy without masks need attain. `plateau` shows how little the choice matters.
    """

    name = "threshold_curve"
    needs = "maps"

    def count(self, output: Maps, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """Pixels with truth of one image: gold (C,) by class; said and hit (K, 101) by the largest map's
        class and the number of thresholds that it exceeds, all and where it is the truth; background (101,),
        those of background truth by that number. BadData names `where` or `truth`, what is impossible."""
        pixels = truth_pixels(gold, classes, truth)
        winner, value = largest_map(checked_maps(output, classes, where), gold.shape)
        table = np.zeros((VOID + 1, classes + 1, BINS), np.int64)
        rows = max(1, STRIP_PX // gold.shape[1])
        for strip in (slice(top, top + rows) for top in range(0, gold.shape[0], rows)):
            table += _histogram(gold[strip], winner[strip], value[strip], classes)
        return {
            "gold": pixels,
            "said": table[:VOID, 1:].sum(0),
            "hit": table[HIT, 1:],
            "background": table[BACKGROUND].sum(0),
        }

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """best_miou in %, best_threshold (see the function), plateau (width, in units of the threshold, of
        the unbroken run of grid points around it that lose at most 1 point; 0 where both neighbours lose
        more), curve (100 values of mIoU in %) and thresholds. None where nothing has a truth."""
        values, grid = curve(counts, classes), thresholds()
        if np.isnan(values).any():
            nothing: dict[str, Any] = dict.fromkeys(("best_miou", "best_threshold", "plateau"))
            return {**nothing, "curve": [None] * STEPS, "thresholds": grid}
        best = best_threshold(counts, classes)
        first, last = unbroken_run(values >= values.max() - NEAR, round(best * STEPS))
        return {
            "best_miou": float(values.max()),
            "best_threshold": best,
            "plateau": (last - first) / STEPS,
            "curve": values.tolist(),
            "thresholds": grid,
        }
