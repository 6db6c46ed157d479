"""Where a method errs: IoU and recall over slices of the judged images, from their confusions alone.

The truth's rows of an image's confusion show which classes it shows and how large they are, so slices need
the `CountsTable` of a split and no masks; which files it comes from must not enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.metrics import iou_per_class, mean, per_class_percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.scores.counts_table import CountsTable, ImagePixels

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

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


@dataclass(frozen=True)
class SliceMembers:
    """What belongs to a slice, and which classes its means run over."""

    group: str
    name: str
    member: Bools  # (n, C) whether a class of an image is in the slice
    judged: Bools  # (C,)

    def score(self, pixels: ImagePixels) -> Slice:
        """Pool the pixels of the members."""
        hit, truth, said = (np.where(self.member, x, 0).sum(0) for x in pixels)
        iou = iou_per_class(hit, truth, said)
        recall = per_class_percent(hit, truth)
        judged = np.flatnonzero(self.judged)
        return Slice(
            self.group,
            self.name,
            images=int(self.member.any(1).sum()),
            classes=len(judged),
            iou=mean(iou[k] for k in judged),
            recall=mean(recall[k] for k in judged),
            per_class=tuple(iou),
        )


def all_slices(table: CountsTable, classes: int) -> list[Slice]:
    """The slices by number of classes, by size and by company, in this order; `classes` is K."""
    pixels = table.by_image(classes)
    return [part.score(pixels) for part in slice_parts(table, pixels)]


def slice_parts(table: CountsTable, pixels: ImagePixels) -> list[SliceMembers]:
    """What `all_slices` scores; which images and classes are in a part follows from the truth alone."""
    return [*_class_numbers(pixels), *_sizes(table, pixels), *_company(pixels)]


def _class_numbers(pixels: ImagePixels) -> list[SliceMembers]:
    """Images by the number of foreground classes with truth pixels; "no class" only where there are such.

    Scores are `Iou`'s miou and recall over the images of the slice: background included, over the classes
    that the slice shows. Images without any truth belong to none.
    """
    truth = pixels.truth
    number = np.minimum((truth[:, 1:] > 0).sum(1), len(NUMBERS) - 1)
    found = []
    for n, name in enumerate(NUMBERS):
        chosen = (number == n) & truth.any(1)
        if n or chosen.any():
            member = np.repeat(chosen[:, None], truth.shape[1], axis=1)
            found.append(SliceMembers("classes in the image", name, member, (truth[chosen] > 0).any(0)))
    return found


def _sizes(table: CountsTable, pixels: ImagePixels) -> list[SliceMembers]:
    """Each class over the images in which it is small, medium or large; means over the slice's own classes.

    The size of class k in an image is the area of all its truth pixels (objects are not distinguished) over
    that of the image, void included: below 5 %, 5 to 20 % (both included), above 20 %. IoU_k and recall_k
    pool the images in which class k has that size; what is taken for k in images without it is in no slice.
    """
    area = np.zeros(len(table.ids), np.int64)
    np.add.at(area, table.image, table.pixels)
    share = 100 * pixels.truth
    size = (share >= SMALL * area[:, None]).astype(int) + (share > LARGE * area[:, None])
    return _class_parts("size of the class", SIZES, pixels, size)


def _company(pixels: ImagePixels) -> list[SliceMembers]:
    """Each class over the images that show it alone, and over those that show other classes as well.

    Co-occurring classes are what image tags cannot separate. The means run over the classes that are found
    in both slices, so that they differ by the company and not by the class.
    """
    others = (pixels.truth[:, 1:] > 0).sum(1) > 1
    company = np.repeat(others[:, None].astype(int), pixels.truth.shape[1], axis=1)
    return _class_parts("company of the class", COMPANY, pixels, company, shared=True)


def _class_parts(
    group: str, names: Sequence[str], pixels: ImagePixels, index: NDArray[np.int_], *, shared: bool = False
) -> list[SliceMembers]:
    """One part per name: `index` (n, C) says to which one each foreground class that an image shows belongs.

    Where they are `shared`, the classes that all of them show are judged, else each part's own.
    """
    index = np.where(pixels.truth > 0, index, -1)
    index[:, 0] = -1
    members = [index == part for part in range(len(names))]
    shown = np.stack([member.any(0) for member in members])
    judged = shown & (shown[shown.any(1)].all(0) if shared else True)
    return [
        SliceMembers(group, name, member, kept)
        for name, member, kept in zip(names, members, judged, strict=True)
    ]
