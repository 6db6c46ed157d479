"""Files of other repositories as label maps: what `wsssbench score` does with dumps before it judges."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.commands.label_coding import CODINGS, TRUTH, check_meaning, proposing_truth, truth_reader
from wsssbench.dumps import Dump, find_dump, read_dump
from wsssbench.dumps.formats import AUTO
from wsssbench.dumps.label_pictures import is_png_file
from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.files.digests import SUFFIXES
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.identity import Stage
from wsssbench.judging.tag_agreement import check_classes
from wsssbench.masks import (
    argmax_labels,
    lacking_masks,
    missing_masks,
    read_labels,
    tagged_maps,
    threshold_labels,
    write_labels,
)
from wsssbench.option_fields import Range
from wsssbench.planning.stages import sigma_scale
from wsssbench.planning.thresholds import IN_MAPS
from wsssbench.plugins.options import check_range
from wsssbench.types import Dataset

if TYPE_CHECKING:
    from wsssbench.types import Mask


FILTER = "lattice"  # of the stage's CRF


@dataclass(frozen=True)
class Reading:
    """How the files are to be read."""

    format: str = AUTO
    threshold: float | None = None  # of maps
    class_index: int | None = None  # of files with one bare map
    rescale: bool = False
    coding: str | None = None  # of label pictures (`label_coding`); None: nobody has said

    def __post_init__(self) -> None:
        """Raise WsssError for a threshold that no map can be compared with, a class before the first, or a
        coding that does not exist."""
        check_range(self.threshold, IN_MAPS, "--threshold")
        check_range(self.class_index, Range(low=0), "--class-index")
        if self.coding not in (None, *CODINGS):
            hint = nearest(str(self.coding), CODINGS)
            raise UnknownName(f"there is no coding {self.coding!r}", where="--coding", hint=hint)

    @property
    def asks_truth(self) -> bool:
        """Whether nobody has said how label pictures are coded."""
        return self.coding is None and self.format == AUTO

    def of(self, path: Path, dataset: Dataset, id: str, palettes: LabelPalettes | None = None) -> Dump:
        """The file at `path`, which is that of image `id`."""
        return read_dump(
            path,
            len(dataset.card.class_names),
            self.format,
            class_index=self.class_index,
            rescale=self.rescale,
            shape=None if is_png_file(path) else dataset.image(id).shape[:2],
            palettes=palettes,
        )


@dataclass(frozen=True)
class LabelFiles:
    """Label maps on disk, <id>.png in `folder`, and how one is read; `backend` is the filter of the stage's
    CRF where that made them, else ""."""

    folder: Path
    read: Callable[[Path], Mask]
    backend: str = ""

    def of(self, id: str) -> Mask:
        """(H, W) labels of an image, in {0..K, 255}."""
        return self.read(self.folder / f"{id}.png")


@contextmanager
def as_label_maps(
    folder: Path, dataset: Dataset, ids: Sequence[str], stage: Stage, split: str, reading: Reading
) -> Iterator[LabelFiles]:
    """The labels of `ids`: the files in `folder` where they are pictures of indices, else passing ones.

    BadData names a missing or damaged file and one of another format than the first; nothing stays behind.
    """
    files = _files(folder, ids, split)
    if reading.coding == TRUTH:
        yield LabelFiles(folder, _truth_files(folder, dataset, ids, split, reading))
        return
    palettes = LabelPalettes(len(dataset.card.class_names), dataset.card.palette)
    with proposing_truth(dataset, reading.coding):
        first = reading.of(files[0], dataset, ids[0], palettes)
    _check_threshold(first, reading, files[0])
    if first.format == "index":
        yield LabelFiles(folder, _index_reader(dataset, reading, palettes))
        return
    if first.maps is not None and stage.tags_given:
        path_of = dict(zip(ids, files, strict=True))
        check_classes(ids, lambda id: reading.of(path_of[id], dataset, id).maps, dataset.tags, folder)
    with tempfile.TemporaryDirectory(prefix="wsssbench-") as place:
        for id, path in zip(ids, files, strict=True):
            with proposing_truth(dataset, reading.coding):
                dump = reading.of(path, dataset, id)
            if dump.format != first.format:
                what = f"this file is {dump.format}, {files[0].name} is {first.format}"
                raise BadData(what, where=path, hint="keep files of one format in a folder")
            if dump.format == "colours" and reading.asks_truth:
                check_meaning(dataset, _labels(dump, dataset, id, stage, None), path)
            write_labels(Path(place) / f"{id}.png", _labels(dump, dataset, id, stage, reading.threshold))
        refined = stage.crf is not None and first.labels is None
        yield LabelFiles(Path(place), read_labels, FILTER if refined else "")


def _truth_files(
    folder: Path, dataset: Dataset, ids: Sequence[str], split: str, reading: Reading
) -> Callable[[Path], Mask]:
    """The reader of <id>.png as the data set's masks are read."""
    if reading.format != AUTO or reading.threshold is not None:
        hint = "leave --format and --threshold out"
        raise WsssError("files that are coded as masks have no other format", where="--coding", hint=hint)
    if missing := missing_masks(folder, ids):
        raise lacking_masks(folder, missing, len(ids), split)
    return truth_reader(dataset)


def _index_reader(dataset: Dataset, reading: Reading, palettes: LabelPalettes) -> Callable[[Path], Mask]:
    """The reader of pictures of class numbers; a format that is named settles what palettes say."""
    if reading.format != AUTO:
        return read_labels
    if not reading.asks_truth or dataset.coded != "colours":
        return partial(read_labels, palettes=palettes)
    return lambda path: check_meaning(dataset, read_labels(path, palettes), path)


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
        from wsssbench.judging.labels import DenseCrf, stage_labels  # late: it needs torch

        crf = DenseCrf(stage.crf, sigma_scale(dataset.card), FILTER)
        known = None if tags is None else tags[None]
        (labels,) = stage_labels([dump.outputs()], [image], crf, threshold=threshold, tags=known)
        return labels
    if dump.maps is not None and threshold is not None:
        return threshold_labels(tagged_maps(dump.maps, tags), threshold, image.shape[:2])
    assert dump.probs is not None
    return argmax_labels(dump.probs, image.shape[:2], tags)
