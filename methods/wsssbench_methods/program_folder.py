"""What a foreign program finds on disk: a folder with images, and beside them what its supervision allows.

    images/<id>.png   RGB, lossless
    list.txt          the ids, one per line
    classes.txt       the K names of the classes, one per line; label k + 1 is line k, 0 is background
    tags.csv          id, then the names of the classes; 0 or 1 for each image; only where tags are given
    masks/<id>.png    labels (0, 1..K, 255 void), only in training and only for a step that declares masks
    out/              empty: one file per image, <id>.png, .npy, .npz or .pt, is expected here

Images, tags and masks are gone once a folder is marked as done; the program's files and its log stay.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image as PilImage

from wsssbench.files.atomic import atomic_write_text
from wsssbench.masks import write_labels
from wsssbench.types import DatasetCard, Sample

if TYPE_CHECKING:
    from wsssbench.types import Tags

QUICK = 1  # of zlib's levels: these files live for minutes


@dataclass(frozen=True)
class ProgramFolder:
    """The folder of one run of a program."""

    root: Path

    @property
    def places(self) -> dict[str, Path]:
        """Absolute paths by the names that a command line has for them; not all of them need to exist."""
        files = {"list": "list.txt", "classes": "classes.txt", "tags": "tags.csv"}
        names = {"images": "images", **files, "masks": "masks", "out": "out"}
        return {name: self.root.resolve() / file for name, file in names.items()}

    @property
    def log(self) -> Path:
        return self.root / "program.log"

    def stage(self, samples: Iterable[Sample], card: DatasetCard) -> None:
        """Write the tree again; what an earlier, unfinished run has left is removed."""
        shutil.rmtree(self.root, ignore_errors=True)
        places = self.places
        for name in ("images", "out"):
            places[name].mkdir(parents=True)
        tags: dict[str, Tags | None] = {}
        for sample in samples:
            path = places["images"] / f"{sample.id}.png"
            PilImage.fromarray(sample.image).save(path, compress_level=QUICK)
            if sample.mask is not None:
                write_labels(places["masks"] / f"{sample.id}.png", sample.mask)
            tags[sample.id] = sample.tags
        places["list"].write_text("".join(f"{id}\n" for id in tags))
        places["classes"].write_text("".join(f"{name}\n" for name in card.class_names))
        _write_tags(places["tags"], tags, card)

    def is_done(self, key: str) -> bool:
        """Whether a run of `key` ended here, and all of its files were in order."""
        try:
            return bool(json.loads((self.root / "done.json").read_text())["key"] == key)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def finish(self, key: str) -> None:
        """Mark the run of `key` as done and remove what was staged."""
        atomic_write_text(self.root / "done.json", json.dumps({"key": key}))
        for name in ("images", "masks"):
            shutil.rmtree(self.places[name], ignore_errors=True)


def _write_tags(path: Path, tags: dict[str, Tags | None], card: DatasetCard) -> None:
    """The tags of all images; no file where they are not given."""
    known = {id: each for id, each in tags.items() if each is not None}
    if not known:
        return
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", *card.class_names))
        table.writerows((id, *each.astype(int).tolist()) for id, each in known.items())
