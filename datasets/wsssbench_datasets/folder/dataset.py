"""`folder`: any data set on disk that a `dataset.toml` in its root describes. Nothing is downloaded.

What the description says is read by `toml`, files are found by `splits`, masks decoded by `label_code`, tags
read by `tag_tables`; here they become one data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from wsssbench.errors import BadData, first_names
from wsssbench.files.label_palette import RENUMBERED, VOC, LabelPalettes
from wsssbench.identity import content_key
from wsssbench.types import DatasetCard, option
from wsssbench_datasets.class_choice import ChosenClasses, ClassOptions
from wsssbench_datasets.file_facts import cache_file, file_digests, median_long_side, split_fingerprint
from wsssbench_datasets.folder.splits import SplitFiles
from wsssbench_datasets.folder.toml import FILE, read_description
from wsssbench_datasets.survey import FileDataset, require_a_class
from wsssbench_datasets.tag_tables import read_tags

if TYPE_CHECKING:
    from wsssbench.types import Mask, Tags

NAME = "folder"
PALETTE_HINT = (
    f'{RENUMBERED}; if the colours are right, palette = "voc" in {FILE}; if the numbers are, save masks '
    "without a palette (mode L)"
)


@dataclass(frozen=True)
class FolderRoot:
    """Where the data set is."""

    root: str = option("", f"the folder that holds {FILE}", key=False)


@dataclass(frozen=True)
class FolderConfig(ClassOptions, FolderRoot):
    """Options of `folder`."""


class FolderFiles(FileDataset):
    """The whole of a described data set, with all its classes."""

    def __init__(self, config: FolderRoot, seed: int = 0) -> None:
        """Read the description, lists and tags; BadData for what is missing or wrong. `seed` is idle."""
        self._root = _root(config.root)
        self.described = read_description(self._root)
        self.files = SplitFiles(self._root, self.described)
        tags = self.described.tags
        self._table = None if tags is None else read_tags(tags, self.described.classes, self.files.naming)
        self._palettes = LabelPalettes(
            len(self.described.classes), indices=bool(self.described.coding), hint=PALETTE_HINT
        )
        self._from_masks: dict[str, Tags] = {}
        self._fingerprints: dict[str, str] = {}
        self.card = self._card()
        coded = "colours" if self.described.code.colours else "numbers"
        self.coded = coded if self.described.coding else ""
        self.bare_splits = tuple(name for name in self.card.splits if not any(self.split_has(name)))

    def _card(self) -> DatasetCard:
        known = self.described
        image_px = known.image_px
        if image_px is None:
            judged, learned = known.eval_split, known.fit_split
            image_px = median_long_side({s: self.ids(s) for s in (judged, learned)}, self.image_path)
        tags = "from masks" if known.tags is None else "from a file"
        masks = self.files.mask_folders()
        return DatasetCard(
            name=f"{NAME}:{known.name}",
            version=f"{known.version}+{known.digest(image_px)[:8]}",
            class_names=known.classes,
            splits=tuple(split.name for split in known.splits),
            fit_split=known.fit_split,
            label_split=known.label_split,
            eval_split=known.eval_split,
            label_source="mask" if known.tags is None else "file",
            licence=known.licence,
            source=known.source,
            image_px=image_px,
            image_px_from="stated" if known.image_px else "measured",
            palette=VOC if known.coding == VOC else "",
            options={"masks": masks, "tags": tags},
            without_masks={s.name: len(self.ids(s.name)) for s in known.splits if s.masks is None},
            split_options={
                split.name: {"tags": tags} | ({"masks": masks[split.name]} if split.name in masks else {})
                for split in known.splits
            },
            judged_version=f"{known.version}+{known.digest()[:8]}",  # terms name the size by itself
        )

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of `split` in the order of its list, or sorted where it is all of a folder."""
        return self.files.ids(split)

    def image_path(self, id: str) -> Path:
        """Where the image is, or should be."""
        return self.files.image_path(id)

    def mask_of_size(self, id: str, size: tuple[int, int] | None) -> Mask:
        """The mask, checked to be of `size` (H, W) unless that is None."""
        return self.described.code.read(self.files.mask_path(id), size, self._palettes)

    def read_mask(self, path: Path) -> Mask:
        """(H, W) labels of any file that is coded as the masks are; BadData for one that is not."""
        return self.described.code.read(path)

    def mask_source(self, id: str) -> str:
        """The folder that the mask of `id` is in."""
        return self.files.mask_source(id)

    def tags(self, id: str) -> Tags:
        """(K,) bool, of the file or the classes of the mask; BadData where these are not there."""
        self.files.require(id)
        if self._table is not None:
            return self._table.of(id)
        if id not in self._from_masks:
            present = np.bincount(self.mask(id).ravel(), minlength=256) > 0
            self._from_masks[id] = present[1 : len(self.described.classes) + 1]
        return self._from_masks[id].copy()

    def fingerprint(self, split: str) -> str:
        """sha256 (hex) over the meaning of mask values, ids, tags and the bytes of images and masks."""
        if split not in self._fingerprints:
            self._fingerprints[split] = self._fingerprint(split)
        return self._fingerprints[split]

    def _fingerprint(self, split: str) -> str:
        ids, masked = self.ids(split), split in self.files.mask_folders()
        if masked:
            self._require_a_class(split)
        tags, code = self._tag_texts(split), content_key(self.described.code.plain())
        images = file_digests([self.image_path(id) for id in ids], cache_file())
        masks = file_digests([self.files.mask_path(id) for id in ids], cache_file()) if masked else []
        coded = [f"{digest}:{code}" for digest in masks] or [""] * len(ids)
        return split_fingerprint(zip(ids, tags, images, coded, strict=True))

    def _require_a_class(self, split: str) -> None:
        """Masks of one class are often drawn as 0 and 255; nothing of them would be judged."""
        ids, table, where = self.ids(split), self._table, self.described.path
        if table is not None:  # those with tags first: one that shows a class ends the search
            ids = tuple(sorted(ids, key=lambda id: not table.tagged(id)))
        read = partial(self.mask_of_size, size=None)
        require_a_class(self.card, split, ids, read, where, self.void_hint())

    def void_hint(self) -> str:
        """What to do about masks of background and void alone."""
        if not self.described.code.is_plain:
            return f"see labels, palette and ignore in {FILE}"
        classes = self.described.classes
        named = f'255 = "{classes[0]}"' if len(classes) == 1 else f"255 = NAME, one of {first_names(classes)}"
        return f'say what the values mean: under [labels] in {FILE} write 0 = "background" and {named}'

    def _tag_texts(self, split: str) -> list[str]:
        """What stands for each image's tags; a split of which the file knows nothing has none."""
        ids, table = self.ids(split), self._table
        if table is None:  # they follow from masks and code, which are hashed
            return ["masks"] * len(ids)
        missing = [id for id in ids if not table.knows(id)]
        if len(missing) == len(ids) and split != self.described.fit_split:
            return ["none"] * len(ids)
        if missing:
            what = f"{len(missing):,} of {len(ids):,} images of {split} have no tags: {first_names(missing)}"
            raise BadData(what, where=table.path, hint="add them; an image without a class has a line too")
        return [table.of(id).tobytes().hex() for id in ids]

    def places(self) -> list[str]:
        """Where things were found, for people."""
        tags = "from the masks" if self._table is None else str(self._table.path)
        return [f"description: {self.described.path}", f"tags: {tags}"]

    def unused(self) -> Sequence[str]:
        return self.files.unused()

    def split_has(self, split: str) -> tuple[bool, bool]:
        """Whether the split has masks, and whether it has tags."""
        masked = split in self.files.mask_folders()
        table = self._table
        told = masked if table is None else any(table.knows(id) for id in self.ids(split))
        return masked, told or split == self.described.fit_split


class Folder(ChosenClasses):
    """A data set of your own: images, masks, lists and tags as a dataset.toml in its root describes them.

    Its rows are named folder:NAME, with the name of the description, so that no description can pass for a
    data set that has its own plugin. Tags come from a file, or are the classes of the mask; the card says
    which. A link or a path that leads out of the root is refused.
    """

    Config: ClassVar[type] = FolderConfig
    Whole: ClassVar[type] = FolderFiles


def _root(root: str) -> Path:
    hint = f"give the folder of {FILE} as -o {NAME}.root=DIR, or as root under [datasets.{NAME}]"
    if not root:
        raise BadData("folder needs the folder of a data set", where=f"{NAME}.root", hint=hint)
    place = Path(root).expanduser().absolute()
    if not place.is_dir():
        what = "this is a file, not a folder" if place.exists() else "this folder does not exist"
        raise BadData(what, where=place, hint=hint)
    return place
