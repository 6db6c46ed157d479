"""Files of other repositories as label maps: what `wsssbench score` does with dumps before it judges."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.dumps import Dump, find_dump, read_dump
from wsssbench.dumps.formats import SUFFIXES
from wsssbench.errors import BadData, WsssError
from wsssbench.judging.thresholds import IN_MAPS
from wsssbench.masks import argmax_labels, lacking_masks, threshold_labels, write_labels
from wsssbench.option_fields import Range
from wsssbench.options import check_range
from wsssbench.stages import sigma_scale
from wsssbench.types import Dataset, Stage

if TYPE_CHECKING:
    from wsssbench.types import Mask


FILTER = "lattice"  # of the stage's CRF


@dataclass(frozen=True)
class Reading:
    """How the files are to be read."""

    format: str = "auto"
    threshold: float | None = None  # of maps
    class_index: int | None = None  # of files with one bare map
    rescale: bool = False

    def __post_init__(self) -> None:
        """Raise WsssError for a threshold that no map can be compared with, or a class before the first."""
        check_range(self.threshold, IN_MAPS, "--threshold")
        check_range(self.class_index, Range(low=0), "--class-index")

    def of(self, path: Path, classes: int) -> Dump:
        """The file at `path`, of a data set of `classes` foreground classes."""
        return read_dump(path, classes, self.format, class_index=self.class_index, rescale=self.rescale)


@contextmanager
def as_label_maps(
    folder: Path, dataset: Dataset, ids: Sequence[str], stage: Stage, split: str, reading: Reading
) -> Iterator[tuple[Path, str]]:
    """A folder of <id>.png with the labels of `ids`, `folder` itself where it has them, else a passing one;
    and the filter backend of the stage's CRF where that made them, else "".

    BadData names a missing or damaged file and one of another format than the first; nothing stays behind.
    """
    files, classes = _files(folder, ids, split), len(dataset.card.class_names)
    first = reading.of(files[0], classes)
    _check_threshold(first, reading, files[0])
    if first.format == "index":
        yield folder, ""
        return
    with tempfile.TemporaryDirectory(prefix="wsssbench-") as place:
        for id, path in zip(ids, files, strict=True):
            dump = reading.of(path, classes)
            if dump.format != first.format:
                what = f"this file is {dump.format}, {files[0].name} is {first.format}"
                raise BadData(what, where=path, hint="keep files of one format in a folder")
            write_labels(Path(place) / f"{id}.png", _labels(dump, dataset, id, stage, reading.threshold))
        refined = stage.crf is not None and first.labels is None
        yield Path(place), FILTER if refined else ""


def _files(folder: Path, ids: Sequence[str], split: str) -> list[Path]:
    """The file of each image; BadData lists the images that have none."""
    if not folder.is_dir():
        raise BadData("no such folder of labels", where=folder, hint="one file per image, named by its id")
    if not ids:
        raise BadData("no images to judge", where=split, hint="check the split's list, or --limit")
    missing = [id for id in ids if not any((folder / f"{id}{suffix}").is_file() for suffix in SUFFIXES)]
    if missing:
        raise lacking_masks(folder, missing, len(ids), split)
    return [find_dump(folder, id) for id in ids]


def _check_threshold(first: Dump, reading: Reading, path: Path) -> None:
    if first.maps is not None and reading.threshold is None:
        raise WsssError(
            f"these are class maps ({first.format}): they become labels by a threshold",
            where=path,
            hint="give the one that the method uses, chosen without these masks: --threshold 0.3",
        )
    if first.maps is None and reading.threshold is not None:
        raise WsssError(f"a threshold is for maps; these are {first.format}", where=path, hint="leave it out")


def _labels(dump: Dump, dataset: Dataset, id: str, stage: Stage, threshold: float | None) -> Mask:
    """(H, W) labels of one image: those of the file, or of its maps or probabilities by the stage's rule."""
    if dump.labels is not None:
        return dump.labels
    tags = dataset.tags(id) if stage.tags_given else None
    image = dataset.image(id)
    if stage.crf is not None:
        from wsssbench.refine import DenseCrf, stage_labels  # late: it needs torch

        crf = DenseCrf(stage.crf, sigma_scale(dataset.card), FILTER)
        known = None if tags is None else tags[None]
        (labels,) = stage_labels([dump.outputs()], [image], crf, threshold=threshold, tags=known)
        return labels
    if dump.maps is not None and threshold is not None:
        return threshold_labels(dump.maps, threshold, image.shape[:2])
    assert dump.probs is not None
    return argmax_labels(dump.probs, image.shape[:2], tags)
