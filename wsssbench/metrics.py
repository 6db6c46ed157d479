"""Additive integer counts of one image, and the numbers that follow from their sum.

The basic count is the sparse confusion of one image: triples (gold, predicted, pixels), 255 included on both
sides. Everything here is numpy on arrays; no files, no data set, no torch. Who reads the masks is the judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wsssbench.errors import BadData
from wsssbench.types import IGNORE, Counts, Kind, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask

    Ints = NDArray[np.int64]

TRIPLES = frozenset(("gold", "predicted", "pixels"))
SIDE = 256  # a label is one byte
LONG_RUNS = 16  # mean length in pixels from which runs are counted instead of pixels


def confusion_counts(
    gold: Mask, predicted: Mask, classes: int, where: object = "", truth: object = ""
) -> Counts:
    """Sparse confusion of one image: {"gold", "predicted", "pixels"}, int64 arrays of one length.

    `gold` and `predicted` are (H, W) uint8 in {0..K, 255}; `classes` is K, the number of foreground classes.
    Void truth and abstained predictions are kept as 255. BadData where shapes differ or a value is neither
    in 0..K nor 255; it names `where`, the place of the prediction, or `truth`, the place of the truth.
    """
    if gold.shape != predicted.shape:
        raise BadData(f"prediction has shape {predicted.shape}, the truth {gold.shape}", where=where,
                      hint="labels must have the size of the image")  # fmt: skip
    for name, side, place in (("truth", gold, truth), ("prediction", predicted, where)):
        if side.dtype != np.uint8:
            raise BadData(f"{name} has values of type {side.dtype}, not uint8", where=place)
    cells, pixels = _counted(gold.ravel(), predicted.ravel())
    counts = {"gold": cells // SIDE, "predicted": cells % SIDE, "pixels": pixels}
    return checked(counts, classes, where, truth)


def _counted(gold: NDArray[np.uint8], said: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct gold * SIDE + said of flat labels, ascending, and how often each occurs.

    Labels stay the same over long runs of pixels: counting runs takes a third of the time. Noise has none.
    """
    changes = gold[1:] != gold[:-1]
    changes |= said[1:] != said[:-1]
    ends = np.flatnonzero(changes)
    if len(ends) * LONG_RUNS >= gold.size:
        dense = np.bincount(gold.astype(np.uint16) * SIDE + said)
        values = np.flatnonzero(dense)
        return values.astype(np.int64), dense[values].astype(np.int64)
    last = np.append(ends, gold.size - 1)
    pair, lengths = gold[last].astype(np.uint16) * SIDE + said[last], last.copy()
    lengths[0] += 1
    lengths[1:] -= ends
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    first = np.append(0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1)
    return ordered[first].astype(np.int64), np.add.reduceat(lengths[order], first).astype(np.int64)


def _sparse(dense: NDArray[np.int64]) -> Counts:
    """Triples of the non-zero cells of a flat (SIDE * SIDE,) count."""
    cells = np.flatnonzero(dense)
    gold, predicted = np.divmod(cells.astype(np.int64), SIDE)
    return {"gold": gold, "predicted": predicted, "pixels": dense[cells].astype(np.int64)}


def checked(counts: Counts, classes: int, where: object, truth: object) -> Counts:
    """`counts`, if every label is in 0..classes or 255."""
    for name, place in (("gold", truth), ("predicted", where)):
        side = counts[name]
        wrong = side[(side > classes) & (side != IGNORE)]
        if len(wrong):
            whose = "truth" if name == "gold" else "prediction"
            raise wrong_labels(whose, np.unique(wrong), classes, place)
    return counts


def wrong_labels(whose: str, labels: Ints, classes: int, where: object) -> BadData:
    """The error for distinct `labels` that are neither in 0..classes nor 255; it names the first five."""
    values = ", ".join(str(label) for label in labels[:5])
    hint = f"labels are 0 for background, 1..{classes} for classes, {IGNORE} for none"
    return BadData(f"{whose} has label {values}, outside 0..{classes}", where=where, hint=hint)


def add_counts(many: Iterable[Counts]) -> Counts:
    """Sum of counts: triples are merged by (gold, predicted), other mappings are added array by array.

    An empty `many` gives empty triples. Exact int64, independent of the order.
    """
    items = list(many)
    if all(set(item) == TRIPLES for item in items):
        return _sparse(dense_counts(items))
    names = set(items[0])
    if any(set(item) != names for item in items):
        raise ValueError("counts of different kinds cannot be added")
    return {name: np.sum([item[name] for item in items], axis=0, dtype=np.int64) for name in sorted(names)}


