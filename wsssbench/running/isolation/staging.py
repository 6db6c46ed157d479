"""What a step may see of a data set, written to disk for a sandbox: images without loss, tags, perhaps masks.

Each kind lies in a folder of its own, so that a sandbox is shown the kinds that a step declares and no other.
Files are named by numbers, hold pixels and nothing of what the originals carried, and none is a link.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PilImage

from wsssbench.errors import BadData
from wsssbench.masks import read_labels, write_labels
from wsssbench.types import Dataset, DatasetCard

if TYPE_CHECKING:
    from wsssbench.types import Image, Mask, Tags

QUICK = 1  # of zlib's levels: these files live as long as the run
IMAGES, TAGS, MASKS = "images", "tags", "masks"


def stage_images(root: Path, data: Dataset, ids: Sequence[str], kinds: Collection[str]) -> None:
    """Write those `kinds` of the images `ids` that are not in the folder `root` yet."""
    for kind in (kind for kind in kinds if not (root / kind).exists()):
        (root / kind).mkdir(parents=True)
        for number, id in enumerate(ids):
            if kind == IMAGES:
                picture = PilImage.fromarray(np.ascontiguousarray(data.image(id)))
                picture.save(_file(root, kind, number), compress_level=QUICK)
            elif kind == MASKS:
                write_labels(_file(root, kind, number), data.mask(id))
            else:
                np.save(_file(root, kind, number).with_suffix(".npy"), data.tags(id), allow_pickle=False)


class StagedData(Dataset):
    """The staged images of one split as a data set: what `View` in a sandbox reads."""

    def __init__(self, root: Path, card: DatasetCard, split: str, ids: Sequence[str]) -> None:
        self.root, self.card, self.split = root, card, split
        self._number = {id: number for number, id in enumerate(ids)}

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of the split that was staged; of no other."""
        if split != self.split:
            raise BadData(f"there is no split {split!r} in a sandbox", where=self.card.name)
        return tuple(self._number)

    def image(self, id: str) -> Image:
        """(H, W, 3) uint8 RGB."""
        with PilImage.open(_file(self.root, IMAGES, self._number[id])) as picture:
            return np.array(picture)

    def tags(self, id: str) -> Tags:
        """(K,) bool. FileNotFoundError where no tags were staged."""
        file = _file(self.root, TAGS, self._number[id]).with_suffix(".npy")
        found: Tags = np.load(file, allow_pickle=False)
        return found

    def mask(self, id: str) -> Mask:
        """(H, W) uint8. BadData where no masks were staged."""
        return read_labels(_file(self.root, MASKS, self._number[id]))

    def fingerprint(self, split: str) -> str:
        """Not known here: it covers the masks."""
        raise BadData("a sandbox knows no fingerprint of its data", where=self.card.name)


def _file(root: Path, kind: str, number: int) -> Path:
    return root / kind / f"{number:06}.png"
