"""Boundary IoU, counted from the labels of each image, and what void means to scores of boundaries.

Void truth has no label, and in VOC it hides the outline itself: every object wears a ring of void. A score
that took void for a class of its own would give away where the objects are, even to a prediction without
any outline. Boundary IoU and boundary F therefore give void pixels, in the truth and in the prediction
alike, the label of the nearest pixel that is not void (Euclidean): the outline runs through the middle of the
ring, what is predicted inside the ring does not count, and a prediction that is right outside void is right.
Abstained pixels (255) of a prediction are a region of their own: they have an outline and belong to no class.
Numpy and scipy on arrays; no files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import PixelMetric, confusion_counts, iou_per_class, mean, percent
from wsssbench.types import IGNORE, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

    Bools = NDArray[np.bool_]

BAND = 0.02  # of the image diagonal; Cheng et al., CVPR 2021, for images of COCO's and VOC's size


def without_void(gold: Mask, predicted: Mask) -> tuple[Mask, Mask]:
    """Both label maps (H, W) with every pixel of void truth labelled as the nearest one that is not void.

    Where several are equally near one of them is taken, the same in both maps. Not all may be void.
    """
    void = gold == IGNORE
    if not void.any():
        return gold, predicted
    from scipy.ndimage import maximum_filter
    from scipy.spatial import KDTree

    # The nearest labelled pixel touches void: a step from it towards the void pixel would else be nearer.
    rim = np.argwhere(maximum_filter(void, size=3) & ~void)
    nearest = rim[KDTree(rim).query(np.argwhere(void))[1]]
    gold, predicted = gold.copy(), predicted.copy()
    for labels in (gold, predicted):
        labels[void] = labels[nearest[:, 0], nearest[:, 1]]
    return gold, predicted


def band_px(shape: tuple[int, ...], share: float = BAND) -> int:
    """Width of the band in pixels: `share` of the diagonal, rounded, at least 1."""
    return max(1, round(share * math.hypot(*shape)))


def boundary_band(labels: Mask, px: int) -> Bools:
    """(H, W): pixels with another label, or the outside of the image, at a chessboard distance of at most px.

    For each class's mask G of `labels` this is G minus G eroded `px` times by 3 x 3 with zeros around the
    image: all classes at once, since a pixel is eroded unless all of its window has its own label.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    size, outside = 2 * px + 1, IGNORE  # the outside is above every class
    highest = maximum_filter(labels, size=size, mode="constant", cval=outside)
    return np.asarray(highest != minimum_filter(labels, size=size, mode="constant", cval=outside))


def label_pixels(labels: Mask, where: Bools, classes: int) -> NDArray[np.int64]:
    """(C,) int64: how many of the chosen pixels have each label."""
    return np.bincount(labels[where], minlength=IGNORE + 1)[: classes + 1].astype(np.int64)


def no_counts(names: tuple[str, ...], classes: int) -> dict[str, NDArray[np.int64]]:
    """(C,) zeros under each name."""
    return {name: np.zeros(classes + 1, np.int64) for name in names}


class BoundaryIou(PixelMetric):
    """Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021), pooled over the data set.

    IoU_k = |(G_d & G) & (P_d & P)| / |(G_d & G) | (P_d & P)|, where G and P are all pixels of class k in
    truth and prediction (semantic masks, no instances) and G_d, P_d the pixels within d of their contour;
    d = 2 % of the image diagonal, rounded, at least 1 px, in chessboard distance, as the authors' code has it
    by d erosions with 3 x 3. The image border is a contour, as there: a mask that the image cuts off has a
    band along the cut. The band of the background thus always holds the frame and is easily right: the
    foreground's mean tells more. Void: see the module; bands are computed with void filled, then void pixels
    are removed from both bands, and `void_share` says how much of the truth's bands was lost so.
    """

    name = "boundary_iou"

    def count(self, output: Mask, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """Pixels of one image: both, gold and predicted (bands of each class, (C,)), band and void ((1,): the
        truth's bands before void is removed, and how much of them is void). BadData as `confusion_counts`."""
        confusion_counts(gold, output, classes, where, truth)
        known = gold != IGNORE
        if not known.any():
            return no_counts(("both", "gold", "predicted"), classes) | no_counts(("void", "band"), 0)
        right, said = without_void(gold, output)
        px = band_px(gold.shape)
        gold_band, said_band = boundary_band(right, px), boundary_band(said, px)
        return {
            "both": label_pixels(right, known & gold_band & said_band & (right == said), classes),
            "gold": label_pixels(right, known & gold_band, classes),
            "predicted": label_pixels(said, known & said_band, classes),
            "void": np.array([np.count_nonzero(gold_band & ~known)], np.int64),
            "band": np.array([np.count_nonzero(gold_band)], np.int64),
        }

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: boundary_iou, boundary_iou_foreground (means), per_class (C values, background first,
        None and not in the means where the truth shows no band), void_share, left_out (these classes)."""
        iou = iou_per_class(counts["both"], counts["gold"], counts["predicted"])
        return {
            "boundary_iou": mean(iou),
            "boundary_iou_foreground": mean(iou[1:]),
            "per_class": iou,
            "void_share": percent(counts["void"][0], counts["band"][0]),
            "left_out": np.flatnonzero(counts["gold"] == 0).tolist(),
        }
