"""Outputs that were made elsewhere, as a step: a folder with one file per image, named by its id.

Label pictures, or what other repositories write: class maps, probabilities, logits. Whatever made them is not
known here. What they are worth, and what a segmenter learns from them, is judged like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsssbench.dumps.formats import AUTO
from wsssbench.errors import BadData, WsssError
from wsssbench.files.digests import SUFFIXES
from wsssbench.masks import found_instead
from wsssbench.types import (
    Artifacts,
    Context,
    DatasetCard,
    Kind,
    Outputs,
    Predictor,
    Step,
    StepCard,
    View,
    option,
)
from wsssbench_methods.foreign_files import (
    FileOptions,
    check_class,
    checked_supervision,
    first_file,
    kind_of_file,
    kind_of_format,
    palettes_of,
    read_outputs,
)

NAMED = 5  # missing files that an error names
UNKNOWN = "not known: it is no threshold of the files' maker"
WORDS = {"labels": "mask", "maps": "maps", "probs": "probabilities"}


@dataclass(frozen=True)
class ImportConfig(FileOptions):
    """Options of `import`."""

    folder: str = option("", "folder of one file per image; as a recipe: import:FOLDER", folder=True)
    supervision: tuple[str, ...] = option(
        ("unknown",), "what the files have learned from (tags, masks, ...); shown in the row"
    )


class ImportedFiles(Predictor):
    """The files of a folder by the ids of their images; it asks no network and looks at no pixel."""

    def __init__(self, folder: Path, card: DatasetCard, kind: Kind, options: FileOptions) -> None:
        self.folder, self.card, self.kind, self.options = folder, card, kind, options
        self.palettes = palettes_of(card)

    def look_up(self, ids: Sequence[str], images: Sequence[Tensor]) -> Sequence[Outputs]:
        """What the files say of the images called `ids`.

        BadData names a file that is missing, of another kind than the first, of labels of another size than
        its image, or with a class that does not exist.
        """
        shapes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        return [
            read_outputs(self.folder, id, shape, self.card, self.kind, self.options, self.palettes)
            for id, shape in zip(ids, shapes, strict=True)
        ]

    def __call__(
        self,
        images: Sequence[Tensor],
        tags: NDArray[np.bool_] | None,
        given: Sequence[Outputs],
        want: frozenset[Kind],
    ) -> Sequence[Outputs]:
        raise WsssError(
            "files of a folder are found by the ids of images at their own size: these have none",
            where=self.folder,
            hint="name a method that segments; for several scales, too",
        )


class Import(Step):
    """Labels, maps or probabilities from a folder, one file for each image id.

    Which of the three it gives is said by `format`, or else by its first file; all files must hold the same.
    """

    Config = ImportConfig
    path_option = "folder"
    card = StepCard(
        "import", "1", "labels", supervision=("unknown",), gives=("labels", "maps", "probs"), tuned_on=UNKNOWN
    )

    def __init__(self, config: ImportConfig) -> None:
        self.config, self.folder = config, Path(config.folder).expanduser()
        first = first_file(self.folder) if config.folder else None
        self.suffix, self.kind = first.suffix if first else ".png", _kind(config, first)
        self.card = replace(
            self.card,
            supervision=checked_supervision(config.supervision, "import.supervision"),
            gives=(self.kind,),
            needs_threshold=self.kind == "maps",
        )

    def ready_on(self, card: DatasetCard, filter_backend: str) -> None:
        check_class(self.config, card, "import")

    def skip(self, split: str, ids: Sequence[str]) -> str:
        """Why the folder has nothing to say of a split; BadData where it has files of some images only."""
        if not self.config.folder:
            raise WsssError("import needs a folder of masks", where="import", hint="write import:FOLDER")
        if not self.folder.is_dir():
            hint = "one file per image, named by its id"
            raise BadData("no such folder of labels", where=self.folder, hint=hint)
        missing = [id for id in ids if not self._has(id)]
        if missing and len(missing) < len(ids):
            names = ", ".join(f"{id}{self.suffix}" for id in missing[:NAMED])
            what = f"{len(missing)} of {len(ids)} files are missing: {names}"
            what += " ..." if len(missing) > NAMED else ""
            raise BadData(what, where=self.folder, hint=f"every image of {split} needs its file")
        if not missing:
            return ""
        instead = found_instead(self.folder, missing[0])
        lacking = f"no {WORDS[self.kind]} of {split}, such as {missing[0]}{self.suffix}"
        return f"{self.folder.name} has {lacking}{' (' + instead + ')' if instead else ''}"

    def _has(self, id: str) -> bool:
        suffixes = dict.fromkeys((self.suffix, *SUFFIXES))  # the usual one first: one look for most files
        return any((self.folder / f"{id}{suffix}").is_file() for suffix in suffixes)

    def fit(self, train: View, given: Artifacts, ctx: Context) -> ImportedFiles:
        return self.restore(ctx)

    def restore(self, ctx: Context) -> ImportedFiles:
        return ImportedFiles(self.folder, ctx.card, self.kind, self.config)


def _kind(config: ImportConfig, first: Path | None) -> Kind:
    """What the folder holds; labels where it is empty, which is reported when images are looked for."""
    if config.format != AUTO:
        return kind_of_format(config.format, "import.format")
    return kind_of_file(first, "import.format") if first else "labels"
