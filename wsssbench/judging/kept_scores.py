"""Scores that stay when a cell is judged again without the metrics that gave them: such a metric may come
from a file that is not at hand. They stay where what they were counted from is the same, and are dropped,
with a message, where it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsssbench.errors import BadData, WsssError
from wsssbench.files.file_hashes import SUMS, compare_sums, file_sha256, labels_sha256, read_sums
from wsssbench.masks import read_labels
from wsssbench.planning.made_by import metric_key
from wsssbench.records.store import read_record
from wsssbench.scores.counts_table import COUNTS, CountsTable
from wsssbench.scores.image_counts import ImageArrays

if TYPE_CHECKING:
    from wsssbench.identity import Record
    from wsssbench.planning.cells import Cell

MASKS = "masks"


@dataclass(frozen=True)
class Kept:
    """What stays of the record before: scores by metric, and what these metrics had counted of `ids`."""

    scores: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()  # metrics whose scores do not stay
    ids: tuple[str, ...] = ()
    more: Mapping[str, Mapping[str, ImageArrays]] = field(default_factory=dict)
    judged_by: Mapping[str, str] = field(default_factory=dict)  # hashes of the code of these metrics, as then

    def joined(self, counts: CountsTable) -> CountsTable:
        """`counts`, with what the metrics that stay had counted."""
        return replace(counts, more={**self.more, **counts.more}) if self.ids == counts.ids else counts

    def lines(self) -> Iterator[str]:
        """What is said of it, a line each."""
        if self.scores:
            yield f"the scores of {', '.join(self.scores)} stay as they were: the labels are the same"
        if self.dropped:
            names = ", ".join(self.dropped)
            yield f"the scores of {names} are dropped: they were of other labels; --metrics judges these"


def kept_scores(folder: Path, judged: Collection[str], is_alike: Callable[[str, Record], bool]) -> Kept:
    """What stays of the result in `folder` beside the metrics that have `judged` now.

    `is_alike(metric, record)` says whether the metric would count now what it has counted for that record.
    """
    try:
        record = read_record(folder)
    except BadData:  # none, or a damaged one, which is set aside
        return Kept()
    alike = {name: is_alike(name, record) for name in record.scores if name not in judged}
    scores = {name: record.scores[name] for name, same in alike.items() if same}
    then = record.provenance.get("judged_by", {})
    code = {key: then[key] for key in map(metric_key, scores) if key in then}
    dropped = tuple(name for name, same in alike.items() if not same)
    return _counted(folder, record, Kept(scores, dropped, judged_by=code))


def _counted(folder: Path, record: Record, kept: Kept) -> Kept:
    """`kept`, with the counts of the record where they are still there."""
    if not kept.scores:
        return kept
    try:
        if file_sha256(folder / COUNTS) != _hashes(record).get(COUNTS):
            return kept
        table = CountsTable.load(folder / COUNTS)
    except BadData:
        return kept
    more = {name: arrays for name, arrays in table.more.items() if name in kept.scores}
    return replace(kept, ids=table.ids, more=more)


def is_judged_alike(cell: Cell, record: Record, new: Path) -> bool:
    """Whether the labels in `new`/masks, and the cell's artifacts, are those that `record` was judged by.

    Artifacts that are gone count as others only where the cell's steps were made again.
    """
    folder = cell.folder
    try:
        if file_sha256(folder / SUMS) != _hashes(record).get(SUMS):
            return False
        files = {name: digest for name, digest in read_sums(folder / SUMS).items() if name != COUNTS}
        others, gone = compare_sums(folder, files)
        if others or (gone and cell.rerun):
            return False
        before, now = (
            labels_sha256(cell.ids, lambda id, place=place: read_labels(place / MASKS / f"{id}.png"))  # type: ignore[misc]
            for place in (folder, new)
        )
    except WsssError:  # a file is not there any more, or cannot be read
        return False
    return before == now


def _hashes(record: Record) -> Mapping[str, str]:
    found: Mapping[str, str] = record.provenance.get("hashes") or {}
    return found
