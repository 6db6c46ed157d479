"""How right sparse labels are where they speak, and how much they say: 255 in a prediction abstains.

For mined and confidence-filtered labels, whose precision means nothing without the coverage. Everything
follows from the confusion matrix; the confidences that the labels were cut by must not enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsssbench.metrics import (
    ConfusionMetric,
    confusion_matrix,
    iou_per_class,
    mean,
    per_class_percent,
    percent,
)
from wsssbench.types import Counts


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

    name = "precision_at_coverage"

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
        precision = per_class_percent(hit, np.where(truth > 0, said.sum(0), 0))
        return {
            "precision_of_labelled_pixels": percent(int(hit.sum()), int(said.sum())),
            "coverage": percent(int(said.sum()), int(truth.sum())),
            "coverage_background": percent(labelled[0], truth[0]),
            "coverage_foreground": percent(int(labelled[1:].sum()), int(truth[1:].sum())),
            "coverage_per_class": per_class_percent(labelled, truth),
            **_with_mean("class_precision_of_labelled_pixels", precision),
            **_with_mean("miou_of_labelled_pixels", iou_per_class(hit, labelled, said.sum(0))),
            **_with_mean("miou_abstained_as_error", iou_per_class(hit, truth, said.sum(0))),
            **_with_mean(
                "miou_abstained_as_background",
                iou_per_class(np.diagonal(as_background), truth, as_background.sum(0)),
            ),
        }


def _with_mean(name: str, values: list[float | None]) -> dict[str, Any]:
    return {name: mean(values), f"{name}_per_class": values}
