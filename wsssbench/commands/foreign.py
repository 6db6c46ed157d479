"""Files of other repositories as a step's outputs: what `wsssbench score` reads before it judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from wsssbench.artifacts import ArtifactFolder
from wsssbench.commands.label_coding import CODINGS, TRUTH, check_meaning, proposing_truth, truth_reader
from wsssbench.dumps import Dump, find_dump, read_dump
from wsssbench.dumps.formats import AUTO
from wsssbench.dumps.label_pictures import is_png_file
from wsssbench.errors import BadData, UnknownName, WsssError, nearest
from wsssbench.files.digests import SUFFIXES
from wsssbench.files.file_hashes import labels_sha256, sha256_of
from wsssbench.files.label_palette import LabelPalettes
from wsssbench.identity import Stage, content_key, plain
from wsssbench.judging.cell_judging import cell_labels
from wsssbench.judging.tag_agreement import check_tagged
from wsssbench.masks import lacking_masks, missing_masks, write_labels
from wsssbench.option_fields import Range
from wsssbench.planning.cells import Cell
from wsssbench.planning.thresholds import IN_MAPS
from wsssbench.plugins.options import check_range
from wsssbench.types import Dataset, Kind, Outputs

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
        """WsssError for a value out of range, a coding that does not exist, and what it excludes."""
        check_range(self.threshold, IN_MAPS, "--threshold")
        check_range(self.class_index, Range(low=0), "--class-index")
        if self.coding not in (None, *CODINGS):
            hint = nearest(str(self.coding), CODINGS)
            raise UnknownName(f"unknown coding {self.coding!r}", where="--coding", hint=hint)
        if self.coding == TRUTH and (self.format != AUTO or self.threshold is not None):
            hint = "leave --format and --threshold out"
            raise WsssError("files that are coded as masks have no other format", where="--coding", hint=hint)


class ForeignFiles(ArtifactFolder):
    """The files in `folder`, one for each of `ids`, as the outputs of the step that nobody knows.

    BadData names missing files at once, and a damaged one or one of another format when it is read.
    WsssError where maps come without a threshold, or a threshold without maps.
    """

    def __init__(
        self, folder: Path, dataset: Dataset, ids: Sequence[str], split: str, reading: Reading
    ) -> None:
        super().__init__(folder, ids)
        self.dataset, self.reading = dataset, reading
        self.palettes = LabelPalettes(len(dataset.card.class_names), dataset.card.palette)
        self.truth = truth_reader(dataset) if reading.coding == TRUTH else None
        self._check_there(split)
        maps = self.first.maps is not None
        if maps and reading.threshold is None:
            what = f"these are class maps ({self.first.format}): they become labels by a threshold"
            hint = "give the one that the method uses, chosen without these masks: --threshold 0.3"
            raise WsssError(what, where=self.file(ids[0]), hint=hint)
        if not maps and reading.threshold is not None:
            what = f"a threshold is for maps; these are {self.first.format}"
            raise WsssError(what, where=self.file(ids[0]), hint="leave it out")

    def _check_there(self, split: str) -> None:
        """BadData lists the images that have no file."""
        if not self.folder.is_dir():
            hint = "one file per image, named by its id"
            raise BadData("no such folder of labels", where=self.folder, hint=hint)
        if not self.ids:
            raise BadData("no images to judge", where=split, hint="check the split's list, or --limit")
        missing = [id for id in self.ids if not any((self.folder / f"{id}{s}").is_file() for s in SUFFIXES)]
        if self.truth is not None:
            missing = missing_masks(self.folder, self.ids)
        if missing:
            raise lacking_masks(self.folder, missing, len(self.ids), split)

    def file(self, id: str) -> Path:
        """The file of an image; BadData where there are two."""
        return self.folder / f"{id}.png" if self.truth else find_dump(self.folder, id)

    @cached_property
    def first(self) -> Dump:
        """What the first file says."""
        return self._dump(self.ids[0])

    def filter_of(self, stage: Stage) -> str:
        """The filter of the stage's CRF, which leaves labels alone; "" where none runs."""
        return FILTER if stage.crf is not None and self.first.labels is None else ""

    def read(self, id: str, kinds: Iterable[Kind]) -> Outputs:
        """All that the file of an image says, whatever `kinds` are asked for."""
        dump = self.first if id == self.ids[0] else self._dump(id)
        if dump.format != self.first.format:
            what = f"this file is {dump.format}, {self.file(self.ids[0]).name} is {self.first.format}"
            raise BadData(what, where=self.file(id), hint="keep files of one format in a folder")
        return dump.outputs()

    def _dump(self, id: str) -> Dump:
        path, reading = self.file(id), self.reading
        if self.truth is not None:
            return Dump("truth", labels=self.truth(path))
        with proposing_truth(self.dataset, reading.coding):
            dump = read_dump(
                path,
                len(self.dataset.card.class_names),
                reading.format,
                class_index=reading.class_index,
                rescale=reading.rescale,
                shape=None if is_png_file(path) else self.dataset.image(id).shape[:2],
                palettes=self.palettes,
            )
        if dump.labels is not None and reading.coding is None and reading.format == AUTO:
            check_meaning(self.dataset, dump.labels, path)
        return dump

    def write_labels(self, cell: Cell, folder: Path) -> str:
        """Write the labels of the cell's images as palette PNGs into `folder`; `labels_sha256` of them."""
        if cell.stage.tags_given and self.first.maps is not None:
            check_tagged(self, self.dataset, ["maps"])
        threshold, backend = self.reading.threshold, self.filter_of(cell.stage)

        def written(id: str) -> Mask:
            found = self.read(id, ())
            labels = found.labels
            if labels is None:
                (labels,) = cell_labels(cell, [found], [id], threshold, backend=backend)
            write_labels(folder / f"{id}.png", labels)
            return labels

        return labels_sha256(self.ids, written)

    def key(self) -> str:
        """sha256 (hex) of the files, and of how they are read."""
        return content_key([plain(self.reading), sha256_of([self.file(id) for id in self.ids])])
