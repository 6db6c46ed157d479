"""Labels that were made elsewhere, as a step: a folder of masks, one <image id>.png each.

Whatever made them is not known here. What they are worth, and what a segmenter learns from them, is judged
like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.masks import lacking_masks, missing_masks, read_labels
from wsssbench.types import (
    IGNORE,
    SUPERVISION,
    Artifacts,
    Context,
    DatasetCard,
    Kind,
    Outputs,
    StepCard,
    View,
    option,
)


@dataclass(frozen=True)
class ImportConfig:
    """Options of `import`."""

    folder: str = option("", "folder of <image id>.png; as a recipe: import:FOLDER", folder=True)
    supervision: tuple[str, ...] = option(
        ("unknown",), "what the masks have learned from (tags, masks, ...); shown in the row"
    )


class ImportedLabels:
    """The masks of a folder by the ids of their images; it asks no network and looks at no pixel."""

    def __init__(self, folder: Path, card: DatasetCard) -> None:
        self.folder, self.card = folder, card

    def look_up(self, ids: Sequence[str], images: Sequence[Tensor]) -> Sequence[Outputs]:
        """The labels of the images called `ids`.

        BadData names a mask that is missing, of another size than its image, or has a label of no class.
        """
        shapes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        return [Outputs(labels=self._checked(id, shape)) for id, shape in zip(ids, shapes, strict=True)]

    def _checked(self, id: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
        path, count = self.folder / f"{id}.png", len(self.card.class_names)
        labels = read_labels(path)
        if labels.shape != shape:
            hint = "labels must have the size of the image"
            raise BadData(f"the mask is {labels.shape}, its image {shape}", where=path, hint=hint)
        wrong = np.unique(labels[(labels > count) & (labels != IGNORE)])
        if len(wrong):
            values = ", ".join(map(str, wrong[:5]))
            hint = f"labels are 0 for background, 1..{count} for classes, {IGNORE} for none"
            raise BadData(f"the mask has label {values}, outside 0..{count}", where=path, hint=hint)
        return labels

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        raise WsssError(
            "labels from a folder are found by the ids of images, and these have none",
            where=self.folder,
            hint="name a method that segments",
        )


class Import:
    """Labels from a folder of PNGs, one for each image id; 255 where the maker abstains."""

    Config = ImportConfig
    presets: ClassVar[dict[str, dict[str, object]]] = {}
    path_option = "folder"
    card = StepCard("import", "1", "labels", supervision=("unknown",), gives=("labels",))

    def __init__(self, config: ImportConfig) -> None:
        for name in config.supervision:
            if name not in SUPERVISION:
                hint = nearest(name, SUPERVISION)
                raise UnknownName(f"unknown supervision {name!r}", where="import.supervision", hint=hint)
        self.config = config
        self.card = replace(self.card, supervision=tuple(sorted(set(config.supervision))))
        self.folder = Path(config.folder).expanduser()

    def skip(self, split: str, ids: Sequence[str]) -> str:
        """Why the folder has nothing to say of a split; BadData where it has masks of some images only."""
        if not self.config.folder:
            raise WsssError("import needs a folder of masks", where="import", hint="write import:FOLDER")
        missing = missing_masks(self.folder, ids)
        if missing and len(missing) < len(ids):
            raise lacking_masks(self.folder, missing, len(ids), split)
        return f"{self.folder.name} has no mask of {split}, such as {missing[0]}.png" if missing else ""

    def fit(self, train: View, given: Artifacts, ctx: Context) -> ImportedLabels:
        return self.restore(ctx)

    def restore(self, ctx: Context) -> ImportedLabels:
        return ImportedLabels(self.folder, ctx.card)
