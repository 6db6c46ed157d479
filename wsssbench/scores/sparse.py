"""How right sparse labels are where they speak, and how much they say: 255 in a prediction abstains.

For mined and confidence-filtered labels, whose precision means nothing without the coverage. Everything
follows from the confusion matrix; the confidences that the labels were cut by must not enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.scores.matrix import ConfusionMetric, confusion_matrix, mean, per_class_percent, percent
from wsssbench.types import Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PrecisionAtCoverage(ConfusionMetric):
    """Precision of the labelled pixels, the share that is labelled, and what the silence costs.

    With C the confusion of pixels with truth and A_k the abstained pixels of class k: coverage = labelled /
    all pixels with truth, coverage_k the same among the truth of k; precision_of_labelled_pixels = right /
    labelled; precision_k = TP_k / (TP_k + FP_k) and IoU_k over labelled pixels alone. These are the accuracy
    and the coverage of selective prediction (El-Yaniv and Wiener, JMLR 2010); `pseudo_scores` of AFA, ToCo
    and WeCLIP prints the IoU of labelled pixels as mIoU, which it is not: to abstain where it is hard
    raises it. The two companions judge all pixels: abstained_as_error counts A_k as false negatives, as
    SEAM's evaluation does (it equals miou of `Iou`), abstained_as_background as predictions of class 0, as
    IRN's does. Classes without truth are left out of all means, classes without labels of the precision too.
    """

    name: str = "precision_at_coverage"

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages; lists run over the C classes, background first, None where undefined.

        precision_of_labelled_pixels, coverage, coverage_background, coverage_foreground;
        class_precision_of_labelled_pixels, miou_of_labelled_pixels, miou_abstained_as_error and
        miou_abstained_as_background (means), each with a list ..._per_class; coverage_per_class.
        """
        matrix = confusion_matrix(counts, classes)
        said, truth = matrix[:, :-1], matrix.sum(1)
        as_background = said.copy()
        as_background[:, 0] += matrix[:, -1]
        hit, labelled = np.diagonal(said), said.sum(1)
        precision = [
            share if on else None
            for share, on in zip(per_class_percent(hit, said.sum(0)), truth > 0, strict=True)
        ]
        return {
            "precision_of_labelled_pixels": percent(int(hit.sum()), int(said.sum())),
            "coverage": percent(int(said.sum()), int(truth.sum())),
            "coverage_background": percent(labelled[0], truth[0]),
            "coverage_foreground": percent(int(labelled[1:].sum()), int(truth[1:].sum())),
            "coverage_per_class": per_class_percent(labelled, truth),
            **_with_mean("class_precision_of_labelled_pixels", precision),
            **_with_mean("miou_of_labelled_pixels", _iou(said, labelled)),
            **_with_mean("miou_abstained_as_error", _iou(said, truth)),
            **_with_mean("miou_abstained_as_background", _iou(as_background, truth)),
        }


def _with_mean(name: str, values: list[float | None]) -> dict[str, Any]:
    return {name: mean(values), f"{name}_per_class": values}


def _iou(said: NDArray[np.int64], truth: NDArray[np.int64]) -> list[float | None]:
    """TP / (truth + said - TP) in % of each class, None where `truth` is empty."""
    hit, union = np.diagonal(said), truth + said.sum(0) - np.diagonal(said)
    return [percent(h, u) if t else None for h, u, t in zip(hit, union, truth, strict=True)]
