"""Where a method errs: IoU and recall over slices of the judged images, from their confusions alone.

The truth's rows of an image's confusion tell which classes it shows and how large they are, so slices need
the `CountsTable` of a split and no masks; which files it comes from must not enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.metrics import Iou, add_counts, mean
from wsssbench.scores.matrix import per_class_percent
from wsssbench.types import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.judge import CountsTable

    Pixels = NDArray[np.int64]  # (n, C) of each image and class

SMALL, LARGE = 5, 20  # % of the image: a class below the first is small, above the second large
SIZES = (f"under {SMALL} %", f"{SMALL} to {LARGE} %", f"over {LARGE} %")
NUMBERS = ("no class", "1 class", "2 classes", "3 or more classes")
COMPANY = ("alone", "with other classes")


@dataclass(frozen=True)
class Slice:
    """One part of the judged images, or of their classes, and how well it is done; None where undefined."""

    group: str
    name: str
    images: int
    classes: int  # in the means
    iou: float | None  # %, mean over classes
    recall: float | None  # %, mean over the same classes
    per_class: tuple[float | None, ...]  # IoU in %, (C,), background first


def all_slices(table: CountsTable, classes: int) -> list[Slice]:
    """The slices by number of classes, by size and by company, in this order; `classes` is K."""
    return [
        *class_number_slices(table, classes),
        *size_slices(table, classes),
        *company_slices(table, classes),
    ]


def class_number_slices(table: CountsTable, classes: int) -> list[Slice]:
    """Images by the number of foreground classes with truth pixels; "no class" only where there are such.

    Scores are `Iou`'s miou and recall over the images of the slice: background included, over the classes
    that the slice shows. Images without any truth belong to none.
    """
    truth = _pixels(table, classes, table.gold, table.gold != IGNORE)
    number = np.minimum((truth[:, 1:] > 0).sum(1), len(NUMBERS) - 1)
    found = []
    for n, name in enumerate(NUMBERS):
        chosen = (number == n) & truth.any(1)
        if n or chosen.any():
            found.append(_image_slice(table, classes, chosen, name))
    return found


def _image_slice(table: CountsTable, classes: int, chosen: NDArray[np.bool_], name: str) -> Slice:
    kept = chosen[table.image]
    triples = {column: getattr(table, column)[kept] for column in ("gold", "predicted", "pixels")}
    scores = Iou().score(add_counts([triples]), classes)
    judged = classes + 1 - len(scores["left_out"])
    per_class = tuple(scores["per_class"])
    return Slice(
        "classes in the image", name, int(chosen.sum()), judged, scores["miou"], scores["recall"], per_class
    )


def size_slices(table: CountsTable, classes: int) -> list[Slice]:
    """Each class over the images in which it is small, medium or large; means over the slice's own classes.

    The size of class k in an image is the area of all its truth pixels (objects are not told apart) over that
    of the image, void included: below 5 %, 5 to 20 % (both included), above 20 %. IoU_k and recall_k pool the
    images in which class k has that size; what is taken for k in images without it is in no slice.
    """
    truth = _pixels(table, classes, table.gold, table.gold != IGNORE)[:, 1:]
    area = np.zeros(len(table.ids), np.int64)
    np.add.at(area, table.image, table.pixels)
    size = (100 * truth >= SMALL * area[:, None]).astype(int) + (100 * truth > LARGE * area[:, None])
    return _class_slices(table, classes, "size of the class", SIZES, np.where(truth > 0, size, -1))


def company_slices(table: CountsTable, classes: int) -> list[Slice]:
    """Each class over the images that show it alone, and over those that show other classes as well.

    Co-occurring classes are what image tags cannot tell apart. The means run over the classes that are found
    in both slices, so that they differ by the company and not by the class.
    """
    present = _pixels(table, classes, table.gold, table.gold != IGNORE)[:, 1:] > 0
    company = np.broadcast_to((present.sum(1) > 1)[:, None], present.shape).astype(int)
    index = np.where(present, company, -1)
    return _class_slices(table, classes, "company of the class", COMPANY, index, shared=True)


def _class_slices(
    table: CountsTable,
    classes: int,
    group: str,
    names: Sequence[str],
    index: NDArray[np.int_],
    *,
    shared: bool = False,
) -> list[Slice]:
    """One slice per name: `index` (n, K) says to which one each class of each image belongs, -1 to none."""
    known = table.gold != IGNORE
    sides = (
        (table.gold, known & (table.gold == table.predicted)),
        (table.gold, known),
        (table.predicted, known & (table.predicted != IGNORE)),
    )
    counts = [_pixels(table, classes, labels, kept)[:, 1:] for labels, kept in sides]
    members = [index == s for s in range(len(names))]
    shown = np.stack([member.any(0) for member in members])
    judged = shown & (shown[shown.any(1)].all(0) if shared else True)
    return [
        _class_slice(group, name, member, counts, np.flatnonzero(kept))
        for name, member, kept in zip(names, members, judged, strict=True)
    ]


def _class_slice(
    group: str, name: str, member: NDArray[np.bool_], counts: Sequence[Pixels], judged: NDArray[np.int_]
) -> Slice:
    """Pool `counts` (hit, truth, predicted; (n, K) each) where `member`; means over the classes `judged`."""
    hit, truth, said = ((pixels * member).sum(0) for pixels in counts)
    iou = per_class_percent(hit, np.where(truth > 0, truth + said - hit, 0))
    recall = per_class_percent(hit, truth)
    return Slice(
        group,
        name,
        images=int(member.any(1).sum()),
        classes=len(judged),
        iou=mean(iou[k] for k in judged),
        recall=mean(recall[k] for k in judged),
        per_class=(None, *iou),
    )


def _pixels(table: CountsTable, classes: int, labels: NDArray[np.int64], kept: NDArray[np.bool_]) -> Pixels:
    """(n, C) int64: pixels of each image by `labels`, of the lines that are kept."""
    dense = np.zeros((len(table.ids), classes + 1), np.int64)
    np.add.at(dense, (table.image[kept], labels[kept]), table.pixels[kept])
    return dense
