"""Image tags of COCO 2014 by image number: from a file, the catalogue of its annotations, or the masks.

A number names an image in every file in circulation, whatever its key looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wsssbench.errors import BadData
from wsssbench_datasets.coco14.classes import CLASS_NAMES
from wsssbench_datasets.coco14.instances import Catalogue
from wsssbench_datasets.coco14.tree import image_number
from wsssbench_datasets.image_names import Naming
from wsssbench_datasets.tag_files import read_tag_file
from wsssbench_datasets.tag_tables import read_tags

if TYPE_CHECKING:
    from wsssbench.types import Tags

CLASSES = len(CLASS_NAMES)
TAG_FILES = ("cls_labels_onehot.npy", "cls_labels.npy")  # that are found in the root without being named


class _ByNumber(Naming):
    """Names of images as numbers."""

    def id_of(self, name: str) -> str:
        number = image_number(name.strip())
        if not number:
            raise BadData(
                f"{name!r:.80} names no image of COCO", where="tags", hint="as COCO_val2014_000000000042"
            )
        return number


def file_tags(path: Path) -> dict[int, Tags]:
    """Number -> (80,) bool of a tag file (npy, csv, tsv or json); BadData for another or a damaged one."""
    if path.suffix.lower() == ".npy" or not path.is_file():
        return {int(key): value for key, value in read_tag_file(path, CLASSES, image_number).items()}
    table = read_tags(path, CLASS_NAMES, _ByNumber(()))
    for id, (what, hint) in table.faults.items():
        raise BadData(f"the tags of {id}: {what}", where=path, hint=hint)
    return {int(key): value for key, value in table.vectors.items()}


def catalogue_tags(catalogues: Sequence[Catalogue]) -> dict[int, Tags]:
    """Number -> (80,) bool: every class annotated in the image, that of a crowd too."""
    return {number: vector(listed.labels) for each in catalogues for number, listed in each.items()}


def vector(labels: Sequence[int]) -> Tags:
    """(80,) bool of labels 1..80."""
    tags = np.zeros(CLASSES, bool)
    tags[[label - 1 for label in labels]] = True
    return tags


class MaskTags(Mapping[int, "Tags"]):
    """The classes in the masks; all masks of a split are read when a tag of it is first asked for."""

    def __init__(
        self,
        numbers: Mapping[str, Sequence[int]],
        labels_in: Callable[[str, Sequence[int]], Sequence[Sequence[int]]],
    ) -> None:
        self._split_of = {number: split for split, members in numbers.items() for number in members}
        self._numbers, self._labels_in = numbers, labels_in
        self._read: dict[int, Tags] = {}

    def __getitem__(self, number: int) -> Tags:
        split = self._split_of[number]
        if number not in self._read:
            members = self._numbers[split]
            found = self._labels_in(split, members)
            self._read |= {n: vector(labels) for n, labels in zip(members, found, strict=True)}
        return self._read[number]

    def __contains__(self, number: object) -> bool:
        return number in self._split_of

    def __iter__(self) -> Iterator[int]:
        return iter(self._split_of)

    def __len__(self) -> int:
        return len(self._split_of)
