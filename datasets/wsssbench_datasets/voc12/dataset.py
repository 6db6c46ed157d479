"""PASCAL VOC 2012 from the tree that users have: JPEGs, palette masks, lists, tags. Nothing is downloaded.

The tree and its lists are found by `voc_lists`, tags by `tag_files`, pixels by `voc_check`, which also
surveys the tree; here they become one data set, with its choice of masks and the fingerprint of its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from wsssbench.errors import BadData, first_names, nearest
from wsssbench.split_rules import refuse_overlap
from wsssbench.types import DatasetCard, option
from wsssbench_datasets.class_choice import ChosenClasses, ClassOptions
from wsssbench_datasets.file_facts import cache_file, file_digests, median_long_side, split_fingerprint
from wsssbench_datasets.id_lists import read_list
from wsssbench_datasets.survey import FileDataset, read_mask, require_a_class
from wsssbench_datasets.tag_files import XmlTags, read_tag_file, require_tags
from wsssbench_datasets.voc12.lists import SPLITS, find_tree, list_file
from wsssbench_datasets.voc12.mask_files import AUG, CLASS, MaskFiles

if TYPE_CHECKING:
    from wsssbench.types import Mask, Tags

CLASS_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
TAG_FILE = "cls_labels.npy"
HELD_OUT = "held-out"  # the split on which choices are made that no table reports
COUNTS = {"train": 1464, "train_aug": 10582, "val": 1449, "test": 1456}  # of VOC 2012


@dataclass(frozen=True)
class Voc12Tree:
    """Options of the tree and what is read of it."""

    root: str = option("", "VOC2012, or a folder at most three above it, as that of VOCdevkit", key=False)
    masks: str = option(
        "auto",
        f"auto, {CLASS} or {AUG}; auto: {CLASS} for ids of train and val with a file there, else {AUG}",
    )
    tags: str = option(
        "", f"tag file; else a {TAG_FILE} in or beside the root, else Annotations/*.xml", file=True
    )
    held_out: str = option(
        "", f"list of training ids to judge, as the split {HELD_OUT}, and not to learn from", file=True
    )


@dataclass(frozen=True)
class Voc12Config(ClassOptions, Voc12Tree):
    """Options of `voc12`."""


class Voc12Files(FileDataset):
    """The whole tree of `Voc12`, with all 20 classes.

    A mask belongs to an id, not to a split: with `masks = "auto"` an id of train or val has its VOC mask
    (with the void border) wherever it is used, so also in train_aug, and all others have the SBD-derived one.
    `card.options["masks"]` records the folders used per split, `card.without_masks` what is missing there.
    """

    bare_splits = ("test",)
    whole_counts: Mapping[str, int] = COUNTS

    def __init__(self, config: Voc12Tree, seed: int = 0) -> None:
        """Find the tree, read its lists and tags; BadData when one is missing or unusable. `seed` is idle."""
        self._tree = find_tree(config.root)
        self._lists = {split: path for split in SPLITS if (path := list_file(self._tree, split))}
        if not self._lists:
            where = self._tree / "ImageSets" / "Segmentation"
            raise BadData("no list of a split here", where=where, hint=f"add {', '.join(SPLITS)} as .txt")
        self._ids = {split: read_list(path) for split, path in self._lists.items()}
        if config.held_out:
            self._hold_out(Path(config.held_out).expanduser())
        masked = {split: ids for split, ids in self._ids.items() if split not in self.bare_splits}
        self._masks = MaskFiles(self._tree, config.masks, masked)
        self._tag_place = _tag_place(self._tree, config)
        self._tags = _tags_at(self._tag_place)
        self.card = self._card()
        fit, judged = self.card.fit_split, self.card.eval_split
        learned, seen = self._ids.get(fit, ()), self._ids.get(judged, ())
        refuse_overlap(fit, learned, judged, seen, self._tree / "ImageSets" / "Segmentation")

    @property
    def _fit_split(self) -> str:
        return "train_aug" if "train_aug" in self._ids else "train"

    def _hold_out(self, path: Path) -> None:
        """Move the ids of the list from the split that is learned from to one that is judged in its place."""
        fit, chosen = self._fit_split, read_list(path)
        known, moved = self._ids.get(fit, ()), set(chosen)
        strange = [id for id in chosen if id not in set(known)]
        if strange or len(moved) >= len(known):
            what = f"{first_names(strange)} not in {fit}" if strange else f"this list leaves nothing of {fit}"
            raise BadData(what, where=path, hint=f"list some ids of {fit}, one a line")
        self._ids[fit] = tuple(id for id in known if id not in moved)
        self._ids[HELD_OUT] = tuple(chosen)

    def _card(self) -> DatasetCard:
        splits = tuple(self._ids)
        judged = HELD_OUT if HELD_OUT in splits else "val"
        masked = [split for split in splits if split not in self.bare_splits]
        lacking = {split: sum(id in self._masks.lacking for id in self._ids[split]) for split in masked}
        masks = {split: self._masks.used(self._ids[split]) for split in masked}
        return DatasetCard(
            name="voc12",
            version="2012",
            class_names=CLASS_NAMES,
            splits=splits,
            fit_split=self._fit_split,
            label_split=HELD_OUT if HELD_OUT in splits else "train" if "train" in splits else self._fit_split,
            eval_split=judged,
            label_source="xml" if self._tag_place.is_dir() else "file",
            licence="images: their owners' terms (Flickr); annotations: PASCAL VOC and SBD; research use",
            source="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, train_aug with masks made from SBD",
            image_px=median_long_side({judged: (), **self._ids}, self.image_path),
            image_px_from="measured",
            palette="voc",
            options={"masks": masks},
            without_masks={split: count for split, count in lacking.items() if count},
            split_options={split: {"masks": masks[split]} if split in masks else {} for split in splits},
        )

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of `split` in the order of its list."""
        if split not in self._ids:
            where = self._tree / "ImageSets" / "Segmentation"
            known = nearest(split, self.card.splits)
            raise BadData(f"there is no list of the split {split!r}", where=where, hint=known)
        return self._ids[split]

    def image_path(self, id: str) -> Path:
        return self._tree / "JPEGImages" / f"{id}.jpg"

    def mask_path(self, id: str) -> Path:
        """Where the mask of `id` is or should be; BadData for an image that cannot have one."""
        if id not in self._masks.folders:
            what = f"{id} has no mask: it is in no split that has masks (test has none)"
            raise BadData(what, where=self._tree)
        return self._masks.path(id)

    def mask_of_size(self, id: str, size: tuple[int, int] | None) -> Mask:
        """The mask, checked to be of `size` (H, W) unless that is None."""
        return read_mask(self.mask_path(id), len(CLASS_NAMES), size)

    def read_mask(self, path: Path) -> Mask:
        """(H, W) labels of any file that is coded as PNG masks are; BadData for one that is not."""
        return read_mask(path, len(CLASS_NAMES))

    def mask_source(self, id: str) -> str:
        """The folder that the mask of `id` is in."""
        return self.mask_path(id).parent.name

    def tags(self, id: str) -> Tags:
        """(20,) bool; BadData for an image that the tags do not know."""
        try:
            return self._tags[id].copy()
        except KeyError:
            raise BadData(f"no tags for {id}", where=self._tag_place) from None

    def fingerprint(self, split: str) -> str:
        """sha256 (hex) over ids, tags and the bytes of images and masks; a test split has images only.

        Masks may be missing: methods that learn from tags need none of the fit split.
        """
        ids, masked = self.ids(split), split not in self.bare_splits
        if masked:
            require_tags(split, ids, self._tags, self._tag_place, "voc12")
        digests = file_digests([self.image_path(id) for id in ids], cache_file())
        there = [id for id in ids if masked and id not in self._masks.lacking]
        if there:
            read = partial(self.mask_of_size, size=None)
            require_a_class(self.card, split, there, read, self.mask_path(there[0]).parent, self.void_hint())
        masks = dict(
            zip(there, file_digests([self.mask_path(id) for id in there], cache_file()), strict=True)
        )
        tags = (self._tags[id].tobytes().hex() if masked else "" for id in ids)
        return split_fingerprint(zip(ids, tags, digests, (masks.get(id, "") for id in ids), strict=True))

    def places(self) -> list[str]:
        """Where things were found, for people."""
        return [f"tree: {self._tree}", f"tags: {self._tag_place}"]


class Voc12(ChosenClasses):
    """PASCAL VOC 2012 with its augmented training list; a subset of the tree works as well."""

    Config: ClassVar[type] = Voc12Config
    Whole: ClassVar[type] = Voc12Files


# -------------------------------------------------------------------------------- what is read from where


def _tag_place(tree: Path, config: Voc12Tree) -> Path:
    """The tag file, or the folder of annotations."""
    if config.tags:
        return Path(config.tags).expanduser().absolute()
    above = [tree.parent, *([tree.parent.parent] if tree.parent.name == "VOCdevkit" else [])]
    for folder in (tree, *above, Path(config.root).expanduser().absolute()):
        if (folder / TAG_FILE).is_file():
            return folder / TAG_FILE
    if not (tree / "Annotations").is_dir():
        what = f"no image tags: neither {TAG_FILE} in or beside the root nor Annotations"
        raise BadData(what, where=tree, hint="give a file: -o voc12.tags=FILE")
    return tree / "Annotations"


def _tags_at(place: Path) -> Mapping[str, Tags]:
    if place.is_dir():
        return XmlTags(place, CLASS_NAMES)
    return read_tag_file(place, len(CLASS_NAMES))
