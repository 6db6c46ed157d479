"""IoU of each image and what the worst of them are like: from the confusion of every image apart.

These scores are means of ratios, not ratios of sums: counts of two images cannot be added before the ratio
is taken, so they come from the whole `CountsTable` of a split instead.
A few numbers per image and class are held (COCO-14 val: some 100 MB); masks must not enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.metrics import PixelMetric, confusion_counts, mean
from wsssbench.types import Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import CountsTable
    from wsssbench.types import Mask

    Floats = NDArray[np.float64]

WORST_PERCENT = 10  # of the images, or of a class's images
NAMED = 10  # worst images that are listed by name


class PerImage(PixelMetric):
    """IoU of each image, its mean, and the worst (Csurka et al., BMVC 2013; Wang et al., NeurIPS 2023).

    IoU_ik = TP / (TP + FP + FN) of class k in image i, for the classes that image i shows; image_miou = mean
    over images of the mean over their classes, class_miou = mean over classes of the mean over the images
    that show them, and both again over the worst 10 % alone: `score_images` says more.
    The judge asks `score_table` with the confusion of every image. What `score` says of summed counts is
    true of one image alone, and takes a sum for one large image.
    """

    name = "per_image"

    def count(self, output: Mask, gold: Mask, classes: int) -> Counts:
        """The confusion of one image."""
        return confusion_counts(gold, output, classes)

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """`score_images` of one image, without its name."""
        from wsssbench.scores.counts_table import CountsTable

        return self.score_table(CountsTable.of(["image"], [counts]), classes)

    def score_table(self, table: CountsTable, classes: int) -> Mapping[str, Any]:
        """`score_images` of a split."""
        return score_images(table, classes)


def score_images(table: CountsTable, classes: int, worst_percent: int = WORST_PERCENT) -> dict[str, Any]:
    """Per-image IoU and its worst cases, in %; `classes` is K, lists run over the C = K + 1 classes.

    IoU_ik = TP / (TP + FP + FN) of class k in image i, for the classes that have truth pixels in image i
    (Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013). A class that
    is predicted and not there has no IoU of its own; its pixels are false negatives of what is there.
    image_miou: mean over images of the mean over their classes. image_per_class: mean over the images that
    show the class; class_miou: mean of that over classes. The ones with _worst do the same over the worst
    `worst_percent` % alone (rounded up, at least one), of the images or, class by class, of its images: the
    mIoU^I, mIoU^C and worst-case metrics of Wang et al., "Revisiting evaluation metrics for semantic
    segmentation", NeurIPS 2023. Also worst_images ([id, mIoU] of the lowest, ties in the table's order),
    worst_percent, n_images (with any truth) and n_images_per_class. None where undefined.
    """
    iou, present = image_iou(table, classes)
    with_truth = present.any(1)
    of_image = np.array([iou[i, present[i]].mean() for i in np.flatnonzero(with_truth)])
    of_class = [iou[present[:, k], k] for k in range(classes + 1)]
    means = [mean(values) for values in of_class]
    worst = [mean(_lowest(values, worst_percent)) for values in of_class]
    ids = [table.ids[i] for i in np.flatnonzero(with_truth)]
    return {
        "image_miou": mean(of_image),
        "image_miou_worst": mean(_lowest(of_image, worst_percent)),
        "class_miou": mean(means),
        "class_miou_worst": mean(worst),
        "image_per_class": means,
        "image_per_class_worst": worst,
        "worst_images": [[ids[i], float(of_image[i])] for i in np.argsort(of_image, kind="stable")[:NAMED]],
        "worst_percent": worst_percent,
        "n_images": len(ids),
        "n_images_per_class": present.sum(0).tolist(),
    }


def image_iou(table: CountsTable, classes: int) -> tuple[Floats, NDArray[np.bool_]]:
    """(n, C) IoU in % of each image and class, 0 without truth pixels, and which have truth pixels."""
    hit, truth, said = table.by_image(classes)
    present = truth > 0
    return np.where(present, 100.0 * hit / np.maximum(truth + said - hit, 1), 0.0), present


def _lowest(values: Floats, percent: int) -> Floats:
    """The lowest `percent` % of values, rounded up: in integers, as 0.1 * 30 is more than 3."""
    return np.sort(values)[: -(-len(values) * percent // 100)]
