"""What can be wrong with the files of a data set: checked reading of one image or mask, and a survey of all.

The survey (`check`) is what `wsssbench prepare` prints. It reads and counts; it repairs nothing. Where files
lie in the tree of a data set is that data set's matter.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from wsssbench.errors import BadData
from wsssbench.files.image_files import (
    LOSSLESS,
    FileFault,
    is_scaled_grey,
    is_turned,
    opened,
    palette_of,
    picture_size,
    read_rgb,
    size_fault,
)
from wsssbench.files.label_palette import renumbered
from wsssbench.files.label_png import plain_picture
from wsssbench.files.printable import printable
from wsssbench.types import IGNORE, DatasetCard

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Mask, Tags

JPEG_END = b"\xff\xd9"
TAIL_BYTES = 64  # some writers pad a JPEG after its end marker
SHOWN = 3  # examples printed of each kind of finding
TURNED = "image that its EXIF data turns: read as stored"
THREADS = min(4, os.cpu_count() or 1)

In = TypeVar("In")
Out = TypeVar("Out")


def in_threads(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """`function` of each item, in order; for work that waits for files or decodes outside the interpreter."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


# ------------------------------------------------------------------------------------------ one checked file


def read_mask(path: Path, classes: int, size: tuple[int, int] | None = None) -> Mask:
    """(H, W) uint8 in 0..classes or 255: the stored indices, or VOC's colours where a program has renumbered
    the indices (`wsssbench.files.label_palette`).

    FileFault for a missing or damaged file, a PNG that is neither palette nor grey, a value out of range,
    and a size other than `size` (H, W).
    """
    indices, palette = plain_picture(path) or _picture_mask(path)
    moved = renumbered(indices, palette, classes)
    mask = indices if moved is None else moved
    _check_mask(mask, path, classes, size)
    return mask


def _picture_mask(path: Path) -> tuple[Mask, bytes]:
    with opened(path, "mask", LOSSLESS) as picture:
        if picture.mode not in ("P", "L") or is_scaled_grey(picture):
            hint = "convert the colours back to class indices (palette PNG)"
            raise FileFault("mask mode", f"a mask of mode {picture.mode}, not P or L of 8 bits", path, hint)
        return np.array(picture), palette_of(picture)


def _check_mask(mask: Mask, path: Path, classes: int, size: tuple[int, int] | None) -> None:
    if (mask + np.uint8(1)).max() > classes + 1:  # a quick look, in which IGNORE becomes 0
        beyond = (mask > classes) & (mask != IGNORE)
        strange = [str(v) for v in np.unique(mask[beyond])]
        what = f"a mask with the value {', '.join(strange[:SHOWN])}, not in 0..{classes} or {IGNORE}"
        hint = f"class indices run from 0 (background) to {classes} without gaps"
        raise FileFault("mask values", what, path, hint)
    if size is not None and mask.shape != size:
        raise size_fault(mask.shape, size, path)


# ------------------------------------------------------------------------------------------------ the survey


class Surveyed(Protocol):
    """What the survey needs of a data set."""

    card: DatasetCard
    bare_splits: tuple[str, ...]  # that have images only

    @property
    def whole_counts(self) -> Mapping[str, int]:
        """Images of each split in the data set as published, where that is known."""

    def ids(self, split: str) -> tuple[str, ...]: ...

    def tags(self, id: str) -> Tags: ...

    def image_path(self, id: str) -> Path: ...

    def mask_of_size(self, id: str, size: tuple[int, int] | None) -> Mask: ...

    def mask_source(self, id: str) -> str: ...

    def places(self) -> list[str]: ...


@dataclass(frozen=True)
class Finding:
    """One thing about one image, counted under `kind`."""

    kind: str
    what: str


@dataclass(frozen=True)
class Seen:
    """What the survey saw of one image; None where there is nothing readable."""

    tags: Tags | None
    mask_classes: NDArray[np.bool_] | None  # (K,) classes with pixels
    source: str  # that the mask came from
    faults: tuple[Finding, ...]
    turned: bool = False  # EXIF data asks to show the image otherwise than it is stored


@dataclass(frozen=True)
class SplitCounts:
    """The figures of one split."""

    name: str
    images: int
    whole: int | None  # images that it has as published
    masks: Counter[str]  # readable masks by source
    tagged: int
    images_per_class: dict[str, int]

    def lines(self) -> list[str]:
        size = "" if self.whole in (None, self.images) else f"; in full it has {self.whole:,} images"
        masks = ", ".join(f"{n:,} masks in {source}" for source, n in sorted(self.masks.items()))
        head = f"{self.name}: {self.images:,} images, {masks or 'no masks'}, {self.tagged:,} tagged{size}"
        there = [f"{name} {n:,}" for name, n in self.images_per_class.items() if n]
        absent = [name for name, n in self.images_per_class.items() if not n]
        lines = [head, f"  images per tag: {', '.join(there)}"] if there else [head]
        return [*lines, f"  tags that do not occur: {', '.join(absent)}"] if there and absent else lines


