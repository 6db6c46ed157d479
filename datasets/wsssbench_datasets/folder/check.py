"""The survey of a described data set, what `wsssbench prepare folder` prints: beside what every data set is
surveyed for, it knows splits without masks or tags, and pictures that no split uses. It repairs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from wsssbench.errors import BadData
from wsssbench.files.image_files import FileFault, is_turned, picture_size, read_rgb
from wsssbench_datasets.survey import (
    JPEG_END,
    TAIL_BYTES,
    TURNED,
    Finding,
    PrepareReport,
    Seen,
    SplitCounts,
    Surveyed,
    class_faults,
    in_threads,
    shown,
    tag_notes,
)


class Described(Protocol):
    """What a description says of its splits."""

    def split_has(self, split: str) -> tuple[bool, bool]:
        """Whether the split has masks, and whether it has tags."""

    def void_hint(self) -> str:
        """What to do about masks of background and void alone."""


def survey(dataset: Surveyed, whole: Described, unused: Sequence[str]) -> PrepareReport:
    """Read every file of every split once: headers and ends of images, whole masks, tags.

    `unused` are ids of pictures that are in no split.
    """
    splits, names = dataset.card.splits, dataset.card.class_names
    has: dict[str, tuple[bool, bool]] = {}  # id -> masks, tags: of any of its splits
    for split in splits:
        masked, tagged = whole.split_has(split)
        for id in dataset.ids(split):
            before = has.get(id, (False, False))
            has[id] = (before[0] or masked, before[1] or tagged)
    looks = in_threads(lambda id: _look(dataset, id, *has[id]), has)
    seen = dict(zip(has, looks, strict=True))
    of_split = {split: [seen[id] for id in dataset.ids(split)] for split in splits}
    figures = tuple(SplitCounts.of(split, looks, names) for split, looks in of_split.items())
    notes = [note for id, look in seen.items() for note in tag_notes(names, id, look)]
    notes += [Finding(TURNED, id) for id, look in seen.items() if look.turned]
    notes += [Finding("picture in no split", id) for id in unused]
    faults = [fault for look in seen.values() for fault in look.faults]
    faults += class_faults(dataset.card, of_split, whole.void_hint())
    return PrepareReport(tuple(dataset.places()), figures, tuple(faults), tuple(notes))


def _look(dataset: Surveyed, id: str, masked: bool, tagged: bool) -> Seen:
    faults: list[Finding] = []
    size = _whole_size(dataset, id, faults)
    present, tags, source, void = None, None, "", False
    if masked:
        try:
            source = dataset.mask_source(id)
            present, void = shown(dataset.mask_of_size(id, size), len(dataset.card.class_names))
        except BadData as error:
            faults.append(_finding("unusable mask", error))
    if tagged and dataset.card.label_source == "mask":
        tags = present
    elif tagged:
        try:
            tags = dataset.tags(id)
        except BadData as error:
            faults.append(_finding("missing or wrong tags", error))
    turned = size is not None and is_turned(dataset.image_path(id))
    return Seen(tags, present, source, tuple(faults), turned, void)


def _whole_size(dataset: Surveyed, id: str, faults: list[Finding]) -> tuple[int, int] | None:
    """(H, W) of an image whose file is complete, else None and a fault.

    Only what lacks the end marker of a JPEG is decoded: decoding all would take minutes.
    """
    try:
        path = dataset.image_path(id)
        size = picture_size(path)
        if not _ends_like_jpeg(path):
            read_rgb(path)
    except BadData as error:
        faults.append(_finding("unusable image", error))
        return None
    return size


def _ends_like_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-min(TAIL_BYTES, path.stat().st_size), os.SEEK_END)
        return JPEG_END in file.read()


def _finding(kind: str, error: BadData) -> Finding:
    own = error.kind if isinstance(error, FileFault) else kind
    return Finding(own, f"{error.what} [{error.where}]")
