"""Which finished cells stand behind each row: tables of equal terms, with the folders their numbers lie in.

What is a row is decided in `wsssbench.reporting.rows`; how a page shows it must not enter here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from wsssbench.identity import Terms
from wsssbench.records.store import StoredRecord
from wsssbench.reporting.rows import Row, rows_of
from wsssbench.reporting.table_parts import heading
from wsssbench.scores.counts_table import COUNTS, CountsTable

MASKS = "masks"


@dataclass(frozen=True)
class Line:
    """One row and its finished cells, ordered by seed."""

    row: Row
    cells: tuple[StoredRecord, ...]

    @property
    def title(self) -> str:
        return self.row.title

    def cell(self, seed: int) -> StoredRecord | None:
        """The cell of `seed`, if it was finished."""
        return next((c for c in self.cells if c.record.identity.seed == seed), None)

    def scores(self, metric: str) -> list[Mapping[str, Any]]:
        """What the metric said, by seed, of the cells that have it."""
        return [c.record.scores[metric] for c in self.cells if c.record.scores.get(metric)]


@dataclass(frozen=True)
class Section:
    """The lines of one table."""

    anchor: str
    heading: str
    lines: tuple[Line, ...]

    @property
    def rows(self) -> list[Row]:
        return [line.row for line in self.lines]

    @property
    def terms(self) -> Terms:
        return self.lines[0].row.terms

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the C classes, background first."""
        return ("background", *self.terms.classes)

    @property
    def seed(self) -> int | None:
        """The seed that most lines have finished, the lowest of several: that of pictures and curves."""
        found = Counter(c.record.identity.seed for line in self.lines for c in line.cells)
        return min(found, key=lambda seed: (-found[seed], seed), default=None)


def sections_of(
    cells: Iterable[StoredRecord], *, limited: bool = False, stale: Collection[str] = ()
) -> list[Section]:
    """A section per table of `wsssbench.reporting`, in the same order."""
    cells = list(cells)
    rows = rows_of([cell.record for cell in cells], limited=limited, stale=stale)
    behind = _finished(cells)
    tables = [tuple(group) for _, group in groupby(rows, key=lambda row: row.terms_hash)]
    terms = [table[0].terms for table in tables]
    return [
        Section(
            anchor=f"table-{n + 1}",
            heading=heading(terms[n], [*terms[:n], *terms[n + 1 :]]),
            lines=tuple(Line(row, tuple(behind[key] for key in row.keys)) for row in table),
        )
        for n, table in enumerate(tables)
    ]


def counts_of(cell: StoredRecord) -> CountsTable | None:
    """The confusion of each image of the cell; None where its counts are not there. BadData if damaged."""
    path = cell.path.parent / COUNTS
    return CountsTable.load(path) if path.is_file() else None


def masks_of(cell: StoredRecord) -> Path | None:
    """The cell's folder of label maps, where it has one."""
    folder = cell.path.parent / MASKS
    return folder if folder.is_dir() else None


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
