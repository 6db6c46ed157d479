"""What can be wrong with the files of a data set: checked reading of one image or mask, and a survey of all.

The survey is what `wsssbench prepare` prints. It reads and counts; it repairs nothing. Where files lie in the
tree of a data set is said by the data set, a `FileDataset`.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from wsssbench.errors import BadData, first_names, printable
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
from wsssbench.types import IGNORE, Dataset, DatasetCard
from wsssbench_datasets.sbd_masks import read_sbd_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Image, Mask, Tags

JPEG_END = b"\xff\xd9"
TAIL_BYTES = 64  # some writers pad a JPEG after its end marker
SHOWN = 3  # examples printed of each kind of finding
MISSING = "missing mask"  # the kind of such a finding
UNMASKED = "image without a mask, which only methods that learn from masks need"
INDICES = "masks hold class indices: 0 for the background, then 1 for the first class and so on"
NOWHERE = "classes in no mask, which no mean counts"
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
    the indices (`wsssbench.files.label_palette`); of a .mat, SBD's.

    FileFault for a missing or damaged file, a PNG that is neither palette nor grey, a value out of range,
    and a size other than `size` (H, W).
    """
    mask = read_sbd_mask(path) if path.suffix == ".mat" else _png_mask(path, classes)
    _check_mask(mask, path, classes, size)
    return mask


def _png_mask(path: Path, classes: int) -> Mask:
    indices, palette = plain_picture(path) or _picture_mask(path)
    moved = renumbered(indices, palette, classes)
    return indices if moved is None else moved


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


# ----------------------------------------------------------------------------------- splits without a class


def shown(mask: Mask, classes: int) -> tuple[NDArray[np.bool_], bool]:
    """(classes,) bool: which have pixels in a mask; and whether any pixel is void."""
    there = np.bincount(mask.ravel(), minlength=256) > 0
    return there[1 : classes + 1], bool(there[IGNORE])


def require_a_class(
    card: DatasetCard, split: str, ids: Iterable[str], mask: Callable[[str], Mask], where: object, hint: str
) -> None:
    """BadData where no mask of `ids` shows a class: nothing of `split` could be judged or learned.

    Masks are read up to the first that shows one; a damaged one is named when it is judged, or here, by its
    FileFault, where none can be read. `hint` is for masks of background and void: they are usually drawn as
    0 and 255.
    """
    void, fault, read = False, None, 0
    for id in ids:
        try:
            present, own_void = shown(mask(id), len(card.class_names))
        except FileFault as error:
            fault = fault or error
            continue
        read += 1
        if present.any():
            return
        void |= own_void
    if fault and not read:
        raise fault
    if what := classless(card, split, void):
        raise BadData(what, where=where, hint=hint if void else "check how the masks were written")


def classless(card: DatasetCard, split: str, void: bool) -> str:
    """What is wrong with `split`, of whose masks none shows a class; "" where they are not judged."""
    if not void and split != card.eval_split:
        return ""
    held = "background and void (255) alone, and void is not judged" if void else "background alone"
    return f"no mask of {split} shows a class ({first_names(card.class_names)}): they hold {held}"


def class_faults(card: DatasetCard, looks: Mapping[str, Sequence[Seen]], hint: str) -> list[Finding]:
    """A fault for each split whose masks can be read and show no class; `hint` is for those with void."""
    faults = []
    for split, seen in looks.items():
        masks = [look.mask_classes for look in seen if look.mask_classes is not None]
        if masks and not np.any(masks):
            void = any(look.void for look in seen)
            what = classless(card, split, void) + f": {hint}" * void
            faults += [Finding("masks without a class", what, "splits")] if what else []
    return faults


# ------------------------------------------------------------------------------------------------ the survey


