"""Which finished cells stand behind each row: tables of equal terms, with the folders their numbers lie in.

What is a row is decided in `wsssbench.reporting.rows`; how a page or a figure shows it must not enter here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from wsssbench.identity import Record, Terms
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.rows import Row, rows_of
from wsssbench.reporting.table_parts import heading
from wsssbench.scores.counts_table import COUNTS, CountsTable


@dataclass(frozen=True)
class Line:
    """One row and its finished cells, ordered by seed."""

    row: Row
    cells: tuple[StoredRecord, ...]

    @property
    def title(self) -> str:
        return self.row.title

    @property
    def records(self) -> list[Record]:
        return [cell.record for cell in self.cells]

    def scores(self, metric: str) -> list[Mapping[str, Any]]:
        """What the metric said, by seed, of the cells that have it."""
        return [record.scores[metric] for record in self.records if record.scores.get(metric)]

    def lists(self, metric: str, name: str, grid: str = "") -> np.ndarray[Any, np.dtype[np.float64]]:
        """(seeds, n) one list of numbers of each record; None becomes NaN; (0, 0) without any.

        Records whose list has another length than the first, or that say another `grid`, are left out.
        """
        found = [scores for scores in self.scores(metric) if scores.get(name)]
        same = [s[name] for s in found if len(s[name]) == len(found[0][name])
                and s.get(grid) == found[0].get(grid)]  # fmt: skip
        return np.array(same, np.float64) if same else np.zeros((0, 0))


@dataclass(frozen=True)
class Section:
    """The lines of one table, and what distinguishes it from the others."""

    heading: str
    lines: tuple[Line, ...]

    @property
    def rows(self) -> list[Row]:
        return [line.row for line in self.lines]

    @property
    def finished(self) -> list[Line]:
        return [line for line in self.lines if not line.row.failed]

    @property
    def records(self) -> list[Record]:
        return [record for line in self.lines for record in line.records]

    @property
    def terms(self) -> Terms:
        return self.lines[0].row.terms

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the C classes, background first."""
        return ("background", *self.terms.classes)

    def pictured(self, most: int) -> list[tuple[str, StoredRecord, CountsTable]]:
        """Title, cell and counts of the first `most` rows that have masks and counts on disk, of the one seed
        that most rows have masks of (the lowest of several). BadData where counts are damaged."""
        found: dict[int, dict[str, StoredRecord]] = {}
        for line in self.lines:
            for cell in (cell for cell in line.cells if masks_of(cell).is_dir() and _has_counts(cell)):
                found.setdefault(cell.record.identity.seed, {}).setdefault(line.title, cell)
        seed = max(sorted(found), key=lambda seed: len(found[seed]), default=-1)
        shown = list(found.get(seed, {}).items())[:most]
        return [(title, cell, CountsTable.load(cell.path.parent / COUNTS)) for title, cell in shown]


def masks_of(cell: StoredRecord) -> Path:
    """The cell's folder of label maps, which may not be there."""
    return cell.path.parent / "masks"


def sections_of(
    cells: Iterable[StoredRecord],
    *,
    limited: bool = False,
    stale: Collection[str] = (),
    methods: Sequence[str] = (),
    stages: Sequence[str] = (),
) -> list[Section]:
    """A section per table of `rows_of`, in the same order; `methods` and `stages`, where given, are the only
    ones that are kept, methods in the order given. Rows keep the rank that they have among all."""
    cells = list(cells)
    rows = rows_of([cell.record for cell in cells], limited=limited, stale=stale)
    behind = _finished(cells)
    tables = [list(group) for _, group in groupby(rows, key=lambda row: row.terms_hash)]
    kept = [_kept(table, methods) for table in tables if not stages or table[0].terms.stage in stages]
    kept = [table for table in kept if table]
    terms = [table[0].terms for table in kept]
    return [
        Section(
            heading(own, [other for other in terms if other is not own]),
            tuple(Line(row, tuple(behind[key] for key in row.keys)) for row in table),
        )
        for own, table in zip(terms, kept, strict=True)
    ]


def _kept(table: list[Row], methods: Sequence[str]) -> list[Row]:
    if not methods:
        return table
    return sorted((row for row in table if row.method in methods), key=lambda row: methods.index(row.method))


def _finished(cells: Iterable[StoredRecord]) -> dict[str, StoredRecord]:
    """Finished cells by key; of equal keys (a copied folder) the first that has its counts."""
    found: dict[str, StoredRecord] = {}
    for cell in cells:
        better = cell.record.key not in found or not _has_counts(found[cell.record.key])
        if cell.record.status == "ok" and better:
            found[cell.record.key] = cell
    return found


def _has_counts(cell: StoredRecord) -> bool:
    return (cell.path.parent / COUNTS).is_file()
