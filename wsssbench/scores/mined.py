"""What mined labels teach: how many pixels they make background and objects, and how often they are right.

The first thing to look at where RRM, or any training on sparse labels, does not train. How labels are mined
must not enter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wsssbench.metrics import SIDE, confusion_counts, dense_counts, per_class_percent, percent
from wsssbench.types import IGNORE, Counts, Kind, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask


class Mined(Metric):
    """Share, precision and recall of mined background and objects, pooled over images.

    Over pixels whose truth is not 255, of which M_k are mined as class k, T_k truly are k and H_k are both:
    share = M / all pixels, precision = H / M, recall = H / T; of background those of k = 0, of objects with
    the sums over k > 0, so that an object pixel is right where its very class is.
    An image is without background (or without a class that its mask shows) where not one pixel is mined as
    such, wherever it lies. The two sides of RRM's cross-entropy count alike (Zhang et al., AAAI 2020), so
    that few and wrong background pixels weigh as much as many objects.
    """

    name = "mined"
    needs: Kind = "mined"
    better: Literal["higher", "lower"] = "higher"
    unit: str = "%"

    def count(self, output: Mask, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """pixels (C, C + 1): truth x mined label, the last column abstained; images (C,): that show the class
        (background: all), and lacking (C,): those of them in which no pixel is mined as such; C = K + 1.
        objectless (1,): 1 where no pixel is mined as any object. BadData, naming `where` or `truth`, for
        impossible labels."""
        counts = confusion_counts(gold, output, classes, where, truth)
        full = dense_counts([counts]).reshape(SIDE, SIDE)
        labels = np.arange(classes + 1)
        shown, found = full[labels].sum(1) > 0, full[:, labels].sum(0) > 0
        shown[0] = True
        return {
            "pixels": full[labels][:, [*labels, IGNORE]],
            "images": shown.astype(np.int64),
            "lacking": (shown & ~found).astype(np.int64),
            "objectless": np.array([not found[1:].any()], np.int64),
        }

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages: mined (of the pixels that are mined, those that are right); share, precision and
        recall of background and of objects; true_background (the share of background in the truth); and
        images_without_background and images_without_objects, the share of images in which not one pixel is
        mined as such. objects_per_background is a ratio of pixels, None without background.
        Lists over the C classes, background first, None where undefined: share, precision, recall and
        images_without, each with _per_class behind it."""
        pixels = counts["pixels"]
        truth, said, hit = pixels.sum(1), pixels[:, :-1].sum(0), np.diagonal(pixels)
        every, objects = int(truth.sum()), int(said[1:].sum())
        without = per_class_percent(counts["lacking"], counts["images"])
        return {
            "mined": percent(int(hit.sum()), int(said.sum())),
            "share_background": percent(said[0], every),
            "precision_background": percent(hit[0], said[0]),
            "recall_background": percent(hit[0], truth[0]),
            "true_background": percent(truth[0], every),
            "share_objects": percent(objects, every),
            "precision_objects": percent(int(hit[1:].sum()), objects),
            "recall_objects": percent(int(hit[1:].sum()), int(truth[1:].sum())),
            "objects_per_background": objects / int(said[0]) if said[0] else None,
            "images_without_background": without[0],
            "images_without_objects": percent(int(counts["objectless"][0]), int(counts["images"][0])),
            "share_per_class": per_class_percent(said, _of_shown(truth, every)),
            "precision_per_class": per_class_percent(hit, np.where(truth > 0, said, 0)),
            "recall_per_class": per_class_percent(hit, truth),
            "images_without_per_class": without,
        }


def _of_shown(truth: NDArray[np.int64], every: int) -> NDArray[np.int64]:
    """All pixels for each class that any mask shows, none for the others: what their share is of."""
    return np.where(truth > 0, every, 0)
