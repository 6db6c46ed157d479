"""The confusion matrix of summed triples, and what the scores that follow from it share.

Triples become a small dense matrix here and shares become percentages; what a score means must not enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from wsssbench.metrics import SIDE, checked, confusion_counts, dense_counts, mean, percent
from wsssbench.types import IGNORE, Counts, Kind, Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wsssbench.types import Mask

__all__ = ["ConfusionMetric", "confusion_matrix", "mean", "per_class_percent", "percent"]


def confusion_matrix(counts: Counts, classes: int) -> NDArray[np.int64]:
    """(C, C + 1) int64 pixels of summed triples: row = truth, column = prediction, the last one abstained.

    `classes` is K, C = K + 1. Pixels of void truth are dropped. BadData for a label outside 0..K and 255.
    """
    full = dense_counts([checked(counts, classes, "counts", "counts")]).reshape(SIDE, SIDE)
    return full[: classes + 1, [*range(classes + 1), IGNORE]]


def per_class_percent(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[float | None]:
    """100 * part / whole of each class, None where the whole is empty."""
    return [percent(part, whole) for part, whole in zip(parts, wholes, strict=True)]


class ConfusionMetric(Metric):
    """What metrics of the sparse confusion have in common: they count the same triples as `Iou`.

    `from_confusion` tells a judge that has counted the triples already not to count the pixels again.
    """

    from_confusion = True
    needs: Kind = "labels"
    better: Literal["higher", "lower"] = "higher"
    unit: str = "%"

    def count(self, output: Mask, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """`confusion_counts` of one image; BadData names `where` or `truth` for an impossible label."""
        return confusion_counts(gold, output, classes, where, truth)
