"""PASCAL VOC 2012 from the tree that users have: JPEGs, palette masks, lists, tags. Nothing is downloaded.

The tree and its lists are found by `voc_lists`, tags by `tag_files`, pixels by `voc_check`, which also
surveys the tree; here they become one data set, with its choice of masks and the fingerprint of its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from wsssbench.errors import BadData, UnknownName, nearest
from wsssbench.types import DatasetCard, option

from .tag_files import XmlTags, read_tag_file
from .voc_check import PrepareReport, check, image_size, in_threads, read_image, read_mask
from .voc_lists import SPLITS, find_tree, list_file, read_list

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask, Tags

CLASS_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
CLASS, AUG = "SegmentationClass", "SegmentationClassAug"
TAG_FILE = "cls_labels.npy"
SHOWN = 5  # ids named in an error


@dataclass(frozen=True)
class Voc12Config:
    """Options of `voc12`."""

    root: str = option("", "VOC2012, or a folder above it that holds VOCdevkit", key=False)
    masks: str = option(
        "auto",
        f"auto, {CLASS} or {AUG}; auto: {CLASS} for ids of train and val with a file there, else {AUG}",
    )
    tags: str = option(
        "", f"tag file; else a {TAG_FILE} in or beside the root, else Annotations/*.xml", file=True
    )


class Voc12:
    """PASCAL VOC 2012 with its augmented training list; a subset of the tree works as well.

    A mask belongs to an id, not to a split: with `masks = "auto"` an id of train or val has its VOC mask
    (with the void border) wherever it is used, so also in train_aug, and all others have the SBD-derived one.
    `card.options["masks"]` records the folders used per split.
    """

    Config: ClassVar[type] = Voc12Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, config: Voc12Config, seed: int = 0) -> None:
        """Find the tree, read its lists and tags; BadData when one is missing or unusable. `seed` is idle."""
        self._tree = find_tree(config.root)
        self._lists = {split: path for split in SPLITS if (path := list_file(self._tree, split))}
        if not self._lists:
            where = self._tree / "ImageSets" / "Segmentation"
            raise BadData("no list of a split here", where=where, hint=f"add {', '.join(SPLITS)} as .txt")
        self._ids = {split: read_list(path) for split, path in self._lists.items()}
        self._judged = frozenset(id for split, ids in self._ids.items() if split != "test" for id in ids)
        self._mask_folder = _mask_folders(self._tree, config.masks, self._ids)
        self._tag_place = _tag_place(self._tree, config)
        self._tags = _tags_at(self._tag_place)
        self._fingerprints: dict[str, str] = {}
        self.card = self._card()

    def _card(self) -> DatasetCard:
        splits = tuple(self._lists)
        used = {s: sorted({self._mask_folder[id] for id in self._ids[s]}) for s in splits if s != "test"}
        return DatasetCard(
            name="voc12",
            version="2012",
            class_names=CLASS_NAMES,
            splits=splits,
            fit_split="train_aug" if "train_aug" in splits else "train",
            label_split="train" if "train" in splits else "train_aug",
            eval_split="val",
            label_source="xml" if self._tag_place.is_dir() else "file",
            licence="images: their owners' terms (Flickr); annotations: PASCAL VOC and SBD; research use",
            source="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, train_aug with masks made from SBD",
            image_px=500,
            options={"masks": {split: "+".join(folders) for split, folders in used.items()}},
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
        """Where the mask of `id` is or should be; BadData for an image without one."""
        if id not in self._judged:
            what = f"{id} has no mask: it is in no split that has masks (test has none)"
            raise BadData(what, where=self._tree)
        return self._tree / self._mask_folder[id] / f"{id}.png"

    def image(self, id: str) -> Image:
        """(H, W, 3) uint8 RGB as stored, without EXIF rotation; BadData if missing or truncated."""
        return read_image(self.image_path(id))

    def mask(self, id: str) -> Mask:
        """(H, W) uint8 in 0..20 or 255, of the image's size; BadData for anything else."""
        return read_mask(self.mask_path(id), len(CLASS_NAMES), image_size(self.image_path(id)))

    def tags(self, id: str) -> Tags:
        """(20,) bool; BadData for an image that the tags do not know."""
        try:
            return self._tags[id].copy()
        except KeyError:
            raise BadData(f"no tags for {id}", where=self._tag_place) from None

    def fingerprint(self, split: str) -> str:
        """sha256 (hex) over ids, tags and the bytes of images and masks; a test split has images only."""
        if split not in self._fingerprints:
            self._fingerprints[split] = self._fingerprint(split)
        return self._fingerprints[split]

    def _fingerprint(self, split: str) -> str:
        ids, masked = self.ids(split), split != "test"
        if masked:
            self._require_tags(split)
        images = [self.image_path(id) for id in ids]
        masks = [self.mask_path(id) for id in ids] if masked else []
        digests = file_digests([*images, *masks], cache_file())
        whole = hashlib.sha256()
        for i, id in enumerate(ids):
            tags = self._tags[id].tobytes().hex() if masked else ""
            mask = digests[len(ids) + i] if masked else ""
            whole.update(f"{id} {tags} {digests[i]} {mask}\n".encode())
        return whole.hexdigest()

    def _require_tags(self, split: str) -> None:
        missing = [id for id in self.ids(split) if id not in self._tags]
        if missing:
            some = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
            what = f"{len(missing):,} of {len(self.ids(split)):,} images of {split} have no tags: {some}"
            raise BadData(what, where=self._tag_place, hint="give a complete file: -o voc12.tags=FILE")

    def places(self) -> list[str]:
        """Where things were found, for people."""
        return [f"tree: {self._tree}", f"tags: {self._tag_place}"]

    def prepare(self) -> PrepareReport:
        """Check every file of the tree's splits: what `wsssbench prepare voc12` prints."""
        return check(self, self.card.splits)


