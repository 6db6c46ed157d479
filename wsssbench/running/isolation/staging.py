"""What a step may see of a data set, written to disk for a sandbox: images without loss, tags, perhaps masks.

Each kind lies in a folder of its own, so that a sandbox is shown the kinds that a step declares and no other.
Files are named by numbers, hold pixels and nothing of what the originals carried, and none is a link.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PilImage

from wsssbench.errors import BadData
from wsssbench.masks import read_labels, write_labels
from wsssbench.types import Dataset, DatasetCard, View

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask, Tags

QUICK = 1  # of zlib's levels: these files live as long as the run
IMAGES, TAGS, MASKS = "images", "tags", "masks"


class StagedTree:
    """The folder of one data set's fit split."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.there: set[str] = set()

    def stage(self, view: View) -> tuple[str, ...]:
        """Write what `view` shows and is not there yet; the kinds that it shows."""
        shown = [kind for kind in (TAGS, MASKS) if kind in view.supervision]
        kinds = (IMAGES, *shown)
        todo = [kind for kind in kinds if kind not in self.there]
        for kind in todo:
            (self.root / kind).mkdir(parents=True, exist_ok=True)
        if IMAGES in todo or MASKS in todo:
            for number, sample in enumerate(view):
                if IMAGES in todo:
                    picture = PilImage.fromarray(np.ascontiguousarray(sample.image))
                    picture.save(_file(self.root, IMAGES, number), compress_level=QUICK)
                if MASKS in todo and sample.mask is not None:
                    write_labels(_file(self.root, MASKS, number), sample.mask)
        if TAGS in todo:
            table = np.stack([view.tags(id) for id in view.ids]) if len(view) else np.zeros((0, 0), bool)
            np.save(self.root / TAGS / "tags.npy", table, allow_pickle=False)
        self.there |= set(todo)
        return kinds


class StagedData(Dataset):
    """The staged images as a data set: what `View` in a sandbox reads. LookupError for what is not there."""

    def __init__(self, root: Path, card: DatasetCard, split: str, ids: tuple[str, ...], print_: str) -> None:
        self.root, self.card, self.split, self._ids, self._fingerprint = root, card, split, ids, print_
        self._number = {id: number for number, id in enumerate(ids)}
        tags = root / TAGS / "tags.npy"
        self._tags = np.load(tags, allow_pickle=False) if tags.exists() else None

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of the split that was staged; of no other."""
        if split != self.split:
            raise BadData(f"there is no split {split!r} in a sandbox", where=self.card.name)
        return self._ids

    def image(self, id: str) -> Image:
        """(H, W, 3) uint8 RGB."""
        with PilImage.open(_file(self.root, IMAGES, self._number[id])) as picture:
            return np.array(picture)

    def tags(self, id: str) -> Tags:
        """(K,) bool."""
        if self._tags is None:
            raise LookupError("no tags were staged: the step does not declare them")
        found: Tags = self._tags[self._number[id]].copy()
        return found

    def mask(self, id: str) -> Mask:
        """(H, W) uint8."""
        return read_labels(_file(self.root, MASKS, self._number[id]))

    def fingerprint(self, split: str) -> str:
        """That of the data set that was staged."""
        return self._fingerprint


def _file(root: Path, kind: str, number: int) -> Path:
    return root / kind / f"{number:06}.png"
