"""Where masks of COCO 2014 come from: PNG files, or painted from the instances file. One interface for both
of them: the mask of an image, the classes in many masks, the digests that a fingerprint needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wsssbench.files.image_files import FileFault
from wsssbench.types import IGNORE
from wsssbench_datasets.coco14.classes import CLASS_NAMES
from wsssbench_datasets.coco14.instances import Catalogue, catalogue, outlines
from wsssbench_datasets.coco14.painting import PAINTING, Crowd, Overlap, painted
from wsssbench_datasets.coco14.tree import coco_id, file_of, image_number
from wsssbench_datasets.file_facts import cache_file, file_digests, remembered
from wsssbench_datasets.survey import in_threads, read_mask

if TYPE_CHECKING:
    from wsssbench.types import Mask

CLASSES = len(CLASS_NAMES)
PART = 256  # masks that are read before the next are looked for
STORE = "mask-labels-2.json"  # the number changes with the form of its entries


class MaskSource(Protocol):
    """The masks of one split."""

    @property
    def place(self) -> Path:
        """The folder or the file that they come from."""

    def mask(self, id: str, size: tuple[int, int] | None) -> Mask:
        """(H, W) uint8 in 0..80 or 255; FileFault for a bad one or one that has not `size`, unless None."""

    def labels(self, numbers: Sequence[int]) -> list[tuple[int, ...]]:
        """The classes that have pixels in the mask of each image, ascending."""

    def shows_any(self, numbers: Sequence[int]) -> bool:
        """Whether the mask of any of these images shows a class or cannot be read; missing ones show none."""

    def digests(self, ids: Sequence[str]) -> list[str]:
        """What stands for the mask of each image in a fingerprint."""


@dataclass(frozen=True)
class PngMasks:
    """One PNG per image in the folder `place`."""

    place: Path
    split: str

    def mask(self, id: str, size: tuple[int, int] | None) -> Mask:
        return read_mask(file_of(self.place, id, ".png"), CLASSES, size)

    def labels(self, numbers: Sequence[int]) -> list[tuple[int, ...]]:
        """Remembered between runs."""
        paths = [file_of(self.place, coco_id(self.split, number), ".png") for number in numbers]
        texts = remembered(paths, _labels_text, cache_file(STORE))
        found = [tuple(int(word) for word in text.split()) for text in texts]
        for path, labels in zip(paths, found, strict=True):
            if labels and labels[-1] > CLASSES:
                what = f"a mask with the value {labels[-1]}, not in 0..{CLASSES} or {IGNORE}"
                hint = "masks of category ids (1..90) have another meaning: convert them to 1..80"
                raise FileFault("mask values", what, path, hint)
        return found

    def shows_any(self, numbers: Sequence[int]) -> bool:
        there = [n for n in numbers if file_of(self.place, coco_id(self.split, n), ".png").is_file()]
        try:
            parts = (there[first : first + PART] for first in range(0, len(there), PART))
            return any(any(self.labels(part)) for part in parts)
        except FileFault:
            return True

    def digests(self, ids: Sequence[str]) -> list[str]:
        return file_digests([file_of(self.place, id, ".png") for id in ids], cache_file())


@dataclass(frozen=True)
class PaintedMasks:
    """Painted from the instances file `place` by the two rules of `painting`."""

    place: Path
    overlap: Overlap
    crowd: Crowd

    @cached_property
    def _catalogue(self) -> Catalogue:
        return catalogue(self.place)

    def mask(self, id: str, size: tuple[int, int] | None) -> Mask:
        listed = self._catalogue.get(int(image_number(id)))
        if listed is None:
            hint = "these annotations are not of this list's images"
            raise FileFault("missing mask", f"no image {id} in this file", self.place, hint)
        own = listed.height, listed.width
        if size not in (None, own):
            what = f"{id} is {own[1]}x{own[0]} px here, its image {size[1]}x{size[0]} px"
            raise FileFault("mask size", what, self.place, "image and annotations must be of one release")
        return self._painted(int(image_number(id)), own)

    def _painted(self, number: int, size: tuple[int, int]) -> Mask:
        return painted(outlines(self.place).get(number, ()), size, self.overlap, self.crowd)

    def labels(self, numbers: Sequence[int]) -> list[tuple[int, ...]]:
        return in_threads(self._labels, numbers)

    def shows_any(self, numbers: Sequence[int]) -> bool:
        return any(number in self._catalogue and self._catalogue[number].labels for number in numbers)

    def _labels(self, number: int) -> tuple[int, ...]:
        listed = self._catalogue[number]
        return _labels_of(self._painted(number, (listed.height, listed.width)))

    def digests(self, ids: Sequence[str]) -> list[str]:
        """The file's and the rules: they fix every pixel."""
        [digest] = file_digests([self.place], cache_file())
        return [f"{digest} {PAINTING} {self.overlap} {self.crowd}"] * len(ids)


def _labels_text(path: Path) -> str:
    return " ".join(map(str, _labels_of(read_mask(path, IGNORE - 1))))


def _labels_of(mask: Mask) -> tuple[int, ...]:
    """Neither background nor void."""
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    return tuple(label for label in found if 0 < label < IGNORE)
