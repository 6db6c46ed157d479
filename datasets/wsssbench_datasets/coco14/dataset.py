"""COCO 2014 for segmentation, 80 classes and background, from the files that users have: JPEGs, the instances
files or PNG masks, lists, tags. Nothing is downloaded.

The tree and its lists are found by `tree`, annotations read by `instances`, masks given by `mask_sources`,
tags by `tags`; here they become one data set, with its choices and its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from wsssbench.errors import BadData, nearest
from wsssbench.files.image_files import FileFault
from wsssbench.split_rules import refuse_overlap
from wsssbench.types import DatasetCard, option
from wsssbench_datasets.class_choice import ChosenClasses, ClassOptions
from wsssbench_datasets.coco14.classes import CLASS_NAMES
from wsssbench_datasets.coco14.instances import Catalogue, catalogue
from wsssbench_datasets.coco14.mask_sources import MaskSource, PaintedMasks, PngMasks
from wsssbench_datasets.coco14.painting import require_pycocotools
from wsssbench_datasets.coco14.tags import TAG_FILES, MaskTags, catalogue_tags, file_tags
from wsssbench_datasets.coco14.tree import (
    CLASS,
    OFFICIAL,
    annotation_file,
    coco_id,
    convention,
    file_of,
    image_folders,
    image_number,
    listed_numbers,
    mask_folder,
    numbers_in,
    tree_of,
)
from wsssbench_datasets.file_facts import cache_file, file_digests, median_long_side, split_fingerprint
from wsssbench_datasets.survey import MISSING, FileDataset, read_mask, require_a_class
from wsssbench_datasets.tag_files import require_tags

if TYPE_CHECKING:
    from wsssbench.types import Mask, Tags

LABEL_SOURCE: Mapping[str, Literal["json", "mask"]] = {"json": "json", "masks": "mask"}
RECAM = {"masks": "json", "lists": "all", "overlap": "later", "crowd": "background"}


@dataclass(frozen=True)
class Coco14Tree:
    """Options of the tree and what is read of it."""

    root: str = option(
        "", "folder with train2014 and val2014, or one at most three above, as MSCOCO", key=False
    )
    annotations: str = option(
        "", "folder of instances_train2014.json and instances_val2014.json; else in the root", key=False
    )
    masks: str = option(
        "auto", f"png ({CLASS} in the root), a folder of PNGs, or json: painted; auto: png where there"
    )
    tags: str = option(
        "auto", f"tag file, json or masks; auto: {' or '.join(TAG_FILES)} in the root, else json, else masks"
    )
    lists: str = option(
        "objects",
        "objects: images with an object (82,081 and 40,137); all (82,783 and 40,504); or a folder of lists",
    )
    overlap: Literal["smaller", "later"] = option(
        "smaller",
        "which of two objects is on top in painted masks: the smaller, or the later in the file",
        origin="smaller: the script that AFA's README names; later: ReCAM's code",
    )
    crowd: Literal["class", "background", "void"] = option(
        "class",
        "what the pixels of a crowd become in painted masks",
        origin="class: the script that AFA's README names; background: ReCAM's code",
    )


@dataclass(frozen=True)
class Coco14Config(ClassOptions, Coco14Tree):
    """Options of `coco14`."""


class Coco14Files(FileDataset):
    """The whole of `Coco14`, with all 80 classes: splits `train` and `val`, ids ascending by image number.

    Lists in circulation order images differently, so the order of a list is left aside: equal lists have
    equal fingerprints. `card.options` records the convention of the lists and where masks come from.
    """

    def __init__(self, config: Coco14Tree, seed: int = 0) -> None:
        """Find the tree, its annotations and tags; BadData when one is missing or unusable."""
        self._config = config
        self._folders = image_folders(config.root)
        self._tree = tree_of(self._folders)
        found = {s: annotation_file(config.root, self._tree, config.annotations, s) for s in self._folders}
        self._instances = {split: path for split, path in found.items() if path}
        self._masks = self._mask_sources()
        self._tag_place = self._tag_source()
        self._catalogues: dict[str, Catalogue] = {}
        self._candidates = {split: self._listed(split) for split in self._folders}
        self._tags = self._read_tags()
        self._numbers = {split: self._members(split) for split in self._folders}
        self._refuse_overlap()
        self._ids = {s: tuple(coco_id(s, n) for n in members) for s, members in self._numbers.items()}
        self._split_of = {id: split for split, ids in self._ids.items() for id in ids}
        self.card = self._card()

    # ---------------------------------------------------------------------------- what is read from where

    def _mask_sources(self) -> Mapping[str, MaskSource]:
        """The masks of each split that has some: PNGs where they are asked for or found, else painted.

        The judged split needs masks; where only it has some, methods learn from tags alone.
        """
        choice, rules = self._config.masks, (self._config.overlap, self._config.crowd)
        judged = next(reversed(self._folders))  # val, or train where that is all there is
        if choice != "json":
            option = "" if choice in ("auto", "png") else choice
            pngs = {s: p for s in self._folders if (p := mask_folder(self._folders, option, s))}
            painting = choice == "auto" and len(self._instances) == len(self._folders)
            if len(pngs) == len(self._folders) or (judged in pngs and not painting):
                return {split: PngMasks(folder, split) for split, folder in pngs.items()}
            if choice != "auto":
                hint = f"put {CLASS}/train2014 and /val2014 beside the images, or give -o coco14.masks=FOLDER"
                raise BadData("no PNG masks in this tree", where=self._tree, hint=hint)
        self._instances_of(judged, "masks")
        require_pycocotools()
        return {split: PaintedMasks(place, *rules) for split, place in self._instances.items()}

    def _instances_of(self, split: str, what: str) -> Path:
        if split not in self._instances:
            name = f"instances_{split}2014.json"
            where = self._config.annotations or self._tree
            hint = "give its folder: -o coco14.annotations=FOLDER"
            raise BadData(f"no {what} for {split}: there is no {name}", where=where, hint=hint)
        return self._instances[split]

    def _tag_source(self) -> str | Path:
        """A file, "json" or "masks"."""
        choice = self._config.tags or "auto"
        if choice in ("json", "masks"):
            return choice
        if choice != "auto":
            return Path(choice).expanduser().absolute()
        root = Path(self._config.root).expanduser().absolute()
        for place in dict.fromkeys((root, self._tree, self._tree.parent)):
            if place.is_relative_to(root):
                for name in TAG_FILES:
                    if (place / name).is_file():
                        return place / name
        return "json" if len(self._instances) == len(self._folders) else "masks"

    def _read_tags(self) -> Mapping[int, Tags]:
        if isinstance(self._tag_place, Path):
            return file_tags(self._tag_place)
        if self._tag_place == "json":
            return catalogue_tags([self._catalogue(split, "tags") for split in self._folders])
        masked = {split: self._candidates[split] for split in self._masks}
        return MaskTags(masked, lambda split, numbers: self._masks[split].labels(numbers))

    def _catalogue(self, split: str, what: str) -> Catalogue:
        if split not in self._catalogues:
            self._catalogues[split] = catalogue(self._instances_of(split, what))
        return self._catalogues[split]

    def _listed(self, split: str) -> Sequence[int]:
        """The numbers of the images of `split`, by the lists as far as they do not depend on tags.

        All images are those of the instances file, else of the folder.
        """
        if self._config.lists not in ("objects", "all"):
            return listed_numbers(self._config.lists, split)
        if split not in self._instances:
            return numbers_in(self._folders[split])
        listed = self._catalogue(split, "list")
        return sorted(n for n, image in listed.items() if image.labels or self._config.lists == "all")

    def _members(self, split: str) -> Sequence[int]:
        """The numbers of the images of `split`: without an instances file, tags tell which have an object.

        A tag file may leave out images without objects; where it leaves out others, `fingerprint` names them.
        """
        numbers = self._candidates[split]
        if self._config.lists != "objects" or split in self._instances:
            return numbers
        untagged = [number for number in numbers if number not in self._tags]
        source = self._masks.get(split)
        incomplete = len(untagged) == len(numbers) or (source is not None and source.shows_any(untagged))
        kept = frozenset(untagged if incomplete else ())
        return [n for n in numbers if n in kept or (n in self._tags and self._tags[n].any())]

    def _refuse_overlap(self) -> None:
        """By numbers: the ids of one image differ by the name of the split."""
        learned, judged = (map(str, self._numbers.get(split, ())) for split in ("train", "val"))
        refuse_overlap("train", learned, "val", judged, self._tree)

    def _convention(self) -> str:
        """What the card says of the lists: one word where both splits agree."""
        if self._config.lists in ("objects", "all"):
            return self._config.lists
        words = {split: self._convention_of(split) for split in self._ids}
        same = len(set(words.values())) == 1
        return next(iter(words.values())) if same else ", ".join(f"{s} {word}" for s, word in words.items())

    def _convention_of(self, split: str) -> str:
        named = self._config.lists in ("objects", "all")
        return self._config.lists if named else convention(split, len(self._ids[split]))

    @property
    def _is_painted(self) -> bool:
        return any(isinstance(source, PaintedMasks) for source in self._masks.values())

    def _card(self) -> DatasetCard:
        rules = {"overlap": self._config.overlap, "crowd": self._config.crowd} if self._is_painted else {}
        masks = {"masks": "json" if self._is_painted else "png", **rules}
        return DatasetCard(
            name="coco14",
            version="2014",
            class_names=CLASS_NAMES,
            splits=tuple(self._folders),
            fit_split="train",
            label_split="train",
            eval_split="val",
            label_source=LABEL_SOURCE.get(str(self._tag_place), "file"),
            licence="images: their owners' terms (Flickr); annotations: CC BY 4.0",
            source="https://cocodataset.org, train2014 and val2014",
            image_px=median_long_side({"val": (), **self._ids}, self.image_path),
            image_px_from="measured",
            palette="voc",
            options={"lists": self._convention(), **masks},
            without_masks={s: len(ids) for s, ids in self._ids.items() if s not in self._masks},
            split_options={s: {"lists": self._convention_of(s), **masks} for s in self._folders},
        )

    # --------------------------------------------------------------------------------------- the contract

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of `split`, ascending, as COCO_val2014_000000000042."""
        if split not in self._ids:
            where, hint = self._tree, nearest(split, tuple(self._ids))
            raise BadData(f"there are no images of the split {split!r}", where=where, hint=hint)
        return self._ids[split]

    def _split(self, id: str) -> str:
        if id not in self._split_of:
            raise BadData(f"no image {id!r} in the lists", where=self._tree, hint="see coco14.lists")
        return self._split_of[id]

    def image_path(self, id: str) -> Path:
        return file_of(self._folders[self._split(id)], id, ".jpg")

    def mask_of_size(self, id: str, size: tuple[int, int] | None) -> Mask:
        """The mask, read or painted, checked to be of `size` (H, W) unless that is None."""
        split = self._split(id)
        if split not in self._masks:
            raise FileFault(MISSING, f"there are no masks of {split}", self._tree, "see coco14.masks")
        return self._masks[split].mask(id, size)

    def read_mask(self, path: Path) -> Mask:
        """(H, W) labels of any file that is coded as PNG masks are; BadData for one that is not."""
        return read_mask(path, len(CLASS_NAMES))

    def mask_source(self, id: str) -> str:
        """What the mask of `id` is read or painted from; "" where its split has none."""
        split = self._split(id)
        if split not in self._masks:
            return ""
        place = self._masks[split].place
        return place.name if self._is_painted else f"{place.parent.name}/{place.name}"

    def tags(self, id: str) -> Tags:
        """(80,) bool; BadData for an image that the tags do not know."""
        try:
            return self._tags[int(image_number(id) or -1)].copy()
        except KeyError:
            raise BadData(f"no tags for {id}", where=self._tag_text()) from None

    def fingerprint(self, split: str) -> str:
        """sha256 (hex) over ids, tags, images, and masks or what they are painted from."""
        ids, numbers = self.ids(split), self._numbers[split]
        tagged = {id for id, number in zip(ids, numbers, strict=True) if number in self._tags}
        require_tags(split, ids, tagged, Path(self._tag_text()), "coco14")
        images = file_digests([self.image_path(id) for id in ids], cache_file())
        tags = (self._tags[number].tobytes().hex() for number in numbers)
        source = self._masks.get(split)
        if isinstance(source, PngMasks):  # painted ones show what is annotated
            read = partial(self.mask_of_size, size=None)
            require_a_class(self.card, split, ids, read, source.place, self.void_hint())
        masks = source.digests(ids) if source else [""] * len(ids)
        return split_fingerprint(zip(ids, tags, images, masks, strict=True))

    # ------------------------------------------------------------------------------------------ for people

    @property
    def whole_counts(self) -> Mapping[str, int]:
        """Images of each split by the convention of the lists."""
        return OFFICIAL.get(self._convention(), {})

    def _tag_text(self) -> str:
        if isinstance(self._tag_place, Path):
            return str(self._tag_place)
        masks = [source.place for source in self._masks.values()]
        places = list(self._instances.values()) if self._tag_place == "json" else masks
        return ", ".join(map(str, places))

    def places(self) -> list[str]:
        """Where things were found."""
        images = ", ".join(str(folder) for folder in self._folders.values())
        masks = ", ".join(str(source.place) for source in self._masks.values())
        left = {s: len(self._candidates[s]) - len(ids) for s, ids in self._ids.items()}
        without = ", ".join(f"{split} {count:,}" for split, count in left.items() if count)
        lists = f"lists: {self._convention()} ({self._config.lists})"
        lists += f"; left out, without an object or a tag: {without}" if without else ""
        return [f"images: {images}", lists, f"tags: {self._tag_text()}", f"masks: {masks}"]


class Coco14(ChosenClasses):
    """COCO 2014 with 80 classes; a part of the tree works as well. Preset `recam`: its lists and masks."""

    Config: ClassVar[type] = Coco14Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"recam": RECAM}
    Whole: ClassVar[type] = Coco14Files