class FileDataset(Dataset):
    """A data set of files on disk: what each one says of itself, and what follows from that for all."""

    @property
    def whole_counts(self) -> Mapping[str, int]:
        """Images of each split in the data set as published, where that is known."""
        return {}

    @abstractmethod
    def image_path(self, id: str) -> Path:
        """Where the image is, or should be."""

    @abstractmethod
    def mask_of_size(self, id: str, size: tuple[int, int] | None) -> Mask:
        """The mask, checked to be of `size` (H, W) unless that is None."""

    @abstractmethod
    def mask_source(self, id: str) -> str:
        """What the mask of `id` is read from; "" where its split has none."""

    @abstractmethod
    def places(self) -> list[str]:
        """Where things were found, for people."""

    def image(self, id: str) -> Image:
        """(H, W, 3) uint8 RGB as stored, without EXIF rotation; BadData if missing or truncated."""
        return read_rgb(self.image_path(id))

    def mask(self, id: str) -> Mask:
        """(H, W) uint8 in 0..K or 255, of the image's size; BadData for anything else."""
        return self.mask_of_size(id, picture_size(self.image_path(id)))

    def split_has(self, split: str) -> tuple[bool, bool]:
        """Whether the split has masks, and whether it has tags."""
        return (split not in self.bare_splits,) * 2

    def void_hint(self) -> str:
        """What to do about masks of background and void alone."""
        return INDICES

    def unused(self) -> Sequence[str]:
        """Ids of pictures that are in no split."""
        return ()

    def prepare(self) -> PrepareReport:
        """Check every file of the splits: what `wsssbench prepare` prints."""
        return survey(self)


@dataclass(frozen=True)
class Finding:
    """One thing about one image, or about another `unit`, counted under `kind`."""

    kind: str
    what: str
    unit: str = "images"


@dataclass(frozen=True)
class Seen:
    """What the survey saw of one image; None where there is nothing readable."""

    tags: Tags | None
    mask_classes: NDArray[np.bool_] | None  # (K,) classes with pixels
    source: str  # that the mask came from
    faults: tuple[Finding, ...]
    turned: bool = False  # EXIF data asks to show the image otherwise than it is stored
    void: bool = False  # the mask has pixels that are not judged


@dataclass(frozen=True)
class SplitCounts:
    """The figures of one split."""

    name: str
    images: int
    whole: int | None  # images that it has as published
    masks: Counter[str]  # readable masks by source
    tagged: int
    images_per_class: dict[str, int]
    masks_per_class: dict[str, int]  # images that have pixels of a class in their mask

    @classmethod
    def of(cls, name: str, looks: Sequence[Seen], names: Sequence[str], whole: int | None = None) -> Self:
        """Counted from what was seen of each image."""
        tags = [look.tags for look in looks if look.tags is not None]
        present = [look.mask_classes for look in looks if look.mask_classes is not None]
        sources = Counter(look.source for look in looks if look.mask_classes is not None)
        by_tag, by_mask = _per_class(names, tags), _per_class(names, present)
        return cls(name, len(looks), whole, sources, len(tags), by_tag, by_mask)

    def lines(self) -> list[str]:
        size = "" if self.whole in (None, self.images) else f"; in full it has {self.whole:,} images"
        masks = ", ".join(f"{n:,} masks in {source}" for source, n in sorted(self.masks.items()))
        head = f"{self.name}: {self.images:,} images, {masks or 'no masks'}, {self.tagged:,} tagged{size}"
        return [
            head,
            *_class_lines(self.images_per_class, "images per tag", "tags that do not occur"),
            *_class_lines(self.masks_per_class, "masks per class", NOWHERE),
        ]


def _class_lines(counts: Mapping[str, int], title: str, lacking: str) -> list[str]:
    there = [f"{name} {n:,}" for name, n in counts.items() if n]
    absent = [name for name, n in counts.items() if not n]
    lines = [f"  {title}: {', '.join(there)}"] if there else []
    return [*lines, f"  {lacking}: {', '.join(absent)}"] if absent else lines


def _per_class(names: Sequence[str], vectors: Sequence[NDArray[np.bool_]]) -> dict[str, int]:
    """How many of the (K,) vectors have each class; empty where there is no vector."""
    return {name: int(n) for name, n in zip(names, np.sum(vectors, axis=0), strict=True)} if vectors else {}


@dataclass(frozen=True)
class PrepareReport:
    """The survey of a data set: `ok` when nothing is wrong; notes are not faults."""

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


