"""The confusion of every image of a split as one sparse table, saved and read."""

from __future__ import annotations

import io
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wsssbench.dumps.array_files import read_npz
from wsssbench.errors import BadData
from wsssbench.files.atomic import atomic_write_bytes
from wsssbench.metrics import add_counts
from wsssbench.scores.image_counts import ImageArrays, concatenated, from_members, to_members
from wsssbench.types import IGNORE, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray


COUNTS = "counts.npz"


AGAIN = "remove the record.json beside it: the next `wsssbench run` judges the cell again"


COLUMNS = ("image", "gold", "predicted", "pixels")


MOST_COUNTED = 2**53  # pixels of one triple


class ImagePixels(NamedTuple):
    """(n, C) int64 pixels with truth of each image and class, background first."""

    hit: NDArray[np.int64]  # TP
    truth: NDArray[np.int64]  # TP + FN, abstained pixels among them
    said: NDArray[np.int64]  # TP + FP


@dataclass(frozen=True)
class CountsTable:
    """The sparse confusions of many images, one line per triple, ordered by image; and in `more` what other
    metrics have counted in them, by metric and array."""

    ids: tuple[str, ...]
    image: NDArray[np.int32]  # (n,) index into `ids`
    gold: NDArray[np.int64]  # (n,) 0..K or 255
    predicted: NDArray[np.int64]  # (n,) 0..K or 255
    pixels: NDArray[np.int64]  # (n,)
    more: Mapping[str, Mapping[str, ImageArrays]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        counts: Iterable[Counts],
        more: Mapping[str, Mapping[str, ImageArrays]] | None = None,
    ) -> CountsTable:
        """The table of one triples mapping per id, each let go before the next is asked for."""
        lengths = array("q")
        columns = {"gold": array("B"), "predicted": array("B"), "pixels": array("q")}
        for one in counts:  # into bytes: three small arrays per image would take four times as much
            lengths.append(len(one["pixels"]))
            for name, column in columns.items():
                column.frombytes(one[name].astype(column.typecode).tobytes())
        image = np.repeat(np.arange(len(ids), dtype=np.int32), np.asarray(lengths))
        gold, predicted, pixels = (np.array(columns[name], np.int64) for name in COLUMNS[1:])
        return cls(tuple(ids), image, gold, predicted, pixels, more or {})

    @classmethod
    def concatenate(cls, tables: Sequence[CountsTable], ids: Sequence[str] | None = None) -> CountsTable:
        """One table of shards that have been counted apart, in the order of `ids` (default: as they come).

        With the ids of the split the table is, array by array, the one that a single pass counts, and so are
        all scores. What not every shard has counted for another metric is left out. BadData where a shard
        is missing, comes twice or is of another split.
        """
        found = [id for table in tables for id in table.ids]
        place = {id: n for n, id in enumerate(found if ids is None else ids)}
        _check_shards(found, place)
        places = [np.array([place[id] for id in table.ids], np.int32) for table in tables]
        image = np.concatenate([at[table.image] for at, table in zip(places, tables, strict=True)])
        order = np.argsort(image, kind="stable")
        gold, predicted, pixels = (
            np.concatenate([getattr(table, name) for table in tables])[order] for name in COLUMNS[1:]
        )
        more = concatenated([table.more for table in tables], places)
        return cls(tuple(place), image[order], gold, predicted, pixels, more)

    def total(self) -> Counts:
        """Summed triples of all images."""
        return add_counts([{"gold": self.gold, "predicted": self.predicted, "pixels": self.pixels}])

    def by_image(self, classes: int) -> ImagePixels:
        """The pixels of each image and of the `classes` + 1 classes; those without truth are left out."""

        def summed(labels: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.int64]:
            dense = np.zeros((len(self.ids), classes + 1), np.int64)
            np.add.at(dense, (self.image[kept], labels[kept]), self.pixels[kept])
            return dense

        known = self.gold != IGNORE
        return ImagePixels(
            hit=summed(self.gold, known & (self.gold == self.predicted)),
            truth=summed(self.gold, known),
            said=summed(self.predicted, known & (self.predicted != IGNORE)),
        )

    def save(self, path: Path | str) -> None:
        """Write a compressed npz (no pickles), whole or not at all."""
        buffer = io.BytesIO()
        gold, predicted = self.gold.astype(np.uint8), self.predicted.astype(np.uint8)
        ids = np.array(self.ids, dtype=np.str_)
        own = {"ids": ids, "image": self.image, "gold": gold, "predicted": predicted, "pixels": self.pixels}
        np.savez_compressed(buffer, **own, **to_members(self.more))  # type: ignore[arg-type]
        atomic_write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> CountsTable:
        """Read what `save` wrote; BadData names a missing, truncated or foreign file."""
        if not Path(path).exists():
            raise BadData("the file of counts does not exist", where=path, hint=AGAIN)
        try:
            file = read_npz(path)
            ids = tuple(str(id) for id in file["ids"])
            image, gold, predicted, pixels = (_column(file[name]) for name in COLUMNS)
            more = from_members({name: array for name, array in file.items() if "/" in name}, len(ids))
        except (BadData, ValueError, LookupError, TypeError) as error:
            why = error.what if isinstance(error, BadData) else error
            raise BadData(f"counts cannot be read ({why})", where=path, hint=AGAIN) from error
        columns = (image, gold, predicted, pixels)
        most = (len(ids) - 1, IGNORE, IGNORE, MOST_COUNTED)
        if len({len(column) for column in columns}) > 1 or any(
            len(column) and not 0 <= column.min() <= column.max() <= limit
            for column, limit in zip(columns, most, strict=True)
        ):
            raise BadData("the columns of the counts do not fit each other", where=path, hint=AGAIN)
        return cls(ids, image.astype(np.int32), gold, predicted, pixels, more)


def _check_shards(found: Sequence[str], wanted: Mapping[str, int]) -> None:
    """Whether the images of all shards are the wanted ones, each once."""
    missing = sorted(set(wanted).difference(found))
    twice = [id for id, times in Counter(found).items() if times > 1]
    strange = [id for id in found if id not in wanted]
    for what, ids in (("in no shard", missing), ("in two shards", twice), ("of another split", strange)):
        if ids:
            what = f"{len(ids)} images are {what}, the first is {ids[0]}"
            raise BadData(what, where="counts", hint="give each shard of one split exactly once")
    if not found:
        raise BadData("there are no counts to combine", where="counts", hint="give the shards of one split")


def _column(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"a column of shape {values.shape} and type {values.dtype}")
    return values.astype(np.int64)
