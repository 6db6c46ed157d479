"""Boundary F, counted from the labels of each image: outlines compared within a tolerance.

Void is treated as in `wsssbench.scores.boundary`, which says why; bands must not enter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import PixelMetric, confusion_counts, mean, per_class_percent
from wsssbench.scores.boundary import no_counts, without_void
from wsssbench.types import IGNORE, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

    Bools = NDArray[np.bool_]

TOLERANCE = 0.0075  # of the image diagonal; BSDS, and Csurka et al. for semantic segmentation


def outline(labels: Mask) -> Bools:
    """(H, W): pixels one of whose four neighbours has another label; the image border is not an outline."""
    edge = np.zeros(labels.shape, bool)
    rows, columns = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= rows
    edge[:-1] |= rows
    edge[:, 1:] |= columns
    edge[:, :-1] |= columns
    return edge


class BoundaryF(PixelMetric):
    """Boundary F: precision and recall of outlines within a tolerance (BSDS: Martin et al., TPAMI 2004).

    precision_k = share of the predicted outline pixels of class k that lie within the tolerance of a true
    outline pixel of k, recall_k the reverse, F_k = 2 P R / (P + R) (Csurka et al., BMVC 2013, for semantic
    segmentation; pixel counts are pooled over images here, where they average F over images). Tolerance:
    0.75 % of the image diagonal, Euclidean, not rounded, the BSDS value (4.7 px of 500 x 375); DAVIS (Perazzi
    et al., CVPR 2016) takes 0.8 %, rounded up. As there, pixels are matched many to one, not one to one as in
    BSDS. The outline of class k are its pixels with a neighbour (of four) of another label; the image border
    is none. Void: see `wsssbench.scores.boundary`; outline pixels inside void are kept, since VOC's outlines
    run nowhere else.
    """

    name = "boundary_f"

    def count(self, output: Mask, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """Outline pixels of one image, (C,) each: gold, gold_matched, predicted, predicted_matched."""
        confusion_counts(gold, output, classes, where, truth)
        counts = no_counts(("gold", "gold_matched", "predicted", "predicted_matched"), classes)
        if (gold == IGNORE).all():
            return counts
        right, said = without_void(gold, output)
        (true, true_label), (guess, guess_label) = _outline_points(right), _outline_points(said)
        counts["gold"] = np.bincount(true_label, minlength=IGNORE + 1)[: classes + 1]
        counts["predicted"] = np.bincount(guess_label, minlength=IGNORE + 1)[: classes + 1]
        reach = TOLERANCE * math.hypot(*gold.shape)
        for k in np.flatnonzero(counts["gold"] * counts["predicted"]):
            here, there = true[true_label == k], guess[guess_label == k]
            counts["gold_matched"][k] = _within(here, there, reach)
            counts["predicted_matched"][k] = _within(there, here, reach)
        return counts

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: boundary_f, boundary_f_foreground, boundary_precision, boundary_recall (means over
        classes with a true outline), per_class, precision_per_class, recall_per_class (C values, background
        first, None where undefined), left_out (classes without a true outline)."""
        here = counts["gold"] > 0
        recall = per_class_percent(counts["gold_matched"], counts["gold"])
        precision = per_class_percent(counts["predicted_matched"], np.where(here, counts["predicted"], 0))
        f = [_harmonic(p, r) for p, r in zip(precision, recall, strict=True)]
        return {
            "boundary_f": mean(f),
            "boundary_f_foreground": mean(f[1:]),
            "boundary_precision": mean(precision),
            "boundary_recall": mean(recall),
            "per_class": f,
            "precision_per_class": precision,
            "recall_per_class": recall,
            "left_out": np.flatnonzero(~here).tolist(),
        }


def _outline_points(labels: Mask) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Places (n, 2) of the outline's pixels, and their labels (n,)."""
    edge = outline(labels)
    return np.argwhere(edge), labels[edge]


def _within(points: NDArray[np.int64], others: NDArray[np.int64], reach: float) -> int:
    """How many of `points` (n, 2) have one of `others` (m, 2) at a distance of at most `reach`."""
    from scipy.spatial import KDTree

    bound = float(np.nextafter(reach, np.inf))  # the library's bound is strict
    return int(np.isfinite(KDTree(others).query(points, distance_upper_bound=bound)[0]).sum())


def _harmonic(precision: float | None, recall: float | None) -> float | None:
    """2 P R / (P + R); 0 where nothing is right, None where there is nothing to find."""
    if recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision and recall else 0.0