def survey(dataset: FileDataset, splits: Sequence[str] | None = None) -> PrepareReport:
    """Read every file of `splits` (default: all) once: headers and ends of images, whole masks, tags."""
    card, asked = dataset.card, dataset.card.splits if splits is None else splits
    ids = {split: dataset.ids(split) for split in asked}
    has: dict[str, tuple[bool, bool]] = {}  # id -> masks, tags: of any of its splits
    for split in asked:
        masked, tagged = dataset.split_has(split)
        for id in ids[split]:
            before = has.get(id, (False, False))
            has[id] = (before[0] or masked, before[1] or tagged)
    seen = dict(zip(has, in_threads(lambda id: _look(dataset, id, *has[id]), has), strict=True))
    of_split = {name: [seen[id] for id in ids[name]] for name in asked}
    counts = tuple(
        SplitCounts.of(name, looks, card.class_names, dataset.whole_counts.get(name))
        for name, looks in of_split.items()
    )
    needed = _judged_by_masks(card, ids)
    found = [(id, fault) for id, look in seen.items() for fault in look.faults]
    faults = [fault for id, fault in found if fault.kind != MISSING or id in needed]
    faults += class_faults(card, of_split, dataset.void_hint())
    used = dict.fromkeys((card.fit_split, card.eval_split))
    faults += [Finding("without an image", name, "splits") for name in used if name in ids and not ids[name]]
    notes = [note for id, look in seen.items() for note in tag_notes(card.class_names, id, look)]
    notes += [Finding(TURNED, id) for id, look in seen.items() if look.turned]
    notes += [Finding("picture in no split", id) for id in dataset.unused()]
    notes += [Finding(UNMASKED, id) for id, fault in found if fault.kind == MISSING and id not in needed]
    return PrepareReport(tuple(dataset.places()), counts, tuple(faults), tuple(notes))


def _judged_by_masks(card: DatasetCard, ids: Mapping[str, Sequence[str]]) -> set[str]:
    """The images that need masks: those of the eval split, and of every split whose card says that it has
    all; of a label split that has any, too."""
    some = {split for split in ids if split not in card.without_masks} | {card.eval_split}
    label = ids.get(card.label_split, ())
    if card.without_masks.get(card.label_split, 0) < len(label):
        some.add(card.label_split)
    return {id for split in some for id in ids.get(split, ())}


def _look(dataset: FileDataset, id: str, masked: bool, tagged: bool) -> Seen:
    faults: list[Finding] = []
    names, by_mask = dataset.card.class_names, dataset.card.label_source == "mask"
    size = _tried(faults, "unusable image", lambda: _size_of_whole(dataset.image_path(id)))
    source, mask, tags = dataset.mask_source(id) if masked else "", None, None
    if masked:
        mask = _tried(faults, "unusable mask", lambda: shown(dataset.mask_of_size(id, size), len(names)))
    present, void = mask or (None, False)
    if tagged:  # the classes of a mask that is there need not be read again, nor be missed twice
        known = by_mask and source
        tags = present if known else _tried(faults, "missing or wrong tags", lambda: dataset.tags(id))
    turned = size is not None and is_turned(dataset.image_path(id))
    return Seen(tags, present, source, tuple(faults), turned, void)


def _tried(faults: list[Finding], kind: str, read: Callable[[], Out]) -> Out | None:
    """What `read` gives; where it cannot, None and a fault of its own kind, or else of `kind`."""
    try:
        return read()
    except BadData as error:
        own = error.kind if isinstance(error, FileFault) else kind
        faults.append(Finding(own, f"{error.what} [{error.where}]"))
        return None


def _size_of_whole(path: Path) -> tuple[int, int]:
    """(H, W) of an image whose file is complete.

    What lacks a JPEG's end marker is decoded to be sure; decoding all would take minutes on a full VOC.
    """
    size = picture_size(path)
    with path.open("rb") as file:
        file.seek(-min(TAIL_BYTES, path.stat().st_size), os.SEEK_END)
        if JPEG_END not in file.read():
            read_rgb(path)
    return size


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
        unit = next(finding.unit for finding in findings if finding.kind == kind)
        lines.append(f"{kind}: {number:,} {unit}, e.g. {', '.join(examples)}{more}")
    return lines
