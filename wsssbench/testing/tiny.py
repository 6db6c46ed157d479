"""A made-up data set of a few small images, for contract tests: two classes, sizes that differ, void borders.

It is not a benchmark: it exists so that the harness can run a step without knowing any data set. It notes
what is read from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wsssbench.errors import UnknownName, nearest
from wsssbench.identity import content_key
from wsssbench.types import IGNORE, Dataset, DatasetCard, Kind, Maps, NoConfig, Outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wsssbench.types import Image, Mask, Tags

COUNTS = {"train": 12, "val": 4}
SIZES = ((32, 32), (32, 32), (24, 40))  # (H, W), by turns
COLOURS = ((200, 40, 40), (40, 40, 200))  # of the two classes
STRIDE = 4  # of made-up maps and probabilities


class TinyDataset(Dataset):
    """Coloured boxes on noise: 12 images to fit on and 4 to judge."""

    Config: ClassVar[type] = NoConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    card: DatasetCard = DatasetCard(
        name="tiny",
        version="1",
        class_names=("red", "blue"),
        splits=tuple(COUNTS),
        fit_split="train",
        label_split="train",
        eval_split="val",
        label_source="generated",
        licence="Apache-2.0",
        source="made up",
        image_px=32,
        generated=True,
    )

    def __init__(self, config: NoConfig | None = None, seed: int = 0) -> None:
        self.seed = seed
        self.forget()

    def forget(self) -> None:
        """Empty `reads` and note there from now on which ids' images, tags and masks are read."""
        self.reads: dict[str, set[str]] = {"image": set(), "tags": set(), "mask": set()}

    def ids(self, split: str) -> tuple[str, ...]:
        """train_0 ... train_11, val_0 ... val_3."""
        if split not in COUNTS:
            raise UnknownName(f"unknown split {split!r}", where="tiny", hint=nearest(split, list(COUNTS)))
        return tuple(f"{split}_{k}" for k in range(COUNTS[split]))

    def image(self, id: str) -> Image:
        self.reads["image"].add(id)
        return self.scene(id)[0]

    def tags(self, id: str) -> Tags:
        self.reads["tags"].add(id)
        return self.scene(id)[2]

    def mask(self, id: str) -> Mask:
        self.reads["mask"].add(id)
        return self.scene(id)[1]

    def fingerprint(self, split: str) -> str:
        """sha256 (hex) of what the images follow from."""
        return content_key(["tiny", self.seed, split, self.ids(split)])

    def scene(self, id: str) -> tuple[Image, Mask, Tags]:
        """Image (H, W, 3), mask (H, W) and tags (2,) of `id`, without a note of it."""
        split, _, number = id.partition("_")
        index = int(number)
        draw = np.random.default_rng((self.seed, len(split), index))
        height, width = SIZES[index % len(SIZES)]
        image = draw.integers(90, 160, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        present = [(index + n) % 2 for n in range(1 + (index % 3 == 2))]
        for place, k in enumerate(present):
            top, left = draw.integers(2, 6), 2 + place * width // 2 + draw.integers(0, 3)
            box = (slice(top, top + 14), slice(left, left + 10))
            mask[box] = k + 1
            image[box] = np.clip(np.array(COLOURS[k]) + draw.integers(-20, 20, (14, 10, 3)), 0, 255)
        mask[0] = IGNORE
        return image, mask, np.isin(np.arange(2), present)


def made_up_outputs(data: TinyDataset, id: str, kinds: Collection[Kind]) -> Outputs:
    """What a good step before might have said of `id`: the named kinds, made from the truth."""
    _, mask, tags = data.scene(id)
    planes = np.stack([mask == k for k in range(len(tags) + 1)]).astype(np.float32)
    planes[0] += mask == IGNORE
    coarse: NDArray[np.float32] = 0.1 + 0.7 * planes[:, ::STRIDE, ::STRIDE]  # 0.8 here, 0.1 elsewhere
    chosen = np.flatnonzero(tags)
    sparse = mask.copy()
    sparse[:, ::2] = IGNORE
    every: dict[str, Any] = {
        "maps": Maps(classes=chosen, values=coarse[1:][chosen]),
        "probs": coarse / coarse.sum(0),
        "labels": mask,
        "mined": sparse,
        "tag_scores": tags.astype(np.float32),
    }
    return Outputs(**{kind: every[kind] for kind in kinds})
