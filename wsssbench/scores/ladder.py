"""Which kind of error costs how much mIoU: wrong pixels sorted into kinds, and kinds repaired one by one.

To repair one type of error at a time and see what is gained is the idea of TIDE (Bolya et al., "TIDE: A
general toolbox for identifying object detection errors", ECCV 2020), there for boxes and AP, here for pixels
and mIoU; the kinds are those that weak supervision is known for. Numpy and scipy on arrays; no files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from wsssbench.errors import BadData
from wsssbench.metrics import PixelMetric, confusion_counts, iou_per_class, mean, percent
from wsssbench.scores.boundary import band_px, boundary_band, without_void
from wsssbench.types import IGNORE, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask, Tags

    Bools = NDArray[np.bool_]

# In the order of the ladder: what knowing the tags would mend, then objects, then outlines, then silence.
KINDS = ("wrong_tag", "class_swap", "context_false_positive", "part_only", "boundary", "abstained")
WRONG_TAG, CLASS_SWAP, CONTEXT, PART_ONLY, BOUNDARY, ABSTAINED = range(len(KINDS))
NO_ERROR = -1  # right, or void


def error_kinds(gold: Mask, predicted: Mask, tags: Tags | None = None) -> NDArray[np.int64]:
    """(H, W) index into KINDS of every wrong pixel, NO_ERROR where the pixel is right or its truth is void.

    `gold` and `predicted` are (H, W) uint8 in {0..K, 255}; `tags` (K,) are the classes of the image, by
    default those with pixels in `gold`. A wrong pixel has one kind, the first of these that fits:
    abstained (255 is predicted, whatever the truth), wrong_tag (a class that the image does not have),
    class_swap (a class of the image where another one is), boundary (background for object or object for
    background within `outline_band`), context_false_positive (object for background away from the outline),
    part_only (background for object away from the outline; an object that is missed altogether is one).
    """
    return np.select(
        [
            (gold == predicted) | (gold == IGNORE),
            predicted == IGNORE,
            _beyond_tags(gold, tags)[predicted],
            (gold > 0) & (predicted > 0),
            outline_band(gold),
            gold == 0,
        ],
        [NO_ERROR, ABSTAINED, WRONG_TAG, CLASS_SWAP, BOUNDARY, CONTEXT],
        PART_ONLY,
    )


def _beyond_tags(gold: Mask, tags: Tags | None) -> Bools:
    """(256,) whether a label is a class that the image does not have."""
    if tags is None:
        beyond: Bools = np.bincount(gold.ravel(), minlength=IGNORE + 1) == 0
    else:
        beyond = np.ones(IGNORE + 1, np.bool_)
        beyond[1 : len(tags) + 1] = ~np.asarray(tags, bool)
    beyond[[0, IGNORE]] = False
    return beyond


def outline_band(gold: Mask) -> Bools:
    """(H, W): pixels within 2 % of the image diagonal of an outline between object and background.

    Width, distance and void as in Boundary IoU (`wsssbench.scores.boundary`: void is filled with the nearest
    label). Unlike there, the image border is not an outline, and neither is the line between two classes: an
    error there swaps them. An object thinner than twice the band lies in it as a whole.
    """
    if (gold == IGNORE).all():
        return np.zeros(gold.shape, bool)
    px = band_px(gold.shape)
    thing = (without_void(gold, gold)[0] > 0).astype(np.uint8)
    wide = np.pad(thing, px, mode="edge")  # what the image border adds stays in the padding
    return boundary_band(wide, px)[px:-px, px:-px]


def ladder_counts(
    gold: Mask,
    predicted: Mask,
    classes: int,
    tags: Tags | None = None,
    where: object = "",
    truth: object = "",
) -> Counts:
    """Pixels of one image, int64: "right" (C,) by label; wrong ones as "missed" (kinds, C) by kind and truth
    and as "false" (kinds, C) by kind and what was said (nowhere, of what abstains).

    `classes` is K. BadData as `confusion_counts`, and for tags that are not K.
    """
    confusion = confusion_counts(gold, predicted, classes, where, truth)
    if tags is not None and len(tags) != classes:
        raise BadData(f"{len(tags)} tags for {classes} classes", where=where)
    known = (confusion["gold"] == confusion["predicted"]) & (confusion["gold"] != IGNORE)
    right = np.zeros(classes + 1, np.int64)
    right[confusion["gold"][known]] = confusion["pixels"][known]
    kinds = error_kinds(gold, predicted, tags)
    wrong = kinds != NO_ERROR
    said = wrong & (predicted != IGNORE)
    return {
        "right": right,
        "missed": _by_kind(kinds[wrong], gold[wrong], classes),
        "false": _by_kind(kinds[said], predicted[said], classes),
    }


def _by_kind(kinds: NDArray[np.int64], labels: Mask, classes: int) -> NDArray[np.int64]:
    """(kinds, C) int64 pixels."""
    shape = (len(KINDS), classes + 1)
    cells = np.ravel_multi_index((kinds, labels), shape)
    return np.bincount(cells, minlength=int(np.prod(shape))).astype(np.int64).reshape(shape)


def repaired_miou(counts: Counts, classes: int, kinds: Collection[str]) -> float | None:
    """mIoU in % (that of `Iou`) if every pixel of these kinds had the label of its truth."""
    repaired = np.isin(KINDS, list(kinds))
    hit = counts["right"] + counts["missed"][repaired].sum(0)
    truth = counts["right"] + counts["missed"].sum(0)
    return mean(iou_per_class(hit, truth, hit + counts["false"][~repaired].sum(0)))


class ErrorLadder(PixelMetric):
    """How much mIoU each kind of error costs: what is gained where one kind is repaired and the rest is kept.

    The kinds are those of `error_kinds`, the tags of an image the classes in its mask. They are disjoint and
    hold every wrong pixel, so that repairing all makes 100 %. Gains of one kind alone (TIDE's way, Bolya et
    al., ECCV 2020) do not depend on an order and do not add up, as mIoU is not a sum of errors; the steps of
    the ladder do add up and depend on the order, which is that of KINDS. Repairing never lowers mIoU.
    """

    name = "error_ladder"

    def count(self, output: Mask, gold: Mask, classes: int, where: object = "", truth: object = "") -> Counts:
        """`ladder_counts` of one image; BadData names `where` or `truth` for an impossible label."""
        return ladder_counts(gold, output, classes, None, where, truth)

    def score(self, counts: Counts, classes: int) -> Mapping[str, Any]:
        """miou (%), alone (kind: points gained), ladder ([kind, mIoU once it and those before are repaired]),
        share (kind: % of the wrong pixels). None where undefined."""
        miou = repaired_miou(counts, classes, ())
        pixels = counts["missed"].sum(1)
        each = {kind: repaired_miou(counts, classes, (kind,)) for kind in KINDS}
        return {
            "miou": miou,
            "alone": {k: None if v is None or miou is None else v - miou for k, v in each.items()},
            "ladder": [[k, repaired_miou(counts, classes, KINDS[: i + 1])] for i, k in enumerate(KINDS)],
            "share": {k: percent(p, pixels.sum()) for k, p in zip(KINDS, pixels, strict=True)},
        }