# -------------------------------------------------------------------------------- what is read from where


def _mask_folders(tree: Path, choice: str, ids: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The mask folder of each id that has a mask."""
    if choice not in ("auto", CLASS, AUG):
        hint = nearest(choice, ("auto", CLASS, AUG))
        raise UnknownName(f"no mask folder {choice!r}", where="voc12.masks", hint=hint)
    folders = [folder for folder in (CLASS, AUG) if (tree / folder).is_dir()]
    if not folders or choice not in ("auto", *folders):
        hint = f"found: {', '.join(folders) or f'neither {CLASS} nor {AUG}'}"
        raise BadData(
            "no masks: this folder does not exist", where=tree / choice.replace("auto", CLASS), hint=hint
        )
    rest = choice if choice != "auto" else folders[-1]
    chosen = {id: rest for split, members in ids.items() if split != "test" for id in members}
    if choice == "auto" and CLASS in folders:
        present = {path.stem for path in (tree / CLASS).iterdir()}
        own = (id for split in ("train", "val") for id in ids.get(split, ()))
        chosen |= {id: CLASS for id in own if id in present}
    return chosen


def _tag_place(tree: Path, config: Voc12Config) -> Path:
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


# --------------------------------------------------------------------------------------- digests of files


def cache_file() -> Path:
    """Where digests are kept between runs: $XDG_CACHE_HOME/wsssbench, or ~/.cache/wsssbench."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base else Path.home() / ".cache"
    return folder / "wsssbench" / "file-digests.json"


def file_digests(paths: Sequence[Path], store: Path) -> list[str]:
    """sha256 (hex) of each file; a file of known path, size and mtime is not read again.

    BadData for a file that is missing. A store that cannot be read or written costs time, nothing else.
    """
    known = _stored(store)
    states = in_threads(_state, paths)
    keys = [str(path) for path in paths]
    stale = [i for i, key in enumerate(keys) if known.get(key, [])[:2] != states[i]]
    fresh = in_threads(lambda i: _sha256(paths[i]), stale)
    if stale:
        known |= {keys[i]: [*states[i], digest] for i, digest in zip(stale, fresh, strict=True)}
        _store(store, known)
    return [known[key][2] for key in keys]


def _state(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError as error:
        hint = "wsssbench prepare voc12 lists all that is missing"
        raise BadData("this file is missing or unreadable", where=path, hint=hint) from error
    return [stat.st_size, stat.st_mtime_ns]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadData(f"this file cannot be read ({error})", where=path) from error


def _stored(store: Path) -> dict[str, list[Any]]:
    """path -> [size, mtime_ns, sha256]; empty when the store is absent or damaged."""
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: entry for key, entry in entries if isinstance(entry, list) and len(entry) == 3}


def _store(store: Path, digests: Mapping[str, list[Any]]) -> None:
    """Write all or nothing; where the folder is not writable the digests are computed again next time."""
    name = None
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=store.parent, delete=False, encoding="utf-8") as file:
            name = file.name
            json.dump(digests, file)
        Path(name).replace(store)
    except OSError:
        if name is not None:
            Path(name).unlink(missing_ok=True)
