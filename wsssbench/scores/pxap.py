"""Pixel average precision of class maps: how well a map orders pixels, whatever the threshold.

Maps at the truth's size against the truth, one class against the rest. No threshold and no competition
between classes may enter; that is the threshold curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.masks import resize_bilinear
from wsssbench.metrics import PixelMetric, mean, percent
from wsssbench.scores.histogram import (
    FINE,
    average_precision,
    checked_maps,
    thresholds_below,
    truth_pixels,
)
from wsssbench.types import IGNORE, Counts, Maps

if TYPE_CHECKING:
    from wsssbench.types import Mask

BINS = FINE + 1
OTHER, OWN, VOID = range(3)  # what the truth of a pixel is to the map's class


class PxAP(PixelMetric):
    """Pixel average precision (Choe et al., "Evaluating weakly supervised object localization methods right",
    CVPR 2020), pooled over images, one class against the rest.

    AP_k = sum over t of precision_k(t) * (recall_k(t) - recall_k(next higher t)), with precision_k(t) and
    recall_k(t) of the pixels whose map of k exceeds t, for t = 0.999, 0.998 ... 0 and below; PxAP = mean of
    AP_k over the classes with positive pixels. Pixels of void truth are left out. Binning: 0 alone, then
    (0, 0.001] ... (0.999, 1]; pixels of one bin are accepted at once. The authors accept from t on, so that
    values on a threshold fall into the next bin there, and their masks show one class per image.
    Class k is judged on the images whose maps include k alone: with tags given, the images that show it.
    A step that predicts tags is thus not charged for a class that it did not see; `mapped` says how much was
    judged. Pixels of another class in the same image are negatives of k.
    """

    name = "pxap"
    needs = "maps"

    def count(self, output: Maps, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """Of one image: positive and negative (K, 1001), pixels of class k and of others by their score of k;
        gold (K,) pixels of each foreground class. BadData names `where` or `truth` for the impossible."""
        pixels = truth_pixels(gold, classes, truth)
        table = np.zeros((classes, VOID, BINS), np.int64)
        maps = checked_maps(output, classes, where)
        for plane, k in zip(maps.values, maps.classes, strict=True):
            cell = thresholds_below(resize_bilinear(plane[None], gold.shape)[0], FINE)
            meaning = np.zeros(IGNORE + 1, np.int32)
            meaning[k + 1], meaning[IGNORE] = OWN * BINS, VOID * BINS
            cell += meaning[gold]
            found = np.bincount(cell.ravel(), minlength=(VOID + 1) * BINS).reshape(VOID + 1, BINS)
            table[k] = found[:VOID]
        return {"positive": table[:, OWN], "negative": table[:, OTHER], "gold": pixels[1:]}

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: pxap (mean), per_class (K values, no background, None without positive pixels), mapped
        (share of foreground truth whose class has a map in its image), left_out (0-based classes)."""
        pairs = zip(counts["positive"], counts["negative"], strict=True)
        per_class = [average_precision(positive, negative) for positive, negative in pairs]
        return {
            "pxap": mean(per_class),
            "per_class": per_class,
            "mapped": percent(int(counts["positive"].sum()), int(counts["gold"].sum())),
            "left_out": [k for k, value in enumerate(per_class) if value is None],
        }