def dense_counts(items: Iterable[Counts]) -> NDArray[np.int64]:
    """(SIDE * SIDE,) int64 pixels of all triples."""
    dense = np.zeros(SIDE * SIDE, np.int64)
    for item in items:
        np.add.at(dense, item["gold"] * SIDE + item["predicted"], item["pixels"])
    return dense


# ------------------------------------------------------------------------------------------------- scores


def confusion_matrix(counts: Counts, classes: int) -> NDArray[np.int64]:
    """(C, C + 1) int64 pixels of summed triples: row = truth, column = prediction, the last one abstained.

    `classes` is K, C = K + 1. Pixels of void truth are dropped. BadData for a label outside 0..K and 255.
    """
    full = dense_counts([checked(counts, classes, "counts", "counts")]).reshape(SIDE, SIDE)
    return full[: classes + 1, [*range(classes + 1), IGNORE]]


def percent(part: int, whole: int) -> float | None:
    """100 * part / whole, or None where it is not defined."""
    return 100.0 * int(part) / int(whole) if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the defined values, or None without any."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def per_class_percent(parts: Ints, wholes: Ints) -> list[float | None]:
    """100 * part / whole of each class, None where the whole is empty."""
    return [percent(part, whole) for part, whole in zip(parts, wholes, strict=True)]


def iou_per_class(hit: Ints, truth: Ints, said: Ints) -> list[float | None]:
    """IoU in % of each class from its pixels TP, TP + FN and TP + FP; None for a class without truth."""
    return per_class_percent(hit, np.where(truth > 0, truth + said - hit, 0))


class PixelMetric(Metric):
    """A percentage of label maps of which more is better, unless a subclass says otherwise."""

    needs: Kind = "labels"
    better: Literal["higher", "lower"] = "higher"
    unit: str = "%"


class ConfusionMetric(PixelMetric):
    """What metrics of the sparse confusion have in common: they count the same triples as `Iou`.

    `from_confusion` says so to a judge that has counted the triples already.
    """

    from_confusion = True

    def count(self, output: Mask, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """`confusion_counts` of one image; BadData names `where` or `truth` for an impossible label."""
        return confusion_counts(gold, output, classes, where, truth)


class Iou(PixelMetric):
    """Intersection over union, pooled over the data set (VOC devkit), with precision, recall and coverage.

    Over all pixels whose truth is not 255, with TP, FP, FN of class k pooled over images:
    IoU_k = TP / (TP + FP + FN); precision_k = TP / (TP + FP); recall_k = TP / (TP + FN)
    (Everingham et al., "The PASCAL VOC challenge", IJCV 2010 and 2015, section on segmentation).
    A prediction of 255 abstains: a false negative of its truth, a false positive of nothing. A class without
    truth pixels in the judged split is left out of every mean; predictions of it stay false negatives of the
    truth. A class that is never predicted has no precision and is left out of that mean alone.
    """

    name = "iou"

    def count(self, output: Mask, gold: Mask, classes: int) -> Counts:
        """`confusion_counts` of one image; `classes` is K, the number of foreground classes."""
        return confusion_counts(gold, output, classes)

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """Percentages in 0..100 from summed triples; lists run over the C = K + 1 classes, background first.

        miou, miou_foreground, precision, recall (means), per_class, precision_per_class, recall_per_class
        (None where undefined), left_out (indices without truth pixels), pixel_accuracy (abstaining is
        wrong), coverage (share of non-void pixels with a prediction other than 255).
        """
        matrix = confusion_matrix(counts, classes)
        square, truth = matrix[:, :-1], matrix.sum(1)
        hit, said, pixels = np.diagonal(square), square.sum(0), int(matrix.sum())
        iou, recall = iou_per_class(hit, truth, said), per_class_percent(hit, truth)
        precision = per_class_percent(hit, np.where(truth > 0, said, 0))
        return {
            "miou": mean(iou),
            "miou_foreground": mean(iou[1:]),
            "precision": mean(precision),
            "recall": mean(recall),
            "pixel_accuracy": percent(int(hit.sum()), pixels),
            "coverage": percent(int(square.sum()), pixels),
            "per_class": iou,
            "precision_per_class": precision,
            "recall_per_class": recall,
            "left_out": np.flatnonzero(truth == 0).tolist(),
        }