@dataclass(frozen=True)
class PrepareReport:
    """The survey of a data set: `ok` when nothing is wrong; notes are no faults."""

    places: tuple[str, ...]
    splits: tuple[SplitCounts, ...]
    faults: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.faults

    def lines(self) -> list[str]:
        """What `wsssbench prepare` prints, line by line."""
        lines = [*self.places, *(line for split in self.splits for line in split.lines())]
        lines += [line for finding in (self.notes, self.faults) for line in _grouped(finding)]
        lines.append("all files are usable" if self.ok else f"{len(self.faults):,} faults found")
        return [printable(line) for line in lines]


def check(dataset: Surveyed, splits: Sequence[str]) -> PrepareReport:
    """Read every file of `splits` once: headers and ends of images, whole masks, tags."""
    ids = {split: dataset.ids(split) for split in splits}
    judged = dict.fromkeys(id for split in splits if split not in dataset.bare_splits for id in ids[split])
    bare = [id for id in dict.fromkeys(id for split in splits for id in ids[split]) if id not in judged]
    seen = dict(zip(judged, in_threads(lambda id: _look(dataset, id), judged), strict=True))
    seen |= zip(bare, in_threads(lambda id: _look_at_image(dataset, id), bare), strict=True)
    counts = tuple(_split_counts(dataset, name, [seen[id] for id in ids[name]]) for name in splits)
    faults = [fault for look in seen.values() for fault in look.faults]
    fit, judged_split = dataset.card.fit_split, dataset.card.eval_split
    shared = set(ids.get(fit, ())) & set(ids.get(judged_split, ())) if fit != judged_split else set()
    faults += [Finding(f"{fit} image that is also in {judged_split}", id) for id in sorted(shared)]
    notes = [note for id, look in seen.items() for note in tag_notes(dataset.card.class_names, id, look)]
    notes += [Finding(TURNED, id) for id, look in seen.items() if look.turned]
    return PrepareReport(tuple(dataset.places()), counts, tuple(faults), tuple(notes))


def _look_at_image(dataset: Surveyed, id: str) -> Seen:
    faults: list[Finding] = []
    _size_of_whole(dataset.image_path(id), faults)
    return Seen(None, None, "", tuple(faults), is_turned(dataset.image_path(id)))


def _look(dataset: Surveyed, id: str) -> Seen:
    faults: list[Finding] = []
    size = _size_of_whole(dataset.image_path(id), faults)
    present, tags = None, None
    try:
        mask = dataset.mask_of_size(id, size)
        present = np.bincount(mask.ravel(), minlength=256)[1 : len(dataset.card.class_names) + 1] > 0
    except FileFault as fault:
        faults.append(Finding(fault.kind, f"{fault.what} [{fault.where}]"))
    try:
        tags = dataset.tags(id)
    except BadData as error:
        faults.append(Finding("missing or damaged tags", f"{error.what} [{error.where}]"))
    turned = is_turned(dataset.image_path(id))
    return Seen(tags, present, dataset.mask_source(id), tuple(faults), turned)


def _size_of_whole(path: Path, faults: list[Finding]) -> tuple[int, int] | None:
    """(H, W) of an image whose file is complete, else None and a fault.

    A JPEG that lacks its end marker is decoded to be sure; decoding all would take minutes on a full VOC.
    """
    try:
        size = picture_size(path)
        with path.open("rb") as file:
            file.seek(-min(TAIL_BYTES, path.stat().st_size), os.SEEK_END)
            if JPEG_END not in file.read():
                read_rgb(path)
    except FileFault as fault:
        faults.append(Finding(fault.kind, f"{fault.what} [{fault.where}]"))
        return None
    return size


def _split_counts(dataset: Surveyed, name: str, looks: list[Seen]) -> SplitCounts:
    card = dataset.card
    tags = [look.tags for look in looks if look.tags is not None]
    per_class = np.zeros(len(card.class_names), np.int64)
    for vector in tags:
        per_class += vector
    masks = Counter(look.source for look in looks if look.mask_classes is not None)
    by_name = dict(zip(card.class_names, per_class.tolist(), strict=True))
    return SplitCounts(name, len(looks), dataset.whole_counts.get(name), masks, len(tags), by_name)


def tag_notes(names: Sequence[str], id: str, look: Seen) -> list[Finding]:
    """Where tags and mask disagree. No fault: tags from boxes legitimately name what the mask leaves out."""
    if look.tags is None:
        return []
    notes = [] if look.tags.any() else [Finding("image without a tag", id)]
    if look.mask_classes is None:
        return notes
    for kind, differs in (
        ("tag without pixels in the mask", look.tags & ~look.mask_classes),
        ("class in the mask without a tag", look.mask_classes & ~look.tags),
    ):
        wrong = [names[int(i)] for i in np.flatnonzero(differs)]
        notes += [Finding(kind, f"{id} ({', '.join(wrong)})")] if wrong else []
    return notes


def _grouped(findings: Sequence[Finding]) -> list[str]:
    lines: list[str] = []
    for kind, number in Counter(finding.kind for finding in findings).items():
        examples = [finding.what for finding in findings if finding.kind == kind][:SHOWN]
        more = ", ..." if number > SHOWN else ""
        lines.append(f"{kind}: {number:,} images, e.g. {', '.join(examples)}{more}")
    return lines
